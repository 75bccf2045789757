/** The message form: it grows with its text, keeps a draft, and sends on Enter. */

import { announce, el, isComposing } from "./dom.js";

const DRAFTS = "unspool:draft:";
const MODEL = "unspool:model";

export class Composer {
  #form;
  #field;
  #conversation = null;
  #live = [];
  #sending = false;
  #next = null; // the text with which Enter was pressed while an earlier message was being sent
  #ask;
  #stop;

  /** `ask({message, system, model})` resolves once the service has accepted; `stop()` cancels the runs. */
  constructor(form, { ask, stop }) {
    this.#form = form;
    this.#field = form.elements.message;
    this.#ask = ask;
    this.#stop = stop;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.#field.addEventListener("input", () => {
      this.#refuse(null);
      this.#changed();
    });
    this.#field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || isComposing(event)) return;
      event.preventDefault();
      this.send();
    });
    form.querySelector("#stop").addEventListener("click", () => this.#stop());
    form.elements.model.addEventListener("change", () => keep(MODEL, form.elements.model.value));
  }

  /** Show the draft of a conversation, by its id; null is a new conversation. */
  turnTo(conversation) {
    this.#conversation = conversation;
    this.#field.value = kept(DRAFTS + (conversation ?? "new")) ?? "";
    this.#form.classList.toggle("beginning", conversation === null);
    this.#form.querySelector(".composer-system").open = false;
    this.#sending = false;
    this.#refuse(null);
    this.#changed();
  }

  /** Keep what was typed since the first message was sent, for the conversation that it began. */
  carry(conversation) {
    keep(DRAFTS + conversation, this.#field.value || null);
    keep(`${DRAFTS}new`, null);
  }

  /** Offer models and agents, each `{id, kind}`; they are in groups if there are agents. */
  offer(items, chosen) {
    const select = this.#form.elements.model;
    const agents = items.filter(({ kind }) => kind === "agent").map(({ id }) => new Option(id, id));
    const models = items.filter(({ kind }) => kind !== "agent").map(({ id }) => new Option(id, id));
    const group = (label, options) => el("optgroup", { label }, ...options);
    select.replaceChildren(...(agents.length === 0 ? models : [group("Models", models), group("Agents", agents)]));
    const wanted = [kept(MODEL), chosen].find((model) => items.some(({ id }) => id === model));
    if (wanted) select.value = wanted;
    select.hidden = items.length < 1;
  }

  /** `live`: the runs that have not ended. While there are any, Stop is shown and Enter queues. */
  showLive(live, model) {
    this.#live = live;
    this.#form.querySelector("#stop").hidden = live.length === 0;
    this.#form.querySelector("#model-name").textContent = model ?? "";
    this.#form.querySelector("#composer-hint").textContent =
      live.length === 0 ? "" : "A reply is being written. Your message will be answered after it.";
    this.#changed(false);
  }

  fill(text) {
    this.#field.value = text;
    this.#changed();
    this.#field.focus();
  }

  focus() {
    // On a phone, the keyboard would cover the conversation.
    if (matchMedia("(hover: hover)").matches) this.#field.focus({ preventScroll: true });
  }

  async send() {
    const message = this.#field.value;
    if (message.trim() === "") return;
    if (this.#sending) return void (this.#next = message);
    const conversation = this.#conversation;
    this.#sending = true;
    this.#refuse(null);
    this.#field.value = "";
    this.#changed(false);
    const { system, model } = this.#form.elements;
    try {
      await this.#ask({
        message,
        busy: this.#live.length > 0,
        ...(system.value.trim() && conversation === null ? { system: system.value } : {}),
        ...(model.value && conversation === null ? { model: model.value } : {}),
      });
      const draft = DRAFTS + (conversation ?? "new");
      if (kept(draft) === message) keep(draft, null); // otherwise it is text typed since
      system.value = "";
    } catch (refusal) {
      this.#next = null;
      if (this.#conversation === conversation && this.#field.value === "") this.#field.value = message;
      keep(DRAFTS + (conversation ?? "new"), message);
      this.#refuse(refusal.message);
    } finally {
      this.#sending = false;
      this.#changed(false);
    }
    const isNext = this.#next !== null && this.#next === this.#field.value;
    this.#next = null;
    if (isNext) this.send();
  }

  #refuse(sentence) {
    const place = this.#form.querySelector("#refusal");
    place.hidden = sentence === null;
    place.textContent = sentence ?? "";
    if (sentence) announce(sentence);
  }

  #changed(store = true) {
    const empty = this.#field.value.trim() === "";
    const send = this.#form.querySelector("#send");
    send.disabled = empty || this.#sending;
    send.hidden = empty && this.#live.length > 0;
    if (store) keep(DRAFTS + (this.#conversation ?? "new"), this.#field.value || null);
    if (CSS.supports("field-sizing", "content")) return;
    this.#field.style.height = "auto";
    this.#field.style.height = `${this.#field.scrollHeight}px`;
  }
}

// Storage may be full or blocked; the draft then exists on the page only.
function keep(key, value) {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch {
    return;
  }
}

function kept(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}
