/**
 * The page's one stream: a conversation's events, over one connection after another.
 *
 * EventSource alone is not enough. It notices a dead connection after minutes, stops for ever
 * when a response is not 200, and does not know of other tabs. So this module reconnects by
 * itself, from the last id that it received, and always by `reopen`.
 */

import { seekSlot } from "./connection_slots.js";
import { PART_EVENTS } from "./parts.js";

const NAMES = [
  "conversation.snapshot", "conversation.updated", "message.created",
  "run.queued", "run.started", "run.completed", "run.cancelled", "run.failed",
  "text.delta", "text.snapshot", "reasoning.delta", ...Object.keys(PART_EVENTS),
];
const SILENCE = 2.5 * 15_000; // ms without a byte (two and a half heartbeats) until it reconnects
const FIRST_PAUSE = 400; // ms before the first reconnection, ± 50 %
const LONGEST_PAUSE = 15_000; // ms
const BACK = 4_000; // ms for which the state is "back" after a reconnection
const REST = 10_000; // ms for which a hidden tab keeps a stream without a run
const LOOK = 3_000; // ms between snapshots of a tab that has no connection slot
const FINAL = ["forbidden", "gone"]; // conditions of a stream-error after which it stops

/**
 * Follow a conversation. `hear({type, data})` gets each event once, in order. `tell(connection)`
 * gets `{state, since, detail}` when the state changes: connecting, live, waiting (the service
 * cannot read its log), reconnecting, back, offline, cut, sharing (other tabs hold all slots),
 * resting or ended. `look()` fetches the snapshot by HTTP; `busy()` returns whether a run is active.
 */
export function follow({ url, hear, tell, look, busy }) {
  const seen = { cursor: null, head: null, events: 0, heartbeats: 0, reconnects: 0, resets: 0,
    gaps: 0, repeats: 0, cuts: 0, heardAt: null };
  const log = []; // the latest events, for the developer view
  const timers = {};
  let source = null;
  let endSlot = null;
  let tries = 0;
  let ended = false;
  let connection = { state: "connecting", since: Date.now() };

  function say(state, detail = null) {
    if (connection.state === state && connection.detail === detail) return;
    connection = { state, since: Date.now(), detail };
    tell(connection);
  }

  function after(name, ms, act) {
    clearTimeout(timers[name]);
    timers[name] = setTimeout(act, ms);
  }

  const stopTimers = (...names) => names.forEach((name) => clearTimeout(timers[name]));

  function shut() {
    source?.close();
    source = null;
    stopTimers("silence", "again", "look");
  }

  function start() {
    if (ended || endSlot || connection.state === "cut") return;
    if (!navigator.onLine) return say("offline");
    endSlot = seekSlot({
      granted: open,
      waiting: () => {
        say("sharing");
        lookAgain();
      },
      yielded: () => {
        endSlot = null;
        shut();
        start();
      },
    });
  }

  function stop(state) {
    shut();
    endSlot?.();
    endSlot = null;
    say(state);
  }

  async function lookAgain() {
    try {
      const snapshot = await look();
      if (connection.state !== "sharing" || snapshot.cursor < seen.cursor) return;
      seen.cursor = snapshot.cursor;
      hear({ type: "conversation.snapshot", data: snapshot });
    } catch {
      // The next snapshot may succeed.
    }
    if (connection.state === "sharing" && endSlot && !source) after("look", LOOK, lookAgain);
  }

  function open() {
    shut();
    source = new EventSource(seen.cursor === null ? url : `${url}?lastEventId=${seen.cursor}`);
    const mine = source;
    const on = (name, act) => source.addEventListener(name, (event) => mine === source && act(event));
    for (const name of NAMES) on(name, heard);
    on("heartbeat", ({ data }) => heartbeat(JSON.parse(data)));
    on("stream-reset", reset);
    on("stream-error", ({ data }) => refused(JSON.parse(data)));
    on("open", opened);
    on("error", failed);
    after("silence", SILENCE, reopen);
  }

  function opened() {
    const first = seen.heardAt === null;
    alive();
    if (first) return say("live");
    seen.reconnects += 1;
    say("back");
    after("back", BACK, () => connection.state === "back" && say("live"));
  }

  /** Record that something was received, so the connection is alive. */
  function alive() {
    tries = 0;
    seen.heardAt = Date.now();
    after("silence", SILENCE, reopen);
  }

  function heard(event) {
    alive();
    const id = event.lastEventId === "" ? null : Number(event.lastEventId);
    if (event.type !== "conversation.snapshot" && seen.cursor !== null && id !== null) {
      if (id <= seen.cursor) return void (seen.repeats += 1);
      if (id > seen.cursor + 1) {
        // After a gap, reconnect without a cursor. The new connection begins with a snapshot.
        seen.gaps += 1;
        seen.cursor = null;
        return reopen();
      }
    }
    seen.cursor = id ?? seen.cursor;
    seen.head = Math.max(seen.head ?? 0, seen.cursor ?? 0);
    seen.events += 1;
    note(id, event.type, event.data);
    if (connection.state === "waiting") say("live");
    hear({ type: event.type, data: JSON.parse(event.data) });
    if (document.hidden) restSoon();
  }

  function heartbeat({ head }) {
    alive();
    seen.heartbeats += 1;
    seen.head = head;
    note(null, "heartbeat", `head ${head}`);
    if (head === null) say("waiting");
    else if (connection.state === "waiting") say("live");
  }

  function reset(event) {
    alive();
    seen.resets += 1;
    note(null, "stream-reset", event.data); // the snapshot that follows sets the cursor
  }

  function refused({ condition, text }) {
    note(null, "stream-error", `${condition}: ${text}`);
    if (!FINAL.includes(condition)) return;
    ended = true;
    stop("ended");
  }

  function failed() {
    shut();
    if (!navigator.onLine) return stop("offline");
    say("reconnecting", tries > 1 ? "unreachable" : null);
    const pause = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** tries) * (0.5 + Math.random());
    tries += 1;
    after("again", pause, tries > 2 || seen.heardAt === null ? ask : reopen);
  }

  /** Fetch the snapshot to learn its status, because EventSource gives no response's status. */
  async function ask() {
    try {
      await look();
    } catch (refusal) {
      if ([401, 403, 404].includes(refusal.status)) {
        ended = true;
        return stop("ended");
      }
    }
    reopen();
  }

  function reopen() {
    if (ended || !endSlot) return;
    if (seen.heardAt !== null) say("reconnecting");
    open();
  }

  function note(id, type, data) {
    log.push({ id, type, data: data.slice(0, 120) });
    if (log.length > 60) log.splice(0, 20);
  }

  function restSoon() {
    if (!busy()) after("rest", REST, () => document.hidden && !busy() && stop("resting"));
  }

  const onOffline = () => connection.state !== "cut" && stop("offline");
  const onOnline = () => connection.state === "offline" && start();
  const onVisible = () => {
    if (document.hidden) return restSoon();
    stopTimers("rest");
    if (!endSlot) return start();
    // The timers of a sleeping tab do not run, so check for a dead connection now.
    if (source ? Date.now() - seen.heardAt > SILENCE : connection.state === "reconnecting") reopen();
  };

  const over = new AbortController();
  const listen = (target, name, act) => target.addEventListener(name, act, { signal: over.signal });
  listen(window, "offline", onOffline);
  listen(window, "online", onOnline);
  listen(window, "pagehide", () => stop("resting")); // a page kept for the Back button must hold no connection
  listen(window, "pageshow", onVisible);
  listen(document, "visibilitychange", onVisible);
  tell(connection);
  start();

  return {
    seen,
    log,
    connection: () => connection,
    /** Drop the connection for `ms` milliseconds, to show what a lost network does. */
    cut(ms) {
      if (ended || connection.state === "cut") return;
      seen.cuts += 1;
      note(null, "cut", `for ${ms / 1000} s`);
      stop("cut");
      after("cut", ms, () => {
        say("reconnecting");
        start();
      });
    },
    close() {
      ended = true;
      stop("ended");
      stopTimers(...Object.keys(timers));
      over.abort();
    },
  };
}
