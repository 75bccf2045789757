/**
 * The connection, told truthfully and quietly, and a closer look at it for developers.
 *
 * A pill says one word while all is well, and since when it is not. Behind it: what was heard,
 * where the cursor stands, and a button that cuts the connection to show that nothing is lost.
 */

import { announce, el } from "./dom.js";

const CUT = 4_000; // milliseconds that a cut on purpose lasts

const WORDS = {
  connecting: "Connecting",
  live: "Live",
  waiting: "Connected, the service is catching up",
  reconnecting: "Reconnecting",
  back: "Back, nothing lost",
  offline: "Offline",
  cut: "Cut by you",
  sharing: "Live, with other tabs",
  resting: "Resting",
  ended: "Closed",
};
const TIMED = ["reconnecting", "offline", "cut"];
const ALOUD = { offline: "You are offline.", back: "Connected again. Nothing was lost." };

export class Connection {
  #pill;
  #panel;
  #stream = null;
  #timer = null;
  #verdict;
  #cut = null; // where the cursor and the counts stood when the connection was cut
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

  /** The stream that the page follows now, or null on a page without a conversation. */
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
    if (state in ALOUD) announce(ALOUD[state]);
    if (state === "back" && this.#cut) this.#judge();
    this.#tick();
  }

  /** A reply's folded text was compared with the database's. */
  verified(same) {
    this.#checked[same ? "same" : "different"] += 1;
    this.#tick();
  }

  #tick() {
    clearTimeout(this.#timer);
    if (this.#stream === null) return;
    const { state, since, detail } = this.#stream.connection();
    const lasted = Math.floor((Date.now() - since) / 1000);
    const timed = TIMED.includes(state) && lasted > 0;
    const words = detail === "unreachable" ? "The service cannot be reached" : WORDS[state];
    const text = timed ? `${words} · ${inWords(lasted)}` : words;
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
    const heard = seen.heardAt === null ? "never" : `${((Date.now() - seen.heardAt) / 1000).toFixed(1)} s ago`;
    const facts = {
      State: WORDS[state],
      Cursor: seen.cursor ?? "none",
      "Head of the log": seen.head ?? "unknown",
      "Events heard": seen.events.toLocaleString("en"),
      "Last heard": heard,
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
    this.#verdict.textContent = `Cut after ${events} events. Coming back in ${CUT / 1000} seconds.`;
    announce("Connection cut.");
    this.#stream.cut(CUT);
  }

  /** The replay needs a moment to arrive before it can be counted. */
  #judge() {
    const before = this.#cut;
    this.#cut = null;
    setTimeout(() => {
      if (this.#stream === null) return;
      const { events, gaps, repeats, resets } = this.#stream.seen;
      const heard = events - before.events;
      const whole = gaps === before.gaps && repeats === before.repeats;
      const how = resets > before.resets
        ? "The log no longer reached that far, which it said, and a snapshot made it whole."
        : `Since then ${heard} events, each id one above the last: none missing, none twice.`;
      this.#verdict.textContent = whole ? how : `Mended: ${gaps} gaps and ${repeats} repeats so far.`;
      announce(this.#verdict.textContent);
    }, 1200);
  }
}

/** The end of an id is what tells it from its neighbours. */
const short = (id) => String(id).replace(/^\d{6,}(\d{6})$/, "…$1");

function inWords(seconds) {
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min`;
}
