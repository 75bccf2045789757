/**
 * Reads one reply piece by piece. A block that no later text can change is read once.
 *
 * Only the open end is read again with new text: the last paragraph, or the last item of a
 * list. Complete rows of a table and the lines of an open code block are read once. A very long
 * open end is shown as plain text until it closes. All reading is done by generators in steps,
 * so that the browser can get control in between.
 */

import { highlight } from "./code_blocks.js";
import { OpenCode } from "./markdown_code.js";
import { elementsOf, kindOf } from "./markdown_dom.js";
import { morphChildren } from "./markdown_morph.js";
import { PlainText } from "./markdown_plain.js";
import { settledLines, shown } from "./markdown_tail.js";
import { blocksOf, tokensOf } from "./markdown_tokens.js";

const OPEN = 16_000; // characters; a longer open end is not formatted until it closes

export class Reading {
  references;
  #root;
  #tail = ""; // the open end: text whose meaning later text may change
  #last = null; // the last block on the page that is settled, at least in part
  #open = null; // {kind, holder, last, head} of the last block, if that list or table may go on
  #code = null; // the code block that is being written
  #shown = 0; // characters of the tail that are on the page
  #plain = null; // shows the characters that are not formatted yet

  /** `references` are link definitions of an earlier reading. */
  constructor(root, references = Object.create(null)) {
    this.#root = root;
    this.references = references;
  }

  /** How many characters are read again with the next text. */
  get openLength() {
    return this.#code ? 0 : this.#tail.length;
  }

  add(text) {
    this.#tail += text;
  }

  /** Show the text that no later text can change; at the end, show all text. */
  *settle(isEnd = false) {
    do {
      if (!this.#settleCode(isEnd)) return;
    } while (yield* this.#settleBlocks(isEnd));
    if (isEnd) yield* morphChildren(this.#root, this.#last, []);
  }

  /** Show the open end as it is now. */
  *showEnd() {
    if (this.#code) return;
    if (this.#tail.length > OPEN) return this.showPlain();
    const { length } = this.#tail;
    const head = this.#open?.head ?? "";
    const text = head + shown(this.#tail, head !== "");
    yield* this.#put(yield* tokensOf(text, Object.create(this.references)));
    this.#shown = length;
  }

  /** Show the new part of an open end that is too long to be formatted yet. */
  showPlain() {
    if (this.#tail.length <= OPEN || this.#code) return;
    if (this.#plain === null) {
      if (this.#shown === 0) this.append();
      this.#plain = new PlainText();
      this.#root.append(this.#plain.element);
    }
    this.#plain.add(this.#tail.slice(this.#shown));
    this.#shown = this.#tail.length;
  }

  /** Remove everything that is not settled from the page, then append these nodes. */
  append(...nodes) {
    this.#plain = null;
    this.#shown = 0;
    const { holder, last } = this.#open ?? { holder: this.#root, last: this.#last };
    while (holder.lastChild !== last) holder.lastChild.remove();
    while (this.#root.lastChild !== this.#last) this.#root.lastChild.remove();
    this.#root.append(...nodes);
  }

  /** Write to the open code block. Returns whether no code block is open now. */
  #settleCode(isEnd) {
    if (this.#code === null) return true;
    this.#tail = this.#code.write(this.#tail, isEnd);
    if (this.#code.isOpen) return false;
    this.#code = null;
    return true;
  }

  /** Settle all blocks that have closed. Returns whether a code block was opened. */
  *#settleBlocks(isEnd) {
    const head = this.#open?.head ?? "";
    const text = head + (isEnd ? this.#tail : this.#tail.slice(0, this.#tail.lastIndexOf("\n") + 1));
    if (text === head && !isEnd) return false;
    const found = isEnd ? { lines: Infinity } : settledLines(blocksOf(text, Object.create(this.references)), text);
    const end = lineStart(text, found.lines);
    if (end > head.length || (found.fence && this.#open)) {
      const tokens = yield* tokensOf(text.slice(0, end), this.references);
      this.#keep(yield* this.#put(tokens, true), found);
      this.#tail = this.#tail.slice(end - head.length);
    }
    if (found.fence) this.#openCode();
    return Boolean(found.fence);
  }

  /** Show these blocks behind the settled ones. The first may continue the open block. */
  *#put(tokens, leave = false) {
    let blocks = yield* elementsOf(tokens);
    this.#plain?.element.remove();
    this.#plain = null;
    this.#shown = 0;
    let items = [];
    if (this.#open) {
      if (blocks.length > 0 && kindOf(tokens[0]) === this.#open.kind) items = [...holderOf(blocks.shift()).children];
      items = yield* morphChildren(this.#open.holder, this.#open.last, items);
    }
    blocks = yield* morphChildren(this.#root, this.#last, blocks, leave);
    return { items, blocks, hasCode: tokens.some(({ type }) => type === "fence" || type === "code_block") };
  }

  /** Mark the blocks of the last `#put` as settled; a block of the kind `goesOn` stays open. */
  #keep({ items, blocks, hasCode }, { goesOn, head }) {
    for (const block of hasCode ? [...items, ...blocks] : []) {
      for (const code of block.querySelectorAll("pre > code")) highlight(code);
    }
    const isSame = blocks.length === 0;
    this.#last = blocks.at(-1) ?? this.#last;
    const holder = isSame ? this.#open?.holder : holderOf(this.#last);
    const last = isSame ? items.at(-1) ?? this.#open?.last : holder.lastChild;
    this.#open = goesOn ? { kind: goesOn, head, holder, last } : null;
  }

  #openCode() {
    const end = this.#tail.indexOf("\n");
    this.#code = new OpenCode(this.#tail.slice(0, end));
    this.#tail = this.#tail.slice(end + 1);
    this.append();
    this.#last = this.#root.appendChild(this.#code.element);
  }
}

/** The element that contains the items of a list, or the rows of a table. */
const holderOf = (block) => block.querySelector(":scope > table")?.tBodies[0] ?? block;

/** Where the line of this number begins. */
function lineStart(text, line) {
  if (line === Infinity) return text.length;
  let place = 0;
  for (let count = 0; count < line; count += 1) place = text.indexOf("\n", place) + 1;
  return place;
}
