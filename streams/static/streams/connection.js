/**
 * The state of the connection, and the developer view with its details.
 *
 * A pill shows the state, and for how long the connection has been lost. The developer view
 * shows the cursor and counters. Its button cuts the connection, to show that nothing is lost.
 */

import { announce, el } from "./dom.js";

const CUT = 4_000; // milliseconds for which the button cuts the connection

const NAMES = {
  connecting: "Connecting",
  live: "Live",
  waiting: "Connected, the service is catching up",
  reconnecting: "Reconnecting",
  back: "Back, nothing lost",
  offline: "Offline",
  cut: "Disconnected by you",
  sharing: "Live, with other tabs",
  resting: "Paused while hidden",
  ended: "Closed",
};
const TIMED = ["reconnecting", "offline", "cut"];
const ANNOUNCED = { offline: "You are offline.", back: "Connected again. Nothing was lost." };

export class Connection {
  #pill;
  #panel;
  #stream = null;
  #timer = null;
  #verdict;
  #cut = null; // the counters at the time of the last cut
  #checked = { same: 0, different: 0 };

  constructor(pill, panel) {
    this.#pill = pill;
    this.#panel = panel;
    this.#verdict = panel.querySelector("#verdict");
    panel.querySelector("#cut").addEventListener("click", () => this.#cutNow());
    pill.addEventListener("click", () => this.toggle());
    panel.querySelector("#close-panel").addEventListener("click", () => this.toggle(false));
    panel.addEventListener("keydown", (event) => event.key === "Escape" && this.toggle(false));
  }

  /** `stream`: the stream that the page follows now, or null without a conversation. */
  turnTo(stream) {
    this.#stream = stream;
    this.#cut = null;
    this.#verdict.textContent = "";
    this.#pill.hidden = stream === null;
    if (stream === null) this.toggle(false);
    else this.say(stream.connection());
  }

  toggle(open = this.#panel.hidden) {
    if (open === !this.#panel.hidden) return;
    this.#panel.hidden = !open;
    document.body.classList.toggle("with-panel", open);
    this.#pill.setAttribute("aria-expanded", String(open));
    if (open) this.#panel.querySelector("#cut").focus();
    else this.#pill.focus();
    this.#tick();
  }

  say(connection) {
    const { state } = connection;
    this.#pill.dataset.state = state;
    if (state in ANNOUNCED) announce(ANNOUNCED[state]);
    if (state === "back" && this.#cut) this.#report();
    this.#tick();
  }

  /** Count a comparison of a reply's folded text with the text in the database. */
  verified(same) {
    this.#checked[same ? "same" : "different"] += 1;
    this.#tick();
  }

  #tick() {
    clearTimeout(this.#timer);
    if (this.#stream === null) return;
    const { state, since, detail } = this.#stream.connection();
    const duration = Math.floor((Date.now() - since) / 1000);
    const timed = TIMED.includes(state) && duration > 0;
    const name = detail === "unreachable" ? "The service cannot be reached" : NAMES[state];
    const text = timed ? `${name} · ${inUnits(duration)}` : name;
    const label = this.#pill.querySelector(".pill-text");
    if (label.textContent !== text) label.textContent = text;
    if (!this.#panel.hidden) this.#draw();
    if (timed || TIMED.includes(state) || !this.#panel.hidden) {
      this.#timer = setTimeout(() => this.#tick(), this.#panel.hidden ? 1000 : 250);
    }
  }

  #draw() {
    const { seen, log } = this.#stream;
    const { state } = this.#stream.connection();
    const { same, different } = this.#checked;
    const received = seen.heardAt === null ? "never" : `${((Date.now() - seen.heardAt) / 1000).toFixed(1)} s ago`;
    const facts = {
      State: NAMES[state],
      Cursor: seen.cursor ?? "none",
      "Head of the log": seen.head ?? "unknown",
      "Events received": seen.events.toLocaleString("en"),
      "Last received": received,
      Heartbeats: seen.heartbeats,
      Reconnects: seen.cuts > 0 ? `${seen.reconnects}, ${seen.cuts} after a cut by you` : seen.reconnects,
      Resets: seen.resets,
      "Gaps, repeats": `${seen.gaps}, ${seen.repeats}`,
      "Replies equal to the database's": same + different ? `${same} of ${same + different}` : "none yet",
    };
    this.#panel.querySelector("#facts").replaceChildren(...Object.entries(facts).map(([label, value]) =>
      el("div", {}, el("dt", {}, label), el("dd", {}, String(value)))));
    this.#panel.querySelector("#cut").disabled = state === "cut";
    const lines = log.slice(-14).reverse().map(({ id, type, data }) =>
      el("li", {}, el("b", {}, id === null ? "–" : short(id)), ` ${type} `, el("span", {}, data)));
    this.#panel.querySelector("#log").replaceChildren(...lines);
  }

  #cutNow() {
    const { events, gaps, repeats, resets } = this.#stream.seen;
    this.#cut = { events, gaps, repeats, resets };
    this.#verdict.textContent = `Cut after ${events} events. Reconnecting in ${CUT / 1000} seconds.`;
    announce("Connection cut.");
    this.#stream.cut(CUT);
  }

  /** Report what the reconnection replayed, after a pause in which the replay arrives. */
  #report() {
    const before = this.#cut;
    this.#cut = null;
    setTimeout(() => {
      if (this.#stream === null) return;
      const { events, gaps, repeats, resets } = this.#stream.seen;
      const received = events - before.events;
      const isComplete = gaps === before.gaps && repeats === before.repeats;
      const result = resets > before.resets
        ? "The log no longer held the missed events. The service said so and sent a snapshot."
        : `${received} events since then, each id one higher than the last: none missing, none twice.`;
      this.#verdict.textContent = isComplete ? result : `Repaired: ${gaps} gaps and ${repeats} repeats so far.`;
      announce(this.#verdict.textContent);
    }, 1200);
  }
}

/** The last digits of a long id, because the ids beside it begin with the same digits. */
const short = (id) => String(id).replace(/^\d{6,}(\d{6})$/, "…$1");

function inUnits(seconds) {
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min`;
}
