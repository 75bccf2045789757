/**
 * The conversation on the page: turns, each a message of the user and the replies to it.
 *
 * Elements are kept by id, so unchanged ones are not touched. New text of a running reply is
 * written once a frame, however many pieces have arrived. After a slow frame, writing pauses for
 * as long as the frame took, so that the page stays responsive.
 */

import { el } from "./dom.js";
import { turnsOf } from "./fold.js";
import { Reply } from "./reply.js";

const LONG = 30; // milliseconds; a longer frame is followed by a pause

export class Transcript {
  #list;
  #acts;
  #turns = new Map(); // by the message's id: {element, place, replies: Map of Reply, chosen, count}
  #state = null;
  #shape = -1;
  #frame = null;
  #resume = 0; // the time before which no text is written

  /** `acts` are the page's actions. */
  constructor(list, acts) {
    this.#list = list;
    this.#acts = acts;
    document.addEventListener("visibilitychange", () => this.#state && this.show(this.#state));
  }

  clear() {
    this.#turns.clear();
    this.#list.replaceChildren();
    this.#state = null;
    this.#shape = -1;
  }

  show(state) {
    this.#state = state;
    if (this.#frame !== null || document.hidden) return; // browsers run no frames for a hidden page
    this.#frame = requestAnimationFrame(() => {
      this.#frame = null;
      if (!this.#state) return;
      const start = performance.now();
      if (start < this.#resume && this.#state.shape === this.#shape) return this.show(this.#state);
      this.#draw();
      void this.#list.offsetHeight; // the layout is part of the frame
      const end = performance.now();
      this.#resume = end - start > LONG ? end + (end - start) : 0;
    });
  }

  #draw() {
    const state = this.#state;
    if (state.shape !== this.#shape) {
      this.#shape = state.shape;
      this.#arrange(turnsOf(state));
    }
    let more = false;
    for (const run of Object.values(state.live)) {
      const reply = this.#turns.get(run.message)?.replies.get(run.id);
      if (reply?.write(run)) more = true;
    }
    if (more) this.show(state);
  }

  #arrange(turns) {
    const wanted = new Set(turns.map((turn) => turn.key));
    for (const [key, turn] of this.#turns) {
      if (wanted.has(key)) continue;
      turn.element.remove();
      this.#turns.delete(key);
    }
    turns.forEach((turn, place) => {
      if (!this.#turns.has(turn.key)) this.#turns.set(turn.key, this.#begin(turn));
      const shown = this.#turns.get(turn.key);
      if (this.#list.children[place] !== shown.element) {
        this.#list.insertBefore(shown.element, this.#list.children[place] ?? null);
      }
      this.#showTurn(shown, turn, place === turns.length - 1);
    });
  }

  #begin({ message }) {
    const element = el("li", { class: "turn" });
    if (message?.role === "system") {
      const text = el("div", { class: "instructions-text", dir: "auto" }, message.content);
      element.append(el("details", { class: "instructions" }, el("summary", {}, "Instructions"), text));
    } else if (message) {
      const text = el("div", { class: "said", dir: "auto", "data-message": message.id }, message.content);
      element.append(el("h2", { class: "unseen" }, "You said"), text);
    }
    const place = el("div", { class: "turn-reply" });
    element.append(place);
    return { element, place, replies: new Map(), chosen: null, count: 0 };
  }

  #showTurn(shown, turn, last) {
    const { replies } = turn;
    if (replies.length === 0) return shown.place.replaceChildren(); // a later event queues its run
    const choose = (place, step) => {
      shown.chosen = replies[place].key;
      this.#showTurn(shown, turn, last);
      shown.replies.get(shown.chosen).focusStep(step); // the button with the focus is not on the page now
    };
    // Choose a new reply, because the reader has just asked for it, here or in another tab.
    const stays = replies.some(({ key }) => key === shown.chosen);
    if (replies.length > shown.count || !stays) shown.chosen = replies.at(-1).key;
    shown.count = replies.length;
    replies.forEach((reply, place) => {
      if (!shown.replies.has(reply.key)) shown.replies.set(reply.key, new Reply(this.#acts));
      const view = shown.replies.get(reply.key);
      if (reply.key !== shown.chosen && reply.live === null) return;
      view.show(reply, { last, variants: { place, count: replies.length, choose } });
      if (reply.key === shown.chosen && shown.place.firstChild !== view.element) {
        shown.place.replaceChildren(view.element);
      }
    });
  }
}
