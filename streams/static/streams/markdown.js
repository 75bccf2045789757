/**
 * Formats a reply's Markdown on the page, by the same steps while it streams and when it is over.
 *
 * A finished reply is read in slices, so the page stays responsive. Text that is too long or
 * cannot be formatted is shown as plain text, with a sentence that says so.
 */

import { el } from "./dom.js";
import { morphChildren } from "./markdown_morph.js";
import { cleaned, PlainText } from "./markdown_plain.js";
import { Reading } from "./markdown_reading.js";

const PIECE = 12_000; // characters taken between two frames
const STEP = 4_000; // characters of a finished reply that are taken between two readings
const SLICE = 8; // milliseconds of reading before the browser gets control
const HIDDEN = 100; // the same on a hidden page, whose timers run rarely
const SHORT = 1_000; // characters of the open end; a longer one is read again less often
const SHARE = 1 / 8; // the part of the time that may go into reading a long open end again
export const LONGEST = 250_000; // characters of a reply that are formatted, up to the end of a line
const LINE = 2_000; // characters after which that line is cut

const TOO_LONG = "This reply is very long. The rest of it is shown as plain text.";
const UNREADABLE = "This reply could not be formatted. It is shown as plain text.";

const turn = () => new Promise((next) => setTimeout(next, 0));

export class Markdown {
  #root;
  #revision = null;
  #text = ""; // the part of the reply that was taken
  #count = 0; // characters of that part, after cleaning
  #reading;
  #rest = null; // text beyond LONGEST that is not on the page yet
  #plain = null; // shows the text that is not formatted
  #steps = null; // the generator of a reading that is in progress
  #cost = 0; // milliseconds that this reading has taken
  #due = 0; // when the next reading may begin
  #final = null; // the text of the finished reply
  #settling = null; // the promise of the last `settle`
  #isOver = false; // all of the final text is on the page

  constructor(root) {
    this.#root = root;
    this.#reading = new Reading(root);
  }

  /** Show more of a reply that is being written. Returns whether there is more to show. */
  write(text, revision) {
    this.#revision ??= revision;
    if (revision !== this.#revision || this.#final !== null || text.length < this.#text.length) this.#begin(revision);
    if (this.#steps !== null) return this.#advance(SLICE) ? this.#text.length < text.length : true;
    const took = this.#take(text, PIECE);
    if (!this.#plain) {
      const isShort = this.#reading.openLength < SHORT;
      if (!isShort && this.#rest === null && performance.now() < this.#due) {
        this.#reading.showPlain();
        return true;
      }
      this.#steps = this.#show();
      // The first reading replaces plain text, and the page must not be empty during the reading.
      if (!this.#advance(isShort || !this.#root.hasChildNodes() ? Infinity : SLICE)) return true;
    }
    return took && this.#text.length < text.length;
  }

  /** Show a finished reply; resolves once it is on the page, or is superseded. */
  settle(text) {
    if (this.#final !== text) this.#settling = this.#settle(text);
    return this.#settling;
  }

  async #settle(text) {
    if (this.#final !== null || !text.startsWith(this.#text)) this.#begin(this.#revision);
    this.#final = text;
    // Build a new reply off the page. Otherwise the browser would lay it out after each slice.
    const place = this.#text === "" ? el("div") : this.#root;
    if (place !== this.#root) this.#reading = new Reading(place);
    const reading = this.#reading;
    this.#steps = this.#read(text, this.#steps);
    if (!(await this.#finish())) return;
    if (place !== this.#root && this.#reading === reading) this.#root.replaceChildren(...place.childNodes);
    this.#isOver = true;
    // A link may be used before its definition. All definitions are known now, so read once more.
    if (Object.keys(reading.references).length === 0 || this.#plain) return;
    const again = new Markdown(el("div"));
    again.#reading = new Reading(again.#root, reading.references);
    again.#final = text;
    again.#steps = again.#read(text);
    await again.#finish();
    if (this.#reading !== reading) return;
    this.#steps = morphChildren(this.#root, null, [...again.#root.childNodes]);
    await this.#finish();
  }

  /** Is all of this final text on the page? */
  isWhole(text) {
    return this.#final === text && this.#isOver;
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
    this.#final = null;
    this.#isOver = false;
  }

  /** Show the text that was taken. */
  *#show() {
    if (this.#rest !== null) return yield* this.#end();
    yield* this.#reading.settle();
    yield* this.#reading.showEnd();
  }

  /** Read all of a finished reply. An open end is read again only once it has doubled. */
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

  /** Stop formatting, and show the rest as plain text. */
  *#end() {
    yield* this.#reading.settle(true);
    this.#stayPlain(this.#rest, TOO_LONG);
    this.#rest = null;
  }

  /** Take all steps, in slices. Returns false if other steps have begun in between. */
  async #finish() {
    const steps = this.#steps;
    while (!this.#advance(document.hidden ? HIDDEN : SLICE)) {
      await turn();
      if (this.#steps !== steps) return false;
    }
    return true;
  }

  /** Take steps for `slice` milliseconds. Returns whether all steps are taken. */
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

  /** Show all of the text as plain text, because formatting has failed. */
  #failed() {
    this.#root.replaceChildren();
    this.#reading = new Reading(this.#root);
    this.#rest = null;
    this.#plain = null;
    this.#text = this.#final ?? this.#text;
    this.#stayPlain(cleaned(this.#text), UNREADABLE);
  }

  /** Take the next piece of the text. Returns whether there was one. */
  #take(text, size) {
    const start = this.#text.length;
    let end = Math.min(start + size, text.length);
    // Leave half of a surrogate pair or of a CR LF for the next piece.
    if (end > start && /[\ud800-\udbff\r]/.test(text[end - 1]) && (this.#final === null || end < text.length)) end -= 1;
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
