/**
 * A reply's Markdown on the page: one reading, the same while it streams and when it is over.
 *
 * A reply that is over is read in slices, between which the page has its turn. Whatever cannot
 * be formatted, or is too long to be, is shown as plain text, with a sentence that says so.
 */

import { el } from "./dom.js";
import { morphChildren } from "./markdown_morph.js";
import { cleaned, PlainText } from "./markdown_plain.js";
import { Reading } from "./markdown_reading.js";

const PIECE = 12_000; // characters taken between two frames
const STEP = 4_000; // characters taken of a reply that is over, before what has closed is read
const SLICE = 8; // milliseconds of reading, before the page has its turn
const HIDDEN = 100; // the same where nobody looks; a hidden page has few turns
const SHORT = 1_000; // characters of an open end: above, it is read again less often
const SHARE = 1 / 8; // of the time, at most, goes into reading it again
export const LONGEST = 250_000; // characters of a reply that are formatted, up to its line's end
const LINE = 2_000;

const TOO_LONG = "This reply is very long. The rest of it is shown as plain text.";
const UNREADABLE = "This reply could not be formatted. It is shown as plain text.";

const turn = () => new Promise((next) => setTimeout(next, 0));

export class Markdown {
  #root;
  #revision = null;
  #text = ""; // what was taken of the reply
  #count = 0; // its characters
  #reading;
  #rest = null; // what was taken beyond the part that is formatted
  #plain = null; // what the rest is added to, once it is not formatted any more
  #steps = null; // of a reading that has begun and is not over
  #cost = 0; // milliseconds that it has taken
  #due = 0; // when the next may begin
  #whole = null; // the reply, once it is over
  #isOver = false; // and all of it stands on the page

  constructor(root) {
    this.#root = root;
    this.#reading = new Reading(root);
  }

  /** Go on with a reply that is being written. Says whether there is more to write. */
  write(text, revision) {
    this.#revision ??= revision;
    if (revision !== this.#revision || this.#whole !== null || text.length < this.#text.length) this.#begin(revision);
    if (this.#steps !== null) return this.#advance(SLICE) ? this.#text.length < text.length : true;
    const took = this.#take(text, PIECE);
    if (!this.#plain) {
      const isShort = this.#reading.openLength < SHORT;
      if (!isShort && this.#rest === null && performance.now() < this.#due) {
        this.#reading.showPlain();
        return true;
      }
      this.#steps = this.#show();
      if (!this.#advance(isShort ? Infinity : SLICE)) return true;
    }
    return took && this.#text.length < text.length;
  }

  /** Show a reply that is over. */
  async settle(text) {
    if (this.#whole === text) return;
    if (this.#whole !== null || !text.startsWith(this.#text)) this.#begin(this.#revision);
    this.#whole = text;
    // Nothing is laid out between the slices of a reply of which nothing is on the page yet.
    const place = this.#text === "" ? el("div") : this.#root;
    if (place !== this.#root) this.#reading = new Reading(place);
    const reading = this.#reading;
    this.#steps = this.#read(text, this.#steps);
    if (!(await this.#finish(text))) return;
    if (place !== this.#root && this.#reading === reading) this.#root.replaceChildren(...place.childNodes);
    this.#isOver = true;
    // A link may be defined after it was used: with all definitions known, it is read once more.
    if (Object.keys(reading.references).length === 0 || this.#plain) return;
    const again = new Markdown(el("div"));
    again.#reading = new Reading(again.#root, reading.references);
    again.#whole = text;
    again.#steps = again.#read(text);
    await again.#finish(text);
    if (this.#whole !== text) return;
    this.#steps = morphChildren(this.#root, null, [...again.#root.childNodes]);
    await this.#finish(text);
  }

  /** Does all of this text, which is over, stand on the page? */
  isWhole(text) {
    return this.#whole === text && this.#isOver;
  }

  #begin(revision) {
    this.#root.replaceChildren();
    this.#revision = revision;
    this.#text = "";
    this.#count = 0;
    this.#reading = new Reading(this.#root);
    this.#rest = null;
    this.#plain = null;
    this.#steps = null;
    this.#cost = 0;
    this.#due = 0;
    this.#whole = null;
    this.#isOver = false;
  }

  /** Bring what was taken to the page. */
  *#show() {
    if (this.#rest !== null) return yield* this.#end();
    yield* this.#reading.settle();
    yield* this.#reading.showEnd();
  }

  /** Read all of a reply; what has not closed by twice its length is not looked at before. */
  *#read(text, begun = null) {
    if (begun !== null) yield* begun;
    let length = 0;
    while (this.#take(text, STEP)) {
      const { openLength } = this.#reading;
      if (this.#rest !== null) yield* this.#end();
      else if (openLength < length || openLength >= 2 * length) {
        yield* this.#reading.settle();
        length = this.#reading.openLength;
      }
      yield;
    }
    if (!this.#plain) yield* this.#reading.settle(true);
  }

  /** Format no more: the rest is plain. */
  *#end() {
    yield* this.#reading.settle(true);
    this.#stayPlain(this.#rest, TOO_LONG);
    this.#rest = null;
  }

  /** Take all steps, with turns for the page. Says whether the reply is still the one to be shown. */
  async #finish(text) {
    while (!this.#advance(document.hidden ? HIDDEN : SLICE)) {
      await turn();
      if (this.#whole !== text) return false;
    }
    return true;
  }

  /** Take steps for so many milliseconds; says whether all are taken. */
  #advance(slice) {
    const start = performance.now();
    let isDone = false;
    try {
      do isDone = this.#steps.next().done; while (!isDone && performance.now() - start < slice);
    } catch (error) {
      console.error(error);
      this.#failed();
      isDone = true;
    }
    const now = performance.now();
    this.#cost += now - start;
    if (!isDone) return false;
    this.#steps = null;
    this.#due = now + this.#cost * (1 / SHARE - 1);
    this.#cost = 0;
    return true;
  }

  /** What fails to be formatted is still to be read. */
  #failed() {
    this.#root.replaceChildren();
    this.#reading = new Reading(this.#root);
    this.#rest = null;
    this.#plain = null;
    this.#text = this.#whole ?? this.#text;
    this.#stayPlain(cleaned(this.#text), UNREADABLE);
  }

  /** Take the next piece of the text; says whether there was one. */
  #take(text, size) {
    const start = this.#text.length;
    let end = Math.min(start + size, text.length);
    // Half a character waits for its other half, and so does half a line's end.
    if (end > start && /[\ud800-\udbff\r]/.test(text[end - 1]) && (this.#whole === null || end < text.length)) end -= 1;
    if (end <= start) return false;
    const piece = cleaned(text.slice(start, end));
    this.#text = text.slice(0, end);
    if (this.#plain) this.#plain.add(piece);
    else this.#add(piece);
    return true;
  }

  #add(piece) {
    const room = LONGEST - this.#count;
    this.#count += piece.length;
    const end = piece.indexOf("\n", Math.max(room, 0)) + 1 || room + LINE;
    if (room > piece.length || end > piece.length) return this.#reading.add(piece);
    this.#reading.add(piece.slice(0, end));
    this.#rest = piece.slice(end);
  }

  #stayPlain(rest, sentence) {
    this.#plain = new PlainText();
    this.#plain.add(rest);
    this.#reading.append(el("p", { class: "plain-why" }, sentence), this.#plain.element);
  }
}
