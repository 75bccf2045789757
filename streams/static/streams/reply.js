/** One reply on the page: its parts, its state, its facts and its buttons. */

import { mayPass } from "./api.js";
import { copyText } from "./code_blocks.js";
import { el, icon, iconButton } from "./dom.js";
import { textOf } from "./parts.js";
import { ReplyParts } from "./reply_parts.js";
import { factsOf, shortfall } from "./run_stats.js";

const PAUSE = 1_000; // milliseconds before a failed look-up of a run is repeated; it doubles
const LONGEST_PAUSE = 30_000; // milliseconds

export class Reply {
  element;
  #content = new ReplyParts();
  #parts = {};
  #reply = null;
  #last = false; // whether this is the last turn, the only one in which another reply can be asked for
  #run = null; // the run as GET /api/runs/<id>/ returns it, once it has ended
  #asked = false; // whether the run is being looked up, or has been
  #lookUp;
  #choose;

  /** `acts` are the page's: retry(run) and lookUp(run, text). */
  constructor(acts) {
    this.#lookUp = acts.lookUp;
    const parts = this.#parts;
    parts.notice = el("p", { class: "notice", hidden: true });
    parts.waiting = el("p", { class: "waiting", hidden: true }, el("span", { class: "dots", "aria-hidden": "true" }), el("span"));
    parts.shortfall = el("p", { class: "shortfall", hidden: true });
    parts.again = el("button", { type: "button", class: "quiet-button", hidden: true, on: { click: () => acts.retry(this.#reply.run) } },
      icon("retry"), "Try again");
    parts.copy = iconButton("copy", "Copy reply", () => copyText(parts.copy, this.#text()), {});
    parts.retry = iconButton("retry", "Write another reply", () => acts.retry(this.#reply.run));
    parts.details = iconButton("info", "Details of this reply", () => this.#toggleFacts(), { "aria-expanded": "false" });
    parts.previous = iconButton("left", "Previous reply", () => this.#choose(-1));
    parts.position = el("span", { class: "variant" });
    parts.next = iconButton("right", "Next reply", () => this.#choose(1));
    parts.variants = el("span", { class: "variants", hidden: true }, parts.previous, parts.position, parts.next);
    parts.facts = el("dl", { class: "facts", hidden: true });
    const actions = el("div", { class: "actions" }, parts.variants, parts.copy, parts.retry, parts.details);
    parts.foot = el("footer", { class: "reply-foot", hidden: true }, actions, parts.facts);
    this.element = el("article", { class: "reply" },
      el("h2", { class: "unseen" }, "Reply"), parts.notice, this.#content.element,
      parts.waiting, parts.shortfall, parts.again, parts.foot);
  }

  #all() {
    return this.#reply?.live?.parts ?? this.#reply?.message?.parts ?? [];
  }

  #text() {
    return textOf(this.#all());
  }

  /** Show the current state. The text of a running reply is shown by `write`, once a frame. */
  show(reply, { last, variants }) {
    const wasLive = this.#reply?.live ?? null;
    this.#reply = reply;
    this.#last = last;
    const { live } = reply;
    const parts = this.#parts;
    this.element.classList.toggle("live", live !== null);
    this.element.setAttribute("aria-busy", "true");
    this.element.dataset.run = reply.run ?? "";
    this.#showWaiting(live);
    parts.notice.hidden = !(live?.attempt > 1);
    parts.notice.textContent = `The worker was lost. Attempt ${live?.attempt} writes this reply again from the beginning.`;
    parts.foot.hidden = live !== null;
    parts.again.hidden = true;
    parts.retry.hidden = !last || reply.run === null;
    parts.details.hidden = reply.run === null;
    parts.copy.hidden = this.#text() === "";
    this.#showVariants(variants);
    if (live === null) {
      this.#settle(this.#all());
      this.#showShortfall();
      if ((last || wasLive) && !this.#asked) this.#learn();
    }
  }

  /** Show the parts of a finished reply; long text takes several slices. */
  async #settle(all) {
    await this.#content.settle(all);
    if (this.#reply.live !== null || all !== this.#all()) return;
    this.element.setAttribute("aria-busy", String(!this.#content.isWhole(all)));
  }

  /** Show the parts that came since the last frame. Returns whether there is more to show. */
  write(live) {
    this.#reply = { ...this.#reply, live };
    return this.#content.write(live.parts, live.revision);
  }

  /** Show that the reply goes on while nothing moves. Text and open calls show that themselves. */
  #showWaiting(live) {
    const last = live?.parts.at(-1)?.type;
    const { waiting } = this.#parts;
    waiting.hidden = live === null || last === "text" || last === "tool_call";
    if (waiting.hidden) return;
    const begun = last === "reasoning" ? "The model is thinking" : "The reply goes on";
    const before = live.status === "queued" ? "Waiting in the queue" : "The model is reading your message";
    waiting.lastChild.textContent = last ? begun : before;
  }

  #showShortfall() {
    const { shortfall: place, again, retry } = this.#parts;
    const { sentence, failed } = shortfall({ ended: this.#reply.ended, run: this.#run });
    this.element.classList.toggle("failed", failed);
    place.hidden = sentence === null;
    place.textContent = sentence ?? "";
    const canRetry = failed || (sentence !== null && this.#text() === "");
    again.hidden = !canRetry || !this.#last || this.#reply.run === null;
    if (!again.hidden) retry.hidden = true;
  }

  #showVariants({ place, count, choose }) {
    const { variants, previous, position, next } = this.#parts;
    variants.hidden = count < 2;
    position.textContent = `${place + 1} / ${count}`;
    previous.disabled = place === 0;
    next.disabled = place === count - 1;
    this.#choose = (step) => choose(place + step, step);
  }

  /** Move the focus to the button for the next step in this direction, -1 or 1; at the end to the other one. */
  focusStep(step) {
    const { previous, next } = this.#parts;
    const [wanted, other] = step < 0 ? [previous, next] : [next, previous];
    (wanted.disabled ? other : wanted).focus();
  }

  async #learn(tries = 0) {
    if (!this.#reply.run || this.#asked) return;
    this.#asked = true;
    try {
      this.#run = await this.#lookUp(this.#reply.run, this.#text());
    } catch (refusal) {
      if (mayPass(refusal)) {
        const pause = Math.min(LONGEST_PAUSE, PAUSE * 2 ** tries) * (0.5 + Math.random());
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
      this.#asked = false; // a reply that is not on the page is looked up when it is next shown
      if (mayPass(refusal) && this.element.isConnected) this.#learn(tries + 1);
      return;
    }
    this.#showShortfall();
    const { facts, details } = this.#parts;
    facts.replaceChildren(...factsOf(this.#run).map(([label, value, why, plain]) =>
      el("div", { title: why }, el("dt", { class: plain ? "unseen" : "" }, label), el("dd", {}, value))));
    if (details.getAttribute("aria-expanded") === "false") this.#toggleFacts();
  }

  async #toggleFacts() {
    const { facts, details } = this.#parts;
    const open = details.getAttribute("aria-expanded") === "false";
    if (open && this.#run === null) return this.#learn();
    details.setAttribute("aria-expanded", String(open));
    facts.hidden = !open;
  }
}
