/** Text as it was written, of any length: it is only ever added to, in blocks that are laid out once. */

import { el } from "./dom.js";

const BLOCK = 2_000; // characters; the block ends with the line, or at the next word
const WORD = 4_000;

/** The text with one kind of line break, and without the NUL that Markdown replaces. */
export const cleaned = (text) => text.replace(/\r\n?/g, "\n").replaceAll("\0", "\ufffd");

export class PlainText {
  element = el("div", { class: "plain" });
  #text = null; // the text node that goes on

  add(text) {
    let rest = text;
    while (rest !== "") {
      if (this.#text === null) {
        this.#text = document.createTextNode("");
        this.element.append(el("div", { dir: "auto" }, this.#text));
      }
      const end = blockEnd(rest, this.#text.length);
      this.#text.appendData(rest.slice(0, end ?? rest.length));
      if (end === null) return;
      this.#text = null;
      rest = rest.slice(end);
    }
  }
}

/** Where the block ends in the text that is added to it, or null. */
function blockEnd(text, length) {
  const line = text.indexOf("\n", Math.max(BLOCK - length, 0));
  const word = text.indexOf(" ", Math.max(WORD - length, 0));
  const ends = [line, word].filter((place) => place >= 0);
  return ends.length === 0 ? null : Math.min(...ends) + 1;
}
