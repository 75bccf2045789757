/**
 * The state of a conversation, folded from the events that this page has received.
 *
 * Pure functions: no clock, no DOM, no network. However often the connection is lost, folding
 * the received events ends with the parts that the database holds.
 *
 * `live` holds the runs that have not ended, `ended` the final events of the runs that have ended.
 * `shape` is raised when anything except the last part of a live run changes. A run's `revision`
 * is raised when its new parts do not continue the old ones. The page compares these two numbers
 * to know what to draw again.
 */

import { addPart, continues, PART_EVENTS, textOf } from "./parts.js";

export const nothing = Object.freeze({
  id: null,
  title: "",
  model: null,
  messages: [],
  earlier: null,
  live: {},
  ended: {},
  shape: 0,
});

export const ENDINGS = ["run.completed", "run.cancelled", "run.failed"];

/** The state after `event`, which is `{type, data}`; the same object if nothing changes. */
export function fold(state, { type, data }) {
  switch (type) {
    case "conversation.snapshot":
      return fromSnapshot(state, data);
    case "conversation.updated":
      return reshaped(state, { title: data.title, model: data.model });
    case "message.created":
      return withMessage(state, data.message);
    case "run.queued":
      return queued(state, data);
    case "run.started":
      return started(state, data);
    case "text.delta":
      return added(state, data, { type: "text", text: data.text });
    case "reasoning.delta":
      return added(state, data, { type: "reasoning", text: data.text });
    case "text.snapshot":
      return replaced(state, data);
    case "run.completed":
    case "run.cancelled":
    case "run.failed":
      return finished(state, type, data);
    default: {
      if (!(type in PART_EVENTS)) return state; // heartbeats, and event types of a newer service
      const { run: _, attempt: __, index: ___, ...fields } = data;
      return added(state, data, { type: PART_EVENTS[type], ...fields });
    }
  }
}

/** Add older messages, which the reader has asked for, before the messages of the snapshot. */
export function withEarlier(state, { messages, earlier }) {
  const present = new Set(state.messages.map((message) => message.id));
  const fresh = messages.filter((message) => !present.has(message.id));
  return reshaped(state, { messages: [...fresh, ...state.messages], earlier });
}

/**
 * The conversation as turns: each of the user's messages with the replies to it, the oldest
 * first. A reply is `{key, run, message, live, ended}`; a field that is not known is null.
 */
export function turnsOf(state) {
  const turns = [];
  const byMessage = new Map();
  const turnFor = (id, message) => {
    if (!byMessage.has(id)) {
      const turn = { key: id, message, replies: [] };
      byMessage.set(id, turn);
      turns.push(turn);
    }
    return byMessage.get(id);
  };
  const shown = new Set();
  for (const message of state.messages) {
    if (message.role !== "assistant") {
      turnFor(message.id, message);
      continue;
    }
    const reply = { key: message.run ?? message.id, run: message.run, message, live: null };
    turnFor(message.reply_to ?? message.id, null).replies.push({
      ...reply,
      ended: state.ended[message.run] ?? null,
    });
    shown.add(message.run);
  }
  for (const run of Object.values(state.live)) {
    const reply = { key: run.id, run: run.id, message: null, live: run, ended: null };
    turnFor(run.message, null).replies.push(reply);
  }
  for (const ended of Object.values(state.ended).reverse()) {
    // Of the runs without a reply only the last is shown, and only while the turn has no reply.
    if (shown.has(ended.run) || (byMessage.get(ended.message)?.replies.length ?? 1) > 0) continue;
    const reply = { key: ended.run, run: ended.run, message: null, live: null, ended };
    turnFor(ended.message, null).replies.push(reply);
  }
  return turns;
}

function reshaped(state, change) {
  return { ...state, ...change, shape: state.shape + 1 };
}

function fromSnapshot(state, snapshot) {
  const live = {};
  for (const run of snapshot.runs) {
    const before = state.live[run.id] ?? null;
    live[run.id] = {
      id: run.id,
      message: run.message,
      status: run.status,
      attempt: run.attempt ?? 0,
      model: before?.model ?? snapshot.model,
      parts: run.parts,
      index: null,
      revision: revisionAfter(before, run.parts),
    };
  }
  const first = snapshot.messages[0]?.id;
  const place = state.messages.findIndex((message) => message.id === first);
  // Keep the earlier messages that the reader has loaded, because the snapshot lacks them.
  const kept = place > 0 ? state.messages.slice(0, place) : [];
  return reshaped(state, {
    id: snapshot.id,
    title: snapshot.title,
    model: snapshot.model,
    messages: [...kept, ...snapshot.messages],
    earlier: place > 0 ? state.earlier : (snapshot.earlier ?? null),
    live,
    ended: { ...state.ended, ...endedWithoutReply(snapshot) },
  });
}

/** The final events of the runs that the snapshot names because they ended without a reply. */
function endedWithoutReply({ unanswered, model }) {
  return Object.fromEntries(unanswered.map(({ id, status, ...run }) =>
    [id, { ...run, run: id, reply: null, type: `run.${status}`, model }]));
}

function revisionAfter(before, parts) {
  if (before === null) return 0;
  return continues(before.parts, parts) ? before.revision : before.revision + 1;
}

function withMessage(state, message) {
  if (state.messages.some(({ id }) => id === message.id)) return state;
  return reshaped(state, { messages: [...state.messages, message] });
}

function isOver(state, run) {
  const wrote = (message) => message.role === "assistant" && message.run === run;
  return run in state.ended || state.messages.some(wrote);
}

function queued(state, { run, message }) {
  if (run in state.live || isOver(state, run)) return state;
  const fresh = {
    id: run,
    message,
    status: "queued",
    attempt: 0,
    model: state.model,
    parts: [],
    index: null,
    revision: 0,
  };
  return reshaped(state, { live: { ...state.live, [run]: fresh } });
}

function started(state, { run, attempt, model }) {
  const current = state.live[run];
  if (current === undefined || attempt < current.attempt) return state;
  if (attempt === current.attempt && current.status === "running") return state;
  return withRun(state, { ...restarted(current, attempt), model: model ?? current.model }, true);
}

/** The run at the start of a higher attempt, which writes the reply from the beginning. */
function restarted(run, attempt) {
  const revision = run.parts.length === 0 ? run.revision : run.revision + 1;
  return { ...run, status: "running", attempt, parts: [], index: null, revision };
}

function withRun(state, run, structural = false) {
  const live = { ...state.live, [run.id]: run };
  return structural ? reshaped(state, { live }) : { ...state, live };
}

/** The run that this piece belongs to; null if it has ended or the piece is of an older attempt. */
function runOf(state, { run, attempt }) {
  const current = state.live[run];
  if (current === undefined || attempt < current.attempt) return null;
  return attempt > current.attempt ? restarted(current, attempt) : current;
}

function added(state, piece, part) {
  const run = runOf(state, piece);
  if (run === null) return state;
  if (run.index !== null && piece.index <= run.index) return state; // a repeat; all kinds share one index
  const parts = addPart(run.parts, part);
  const next = { ...run, status: "running", parts, index: piece.index };
  return withRun(state, next, parts.length !== run.parts.length || run.attempt !== state.live[run.id].attempt);
}

function replaced(state, { run: id, attempt, index, parts }) {
  const run = runOf(state, { run: id, attempt });
  if (run === null) return state;
  const next = { ...run, status: "running", parts, index, revision: revisionAfter(run, parts) };
  return withRun(state, next, true);
}

function finished(state, type, data) {
  const run = state.live[data.run];
  if (run === undefined || data.attempt < run.attempt) return state;
  const { [data.run]: _, ...live } = state.live;
  const ended = { ...data, type, message: run.message, model: run.model };
  const messages = [...state.messages];
  if (data.reply && !messages.some((message) => message.id === data.reply)) {
    messages.push({
      id: data.reply,
      role: "assistant",
      // If the new attempt added nothing, the parts of the attempt before it stay.
      content: textOf(run.parts),
      parts: run.parts,
      reply_to: run.message,
      run: run.id,
      created_at: null,
    });
  }
  return reshaped(state, { live, messages, ended: { ...state.ended, [data.run]: ended } });
}
