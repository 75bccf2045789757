/**
 * The conversation page: connects the address, the stream, the fold and the page's parts.
 *
 * All changes take one path: an event is folded into `state`, and the page shows `state`.
 */

import * as api from "./api.js";
import { Composer } from "./composer.js";
import { Connection } from "./connection.js";
import { announce, beginning, el } from "./dom.js";
import { copyable, copyText } from "./code_blocks.js";
import { ENDINGS, fold, nothing, withEarlier } from "./fold.js";
import { follow } from "./follow.js";
import { Autoscroll } from "./autoscroll.js";
import { Sidebar } from "./sidebar.js";
import { Transcript } from "./transcript.js";
import { Welcome } from "./welcome.js";

const ENDED = {
  "run.completed": "The reply is complete.",
  "run.cancelled": "The reply was stopped.",
  "run.failed": "The reply could not be finished.",
};

const byId = (id) => document.getElementById(id);
const HERE = /^\/c\/([0-9a-f-]{36})\/?$/;

let state = nothing;
let stream = null;

const autoscroll = new Autoscroll(byId("scroll"), byId("to-bottom"));
const transcript = new Transcript(byId("turns"), { retry, lookUp });
const connection = new Connection(byId("connection"), byId("panel"));
const composer = new Composer(byId("composer"), { ask, stop });
const welcome = new Welcome(byId("welcome"), byId("model"), (text) => composer.fill(text));
const sidebar = new Sidebar(byId("sidebar"), {
  open: (id) => go(`/c/${id}`),
  renamed: (id, title) => id === state.id && take({ type: "conversation.updated", data: { ...state, title } }),
  removed: (id) => id === state.id && go("/"),
});

function take(event) {
  const before = state;
  state = fold(state, event);
  if (state === before) return;
  transcript.show(state);
  if (state.shape === before.shape) return;
  hideDelivered(before);
  showAround(before);
  if (isWriting(state) && !isWriting(before)) announce("A reply is being written.");
  else if (ENDINGS.includes(event.type)) announceEnd(event.type);
  else if (hasRuns(before) && !hasRuns(state)) announceEnd(null); // a snapshot came after the end
}

const hasRuns = ({ live }) => Object.keys(live).length > 0;
const isWriting = ({ live }) => Object.values(live).some(({ status }) => status === "running");

/** Show the parts around the turns: titles, buttons, the composer. */
function showAround(before) {
  const live = Object.values(state.live);
  const name = state.title || "New conversation";
  byId("title").textContent = name;
  document.title = `${live.length > 0 ? "✎ " : ""}${name} · Unspool`;
  composer.showLive(live, state.model);
  byId("earlier").hidden = state.earlier === null;
  document.body.classList.toggle("empty", state.id === null && state.messages.length === 0);
  if (state.id && state.title !== before.title) sidebar.know(state.id, state.title);
}

function announceEnd(type) {
  announce(ENDED[type] ?? "The reply has ended.");
  // The tab title shows the end to a reader who is in another tab.
  if (document.hidden) document.title = `✓ ${document.title.replace(/^✎ /, "")}`;
}

async function ask({ message, system, model, busy }) {
  const conversation = state.id;
  const pending = showPending(message);
  try {
    const asked = conversation === null
      ? await api.begin({ message, system, model })
      : await sendHere(conversation, message, busy);
    if (state.id !== conversation) return sidebar.load(); // the reader has opened another conversation
    if (conversation === null) {
      sidebar.know(asked.conversation, beginning(message.trim(), 80), { tell: true });
      composer.carry(asked.conversation);
      go(`/c/${asked.conversation}`);
    }
    // The stream delivers the same events, earlier or later; the fold ignores the repeats.
    const accepted = { id: asked.message, role: "user", content: message, reply_to: null, run: null };
    take({ type: "message.created", data: { message: { ...accepted, created_at: null } } });
    take({ type: "run.queued", data: { run: asked.run, message: asked.message } });
  } finally {
    pending.remove();
  }
}

async function sendHere(conversation, message, busy) {
  try {
    return await api.say(conversation, message, busy ? "queue" : "reject");
  } catch (refusal) {
    if (refusal.code !== "conversation_busy") throw refusal;
    // Another tab sent a message first, so queue this one.
    return api.say(conversation, message, "queue");
  }
}

/** Show the message at once, as pending, until the service has accepted it. Returns its element. */
function showPending(message) {
  const element = byId("pending").appendChild(el("div", { class: "said sending", dir: "auto" }, message));
  document.body.classList.remove("empty");
  autoscroll.toBottom();
  return element;
}

/** Hide pending messages that have come in an event or a snapshot before their POST was answered. */
function hideDelivered(before) {
  const known = new Set(before.messages.map(({ id }) => id));
  const fresh = state.messages.filter(({ id, role }) => role === "user" && !known.has(id));
  const isHere = ({ textContent }) => fresh.some(({ content }) => content === textContent);
  [...byId("pending").children].filter(isHere).forEach((element) => element.remove());
}

function stop() {
  for (const run of Object.values(state.live)) {
    api.cancel(run.id).catch((refusal) => announce(refusal.message));
  }
}

async function retry(run) {
  try {
    const asked = await api.retry(run);
    autoscroll.toBottom();
    take({ type: "run.queued", data: { run: asked.run, message: asked.message } });
  } catch (refusal) {
    announce(refusal.message);
    showToast(refusal.message);
  }
}

/** Fetch a run. Its text is compared with the text that this page has folded. */
async function lookUp(run, text) {
  const found = await api.run(run);
  if (typeof found.text === "string" && run in state.ended) connection.verified(found.text === text);
  return found;
}

let toastTimer;
function showToast(sentence) {
  const toast = byId("toast");
  toast.textContent = sentence;
  toast.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (toast.hidden = true), 5000);
}

async function showEarlier() {
  const page = await api.earlier(state.earlier).catch((refusal) => showToast(refusal.message));
  if (!page) return;
  autoscroll.keep(() => {
    const before = state;
    state = withEarlier(state, page);
    transcript.show(state);
    showAround(before);
  });
}

function go(address) {
  history.pushState(null, "", address);
  arrive();
}

/** Show the conversation in the address, or a new one. */
function arrive() {
  const id = HERE.exec(location.pathname)?.[1] ?? null;
  const before = stream;
  stream = null;
  state = { ...nothing, id };
  before?.close();
  transcript.clear();
  byId("pending").replaceChildren();
  byId("gone").hidden = true;
  stream = id === null ? null : follow({
    url: api.eventsOf(id),
    hear: take,
    tell: (now) => {
      if (stream) connection.say(now);
      if (now.state === "ended" && state.id === id) explain(id);
    },
    look: () => api.snapshot(id),
    busy: () => hasRuns(state),
  });
  connection.turnTo(stream);
  sidebar.turnTo(id);
  composer.turnTo(id);
  showAround(nothing);
  document.body.classList.remove("drawer-open");
  if (id === null) autoscroll.toTop();
  else autoscroll.toBottom();
  composer.focus();
}

async function explain(id) {
  const refusal = await api.snapshot(id).then(() => null, (error) => error);
  if (state.id !== id || refusal === null) return;
  byId("gone").hidden = false;
  byId("title").textContent = "Not available";
  byId("gone-why").textContent = refusal.message;
}

function toggleDrawer(open) {
  document.body.classList.toggle("drawer-open", open);
  byId("menu").setAttribute("aria-expanded", String(open));
  // On a phone, the keyboard would cover the list.
  if (open) byId(matchMedia("(hover: hover)").matches ? "search" : "close-drawer").focus();
  else byId("menu").focus();
}

byId("new").addEventListener("click", (event) => {
  if (event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  go("/");
});
byId("menu").addEventListener("click", () => toggleDrawer(true));
byId("veil").addEventListener("click", () => toggleDrawer(false));
byId("close-drawer").addEventListener("click", () => toggleDrawer(false));
byId("sidebar").addEventListener("keydown", (event) => {
  if (event.key === "Escape" && document.body.classList.contains("drawer-open")) toggleDrawer(false);
});
byId("earlier").addEventListener("click", showEarlier);
byId("turns").addEventListener("click", ({ target }) => {
  const button = target.closest("[data-copy]");
  if (button) copyText(button, copyable(button.closest(".code").querySelector("code")));
});
document.addEventListener("keydown", (event) => {
  if ((event.metaKey || event.ctrlKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    if (matchMedia("(max-width: 800px)").matches) toggleDrawer(true);
    byId("search").focus();
  }
});
document.addEventListener("visibilitychange", () => !document.hidden && showAround(state));
window.addEventListener("popstate", arrive);

arrive();
sidebar.load();
api.models().then(({ items, default: usual }) => {
  composer.offer(items, usual);
  welcome.offer(items, usual);
}).catch(() => composer.offer([], null));
