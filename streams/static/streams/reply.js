/** One reply on the page: its text, its state, its facts and its buttons. */

import { copyText } from "./code_blocks.js";
import { el, icon, iconButton } from "./dom.js";
import { ReplyText } from "./reply_text.js";
import { factsOf, shortfall } from "./run_stats.js";

export class Reply {
  element;
  #content;
  #parts = {};
  #reply = null;
  #last = false; // whether this is the last turn, the only one in which another reply can be asked for
  #run = null; // the run as GET /api/runs/<id>/ returns it, once it has ended
  #asked = false;
  #lookUp;
  #grown;

  /** `acts` are the page's: retry(run) and lookUp(run, text). `grown` is called when its height changes later. */
  constructor(acts, grown) {
    this.#lookUp = acts.lookUp;
    this.#grown = grown;
    const parts = this.#parts;
    parts.notice = el("p", { class: "notice", hidden: true });
    parts.thoughts = el("div", { class: "thoughts-text", dir: "auto" });
    parts.thinking = el("details", { class: "thoughts", hidden: true }, el("summary", {}, "Thinking"), parts.thoughts);
    parts.waiting = el("p", { class: "waiting", hidden: true }, el("span", { class: "dots", "aria-hidden": "true" }), el("span"));
    parts.text = el("div", { class: "prose" });
    parts.shortfall = el("p", { class: "shortfall", hidden: true });
    parts.again = el("button", { type: "button", class: "quiet-button", hidden: true, on: { click: () => acts.retry(this.#reply.run) } },
      icon("retry"), "Try again");
    parts.copy = iconButton("copy", "Copy reply", () => copyText(parts.copy, this.#text()), {});
    parts.retry = iconButton("retry", "Write another reply", () => acts.retry(this.#reply.run));
    parts.details = iconButton("info", "Details of this reply", () => this.#toggleFacts(), { "aria-expanded": "false" });
    parts.variants = el("span", { class: "variants", hidden: true });
    parts.facts = el("dl", { class: "facts", hidden: true });
    const actions = el("div", { class: "actions" }, parts.variants, parts.copy, parts.retry, parts.details);
    parts.foot = el("footer", { class: "reply-foot", hidden: true }, actions, parts.facts);
    this.element = el("article", { class: "reply" },
      el("h2", { class: "unseen" }, "Reply"), parts.notice, parts.thinking, parts.text,
      parts.waiting, parts.shortfall, parts.again, parts.foot);
    this.#content = new ReplyText(parts.text);
  }

  #text() {
    return this.#reply?.live?.text ?? this.#reply?.message?.content ?? "";
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
    this.#showThoughts(live?.reasoning ?? "");
    parts.notice.hidden = !(live?.attempt > 1);
    parts.notice.textContent = `The worker was lost. Attempt ${live?.attempt} writes this reply again from the beginning.`;
    parts.foot.hidden = live !== null;
    parts.again.hidden = true;
    parts.retry.hidden = !last || reply.run === null;
    parts.details.hidden = reply.run === null;
    parts.copy.hidden = this.#text() === "";
    this.#showVariants(variants);
    if (live === null) {
      this.#settle(reply.message?.content ?? "");
      this.#showShortfall();
      if ((last || wasLive) && !this.#asked) this.#learn().then(this.#grown);
    }
  }

  /** Show the text of a finished reply; a long one takes several slices. */
  async #settle(text) {
    await this.#content.settle(text);
    if (this.#reply.live !== null || text !== this.#text()) return;
    this.element.setAttribute("aria-busy", String(!this.#content.isWhole(text)));
    this.#grown();
  }

  /** Show the text that came since the last frame. Returns whether there is more to show. */
  write(live) {
    this.#reply = { ...this.#reply, live };
    if (live.reasoning) this.#showThoughts(live.reasoning);
    return this.#content.write(live.text, live.revision);
  }

  #showWaiting(live) {
    const isWaiting = live !== null && live.text === "";
    this.#parts.waiting.hidden = !isWaiting;
    if (!isWaiting) return;
    const queued = live.status === "queued";
    this.#parts.waiting.lastChild.textContent = queued ? "Waiting in the queue" : "The model is reading your message";
  }

  #showThoughts(reasoning) {
    if (reasoning === "") return;
    this.#parts.thinking.hidden = false;
    this.#parts.thoughts.textContent = reasoning;
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
    const { variants } = this.#parts;
    variants.hidden = count < 2;
    if (count < 2) return;
    const step = (name, label, to) =>
      iconButton(name, label, () => choose(to), { disabled: to < 0 || to >= count });
    const focused = variants.contains(document.activeElement)
      ? [...variants.querySelectorAll("button")].indexOf(document.activeElement)
      : -1;
    const position = el("span", { class: "variant" }, `${place + 1} / ${count}`);
    variants.replaceChildren(
      step("left", "Previous reply", place - 1), position, step("right", "Next reply", place + 1));
    if (focused >= 0) variants.querySelectorAll("button")[focused].focus();
  }

  async #learn() {
    if (!this.#reply.run) return;
    this.#asked = true;
    try {
      this.#run = await this.#lookUp(this.#reply.run, this.#reply.message?.content ?? "");
    } catch {
      this.#asked = false; // asked for again when the reply is next shown
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
