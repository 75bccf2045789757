/** The parts of one reply on the page, in order. */

import { el } from "./dom.js";
import { itemsOf } from "./parts.js";
import { viewOf } from "./part_views.js";

export class ReplyParts {
  element = el("div", { class: "parts" });
  #views = []; // one for each item: {type, view}

  /** Show the parts of a reply that is being written. Returns whether there is more to show. */
  write(parts, revision) {
    const items = this.#arrange(parts);
    let more = false;
    items.forEach((item, place) => {
      const isLast = place === items.length - 1;
      if (this.#views[place].view.write(item, { isLast, revision })) more = true;
    });
    return more;
  }

  /** Show the parts of a reply that is over; resolves once they are on the page. */
  async settle(parts) {
    const items = this.#arrange(parts);
    await Promise.all(items.map((item, place) => this.#views[place].view.settle(item)));
  }

  /** Are all of these parts on the page? */
  isWhole(parts) {
    const items = itemsOf(parts);
    return items.length === this.#views.length && items.every((item, place) => this.#views[place].view.isWhole(item));
  }

  /** Give each item a view of its type, in its place. Returns the items. */
  #arrange(parts) {
    const items = itemsOf(parts);
    items.forEach(({ type }, place) => {
      const before = this.#views[place];
      if (before?.type === type) return;
      const view = viewOf(type);
      if (before) before.view.element.replaceWith(view.element);
      else this.element.append(view.element);
      this.#views[place] = { type, view };
    });
    for (const { view } of this.#views.splice(items.length)) view.element.remove();
    return items;
  }
}
