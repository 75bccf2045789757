/** A code block that is being written. Text is only appended, so a long block costs no more. */

import { dressCode, highlight } from "./code_blocks.js";
import { el } from "./dom.js";
import { languageOf } from "./markdown_dom.js";

const NODE = 8_000; // characters of one text node, because browsers copy a node to append to it

export class OpenCode {
  element;
  isOpen = true;
  #code = el("code");
  #closing;
  #lines = 0;
  #begun = false; // a part of the current line is on the page
  #partial = 0; // characters of the current line that are on the page

  /** `head` is the line that opens the block. */
  constructor(head) {
    const [, fence, info] = /^(`{3,}|~{3,})(.*)$/.exec(head);
    this.element = dressCode(el("pre", {}, this.#code), languageOf(info));
    this.#closing = new RegExp(`^ {0,3}\\${fence[0]}{${fence.length},}[ \\t]*$`);
  }

  /** Take the lines of `text` up to the block's end. Returns the text after them. */
  write(text, isLast) {
    let start = 0;
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", start)) {
      const line = text.slice(start, end);
      start = end + 1;
      if (this.#closing.test(line)) return this.#close(text.slice(start));
      this.#line(line);
    }
    const rest = text.slice(start);
    if (isLast) {
      if (rest !== "" && !this.#closing.test(rest)) this.#line(rest);
      return this.#close("");
    }
    if (!/^ {0,3}[`~]*[ \t]*$/.test(rest)) this.#show(rest);
    return rest;
  }

  #line(line) {
    this.#show(line);
    this.#lines += 1;
    this.#begun = false;
    this.#partial = 0;
  }

  /** Show the new part of the current line. */
  #show(line) {
    // Write a line break before each line except the first, so the block does not end with one.
    const end = this.#begun || this.#lines === 0 ? "" : "\n";
    this.#begun = true;
    this.#add(end + line.slice(this.#partial));
    this.#partial = line.length;
  }

  #add(text) {
    const last = this.#code.lastChild;
    if (last && last.length < NODE) last.appendData(text);
    else if (text !== "") this.#code.append(text);
  }

  #close(rest) {
    this.isOpen = false;
    this.#code.normalize();
    highlight(this.#code);
    return rest;
  }
}
