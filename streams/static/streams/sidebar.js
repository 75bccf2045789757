/** The list of the reader's conversations, newest first: open, search, rename, delete. */

import * as api from "./api.js";
import { announce, el, iconButton, isComposing } from "./dom.js";

const DAY = 24 * 3600 * 1000; // milliseconds
const TYPED = 250; // ms after the last key before the service is searched

export class Sidebar {
  #list;
  #search;
  #conversations = [];
  #next = null;
  #current = null;
  #loading = null;
  #renaming = false; // the reader is entering a new name in the list
  #isStale = false; // the list has changed since it was last requested
  #acts;
  #news = window.BroadcastChannel ? new BroadcastChannel("unspool-conversations") : null;

  /** `acts`: open(id), renamed(id, title), removed(id). */
  constructor(nav, acts) {
    this.#acts = acts;
    this.#list = nav.querySelector("#conversations");
    this.#search = nav.querySelector("#search");
    let typed;
    this.#search.addEventListener("input", () => {
      this.#draw();
      clearTimeout(typed);
      typed = setTimeout(() => this.#searchAll(this.#search.value.trim()), TYPED);
    });
    nav.querySelector("#more").addEventListener("click", () => this.#loadMore());
    if (this.#news) this.#news.onmessage = () => this.load();
    document.addEventListener("visibilitychange", () => !document.hidden && this.load());
  }

  /** Fetch the newest conversations again; the old list stays until they arrive. */
  load() {
    this.#isStale = true;
    this.#loading ??= this.#fetch().finally(() => (this.#loading = null));
    return this.#loading;
  }

  /** Fetch the list. One that changes meanwhile is fetched again, because the response may lack the change. */
  async #fetch() {
    while (this.#isStale) {
      this.#isStale = false;
      const page = await api.conversations().catch(() => null);
      if (page === null) return; // the open conversation works without the list
      if (this.#isStale) continue;
      this.#conversations = page.items;
      this.#next = page.next;
      this.#draw();
    }
  }

  async #loadMore() {
    if (!this.#next) return;
    const page = await api.conversations(this.#next).catch(() => null);
    if (page === null) return;
    this.#next = page.next;
    this.#add(page.items);
  }

  async #searchAll(query) {
    if (query === "" || !this.#next) return; // the list is complete
    const page = await api.conversationsWith(query).catch(() => null);
    if (page !== null) this.#add(page.items);
  }

  #add(conversations) {
    const listed = new Set(this.#conversations.map(({ id }) => id));
    this.#conversations.push(...conversations.filter(({ id }) => !listed.has(id)));
    this.#conversations.sort((one, other) => (one.created_at < other.created_at ? 1 : -1));
    this.#draw();
  }

  turnTo(id) {
    this.#current = id;
    for (const link of this.#list.querySelectorAll("a")) mark(link, link.dataset.id === id);
  }

  /** Add a conversation or update its title. With `tell`, the other tabs of this browser reload. */
  know(id, title, { tell = false } = {}) {
    const listed = this.#conversations.find((conversation) => conversation.id === id);
    if (listed?.title === title) return;
    this.#isStale = true;
    if (listed) listed.title = title;
    else this.#conversations.unshift({ id, title, created_at: new Date().toISOString() });
    this.#draw();
    if (tell) this.#news?.postMessage("changed");
  }

  #draw() {
    if (this.#renaming) return; // it is drawn when the new name is entered
    const wanted = this.#search.value.trim().toLowerCase();
    const found = this.#conversations.filter(({ title }) => (title ?? "").toLowerCase().includes(wanted));
    const focused = this.#list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    let group = null;
    const rows = found.flatMap((conversation) => {
      const day = dayOf(conversation.created_at);
      const heading = day === group ? [] : [el("li", { class: "day" }, day)];
      group = day;
      return [...heading, this.#row(conversation)];
    });
    if (rows.length === 0) {
      const text = wanted ? "No conversation with this name." : "Your conversations will appear here.";
      rows.push(el("li", { class: "none" }, text));
    }
    this.#list.replaceChildren(...rows);
    document.getElementById("more").hidden = !this.#next || wanted !== "";
    if (focused) this.#list.querySelector(`[data-key="${focused}"]`)?.focus();
  }

  #row({ id, title }) {
    const name = title || "Untitled";
    const link = el("a", { href: `/c/${id}`, "data-id": id, "data-key": `open-${id}`, dir: "auto", title: name, on: {
      click: (event) => {
        if (event.metaKey || event.ctrlKey || event.shiftKey) return;
        event.preventDefault();
        this.#acts.open(id);
      },
    } }, name);
    mark(link, id === this.#current);
    const row = el("li", { class: "conversation" }, link);
    const rename = () => this.#rename(row, { id, title: name });
    link.addEventListener("keydown", (event) => {
      if (event.key === "F2") rename();
      if (event.key === "Delete") this.#remove({ id, title: name });
    });
    row.append(el("span", { class: "row-actions" },
      iconButton("edit", `Rename ${name}`, rename, { "data-key": `rename-${id}` }),
      iconButton("trash", `Delete ${name}`, () => this.#remove({ id, title: name }), { "data-key": `delete-${id}` })));
    return row;
  }

  #rename(row, { id, title }) {
    const field = el("input", { class: "rename", dir: "auto", "aria-label": "New name", maxlength: "200" });
    field.value = title;
    let isOver = false;
    const end = async (keep) => {
      if (isOver) return;
      isOver = true;
      this.#renaming = false;
      const wanted = field.value.trim();
      if (keep && wanted && wanted !== title) {
        await api.rename(id, wanted).then(() => {
          this.know(id, wanted, { tell: true });
          this.#acts.renamed(id, wanted);
          announce("Renamed.");
        }).catch((refusal) => announce(refusal.message));
      }
      if (this.#renaming) return; // another name, meanwhile
      this.#draw();
      this.#list.querySelector(`[data-key="open-${id}"]`)?.focus();
    };
    field.addEventListener("keydown", (event) => {
      if (isComposing(event)) return; // Enter and Escape belong to the input method here
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") end(false);
    });
    field.addEventListener("blur", () => end(true));
    this.#renaming = true;
    row.replaceChildren(field);
    field.select();
  }

  async #remove({ id, title }) {
    if (!(await confirmed(title))) return;
    try {
      await api.remove(id);
    } catch (refusal) {
      if (refusal.status !== 404) return announce(refusal.message);
    }
    this.#isStale = true;
    this.#conversations = this.#conversations.filter((conversation) => conversation.id !== id);
    this.#draw();
    this.#news?.postMessage("changed");
    announce("Deleted.");
    this.#acts.removed(id);
  }
}

function mark(link, current) {
  if (current) link.setAttribute("aria-current", "page");
  else link.removeAttribute("aria-current");
}

function confirmed(title) {
  const dialog = document.getElementById("confirm-delete");
  dialog.querySelector("#delete-title").textContent = title;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "delete"), { once: true }));
}

function dayOf(time) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  const at = Date.parse(time);
  if (!(at < midnight)) return "Today";
  if (at >= midnight - DAY) return "Yesterday";
  return at >= midnight - 7 * DAY ? "Last seven days" : "Earlier";
}
