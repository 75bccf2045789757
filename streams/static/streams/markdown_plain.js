/**
 * Text of any length that is not formatted.
 *
 * Text is only appended, in blocks, so the browser lays out only the last block again.
 */

import { el } from "./dom.js";

const BLOCK = 2_000; // characters after which a block ends with its line
const WORD = 4_000; // characters after which a block ends with its word

/** The text with LF as its only line break, and U+FFFD for NUL as in CommonMark. */
export const cleaned = (text) => text.replace(/\r\n?/g, "\n").replaceAll("\0", "\ufffd");

export class PlainText {
  element = el("div", { class: "plain" });
  #text = null; // the text node of the block that has not ended

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

/** Where a block of `length` characters ends within the appended text, or null. */
function blockEnd(text, length) {
  const line = text.indexOf("\n", Math.max(BLOCK - length, 0));
  const word = text.indexOf(" ", Math.max(WORD - length, 0));
  const ends = [line, word].filter((place) => place >= 0);
  return ends.length === 0 ? null : Math.min(...ends) + 1;
}
