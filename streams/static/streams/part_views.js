/** The views of a reply's parts: one class for each type of part, with the same three methods. */

import { el, externalLink } from "./dom.js";
import { treeOf } from "./json_tree.js";
import { ReplyText } from "./reply_text.js";
import { ToolCall } from "./tool_call.js";

/** Formats text as Markdown: the last part while it streams, an earlier part as a whole. */
class Text {
  element = el("div", { class: "prose" });
  #content = new ReplyText(this.element);
  #settled = null;
  #settling = null; // the promise of the last `settle`

  write({ part }, { isLast, revision }) {
    if (!isLast) {
      this.settle({ part });
      return false;
    }
    this.#settled = null;
    return this.#content.write(part.text, revision);
  }

  /** Show text that is final; resolves once it is on the page. A repeated call waits for the first. */
  settle({ part }) {
    if (part.text !== this.#settled) {
      this.#settled = part.text;
      this.#settling = this.#content.settle(part.text);
    }
    return this.#settling;
  }

  isWhole({ part }) {
    return this.#content.isWhole(part.text);
  }
}

class Reasoning {
  #text = document.createTextNode("");
  #revision = null;
  element = el("details", { class: "thoughts" }, el("summary", {}, "Thinking"),
    el("div", { class: "thoughts-text", dir: "auto" }, this.#text));

  write({ part }, { revision }) {
    if (revision !== this.#revision) this.#text.data = "";
    this.#revision = revision;
    if (part.text.length > this.#text.length) this.#text.appendData(part.text.slice(this.#text.length));
    return false;
  }

  settle({ part }) {
    if (this.#text.data !== part.text) this.#text.data = part.text;
  }

  isWhole() {
    return true;
  }
}

/** A part that rarely changes. It is drawn again only if its JSON has changed. */
class Whole {
  #part = null;
  #shown = null; // the JSON of the part on the page

  write(item) {
    if (item.part === this.#part) return false;
    this.#part = item.part;
    const shown = JSON.stringify([item.part, item.number]);
    if (shown !== this.#shown) this.draw(item);
    this.#shown = shown;
    return false;
  }

  settle(item) {
    this.write(item);
  }

  isWhole() {
    return true;
  }
}

class Source extends Whole {
  element = el("span", { class: "source" });

  draw({ part: { title, url, source }, number }) {
    const line = [el("span", { class: "source-number" }, String(number)), el("bdi", {}, title || source)];
    const isWeb = /^https?:\/\//i.test(url ?? "") && URL.canParse(url);
    this.element.replaceChildren(...(isWeb ? [externalLink(url, { title: new URL(url).host }, ...line)] : line));
  }
}

class Data extends Whole {
  #name = el("bdi", {});
  #body = el("div", { class: "data-body" });
  element = el("details", { class: "data", open: true }, el("summary", {}, this.#name), this.#body);

  draw({ part: { name, data } }) {
    this.#name.textContent = name;
    this.#body.replaceChildren(treeOf(data));
  }
}

/** A part of a type that only a newer service has. It is not shown. */
class Unknown extends Whole {
  element = el("span", { hidden: true });

  draw() {}
}

const VIEWS = { text: Text, reasoning: Reasoning, tool_call: ToolCall, tool_result: ToolCall, source: Source, data: Data };

/** Create the view of a part. */
export const viewOf = (type) => new (VIEWS[type] ?? Unknown)();
