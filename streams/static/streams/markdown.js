/**
 * A reply's Markdown on the page: one reading, the same while it streams and when it is over.
 *
 * A reply that is over is read in slices, between which the page has its turn. Whatever cannot
 * be formatted, or is too long to be, is shown as plain text, with a sentence that says so.
 */

import { el } from "./dom.js";
import { morphChildren } from "./markdown_morph.js";
import { Reading } from "./markdown_reading.js";

const PIECE = 12_000; // characters taken between two frames
const SLICE = 8; // milliseconds of a reply that is over, before the page has its turn
const LONG = 4_000; // characters of an open end: above, it is read again less often
const GROWTH = 1 / 32; // as soon as it has grown by this part of itself
const PATIENCE = 400; // or after so many milliseconds
export const LONGEST = 250_000; // characters of a reply that are formatted, up to its line's end
const LINE = 2_000;

const TOO_LONG = "This reply is very long. The rest of it is shown as plain text.";
const UNREADABLE = "This reply could not be formatted. It is shown as plain text.";

const turn = () => new Promise((next) => setTimeout(next, 0));

export class Markdown {
  #root;
  #epoch = null;
  #text = ""; // what was taken of the reply
  #count = 0; // its characters
  #reading;
  #plain = null; // the text node that the rest goes into
  #last = { length: 0, at: -PATIENCE }; // the open end, when it was last shown
  #whole = null; // the reply, once it is over

  constructor(root) {
    this.#root = root;
    this.#reading = new Reading(root);
  }

  /** Go on with a reply that is being written. Says whether there is more to write. */
  write(text, epoch) {
    this.#epoch ??= epoch;
    if (epoch !== this.#epoch || this.#whole !== null || text.length < this.#text.length) this.#begin(epoch);
    const took = this.#take(text, PIECE);
    const isShown = this.#guarded(() => this.#show());
    return !isShown || (took && this.#text.length < text.length);
  }

  /** Show a reply that is over. */
  async settle(text) {
    if (this.#whole === text) return;
    if (this.#whole !== null || !text.startsWith(this.#text)) this.#begin(this.#epoch);
    this.#whole = text;
    if (!(await this.#read(text))) return;
    this.#guarded(() => this.#reading.settle(true));
    const { references } = this.#reading;
    // A link may be defined after it was used: with all definitions known, it is read once more.
    if (Object.keys(references).length === 0 || this.#plain) return;
    const again = new Markdown(el("div"));
    again.#reading = new Reading(again.#root, references);
    again.#whole = text;
    await again.#read(text);
    again.#guarded(() => again.#reading.settle(true));
    if (this.#whole === text) morphChildren(this.#root, null, [...again.#root.childNodes]);
  }

  #begin(epoch) {
    this.#root.replaceChildren();
    this.#epoch = epoch;
    this.#text = "";
    this.#count = 0;
    this.#reading = new Reading(this.#root);
    this.#plain = null;
    this.#last = { length: 0, at: -PATIENCE };
    this.#whole = null;
  }

  /** Read a whole reply, in slices. Says whether it is still the one to be shown. */
  async #read(text) {
    let since = performance.now();
    while (this.#take(text, LONG)) {
      this.#guarded(() => this.#isDue() && this.#settle());
      if (performance.now() - since < SLICE) continue;
      await turn();
      if (this.#whole !== text) return false;
      since = performance.now();
    }
    return true;
  }

  /** Take the next piece of the text; says whether there was one. */
  #take(text, size) {
    const start = this.#text.length;
    let end = Math.min(start + size, text.length);
    // Half a character waits for its other half, and so does half a line's end.
    if (end > start && /[\ud800-\udbff\r]/.test(text[end - 1]) && (this.#whole === null || end < text.length)) end -= 1;
    if (end <= start) return false;
    const piece = text.slice(start, end).replace(/\r\n?/g, "\n").replaceAll("\0", "\ufffd");
    this.#text = text.slice(0, end);
    if (this.#plain) this.#plain.appendData(piece);
    else this.#add(piece);
    return true;
  }

  #add(piece) {
    const room = LONGEST - this.#count;
    this.#count += piece.length;
    const end = piece.indexOf("\n", Math.max(room, 0)) + 1 || room + LINE;
    if (room > piece.length || end > piece.length) return this.#reading.add(piece);
    this.#reading.add(piece.slice(0, end));
    this.#guarded(() => this.#reading.settle(true));
    this.#stayPlain(piece.slice(end), TOO_LONG);
  }

  #isDue() {
    const { length, at } = this.#last;
    const { openLength } = this.#reading;
    return openLength < LONG || openLength >= length * (1 + GROWTH) || openLength < length
      || performance.now() >= at + PATIENCE;
  }

  #settle() {
    this.#reading.settle();
    this.#last = { length: this.#reading.openLength, at: performance.now() };
  }

  /** Says whether the page shows all that was taken. */
  #show() {
    if (!this.#isDue()) return false;
    this.#settle();
    this.#reading.showEnd();
    this.#last.at = performance.now();
    return true;
  }

  /** Read on; what fails to be formatted is still to be read. */
  #guarded(read) {
    if (this.#plain) return true;
    try {
      return read();
    } catch (error) {
      console.error(error);
      this.#root.replaceChildren();
      this.#reading = new Reading(this.#root);
      this.#stayPlain(this.#text, UNREADABLE);
      return true;
    }
  }

  #stayPlain(rest, sentence) {
    if (this.#plain) return this.#plain.appendData(rest);
    this.#plain = document.createTextNode(rest);
    const words = el("div", { class: "plain", dir: "auto" });
    words.append(this.#plain);
    this.#reading.append(el("p", { class: "plain-why" }, sentence), words);
  }
}
