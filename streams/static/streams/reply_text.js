/**
 * The text of one reply: plain until the Markdown modules are loaded, formatted from then on.
 *
 * The Markdown modules are most of the page's weight, and an empty conversation needs none of
 * them. The first reply loads them, after the frame in which it appears has been painted.
 */

import { el } from "./dom.js";
import { cleaned, PlainText } from "./markdown_plain.js";

const TRIES = 3; // to load the modules, for one reply
const PAUSE = 1_000; // milliseconds before the second try; the third waits twice as long
const NOT_LOADED = "The formatting could not be loaded. This reply is shown as plain text.";

let Markdown = null; // the class, once it is loaded
let loading = null; // the promise of that load, which all replies share

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function load() {
  loading ??= download().finally(() => (loading = null));
  return loading;
}

async function download() {
  await wait(0); // replies are created before a frame is painted; a timer runs after that
  for (let tried = 1; ; tried += 1) {
    try {
      // The parser is the largest file and the last in the chain of imports, so fetch it at once.
      const parser = import("./vendor/markdown-it.min.js");
      [{ Markdown }] = await Promise.all([import("./markdown.js"), parser]);
      return;
    } catch (error) {
      if (tried === TRIES) throw error;
      await wait(PAUSE * tried);
    }
  }
}

export class ReplyText {
  #root;
  #markdown = null; // formats the text, once the modules are loaded
  #hasFailed = false; // whether the modules could not be loaded
  #plain = null; // shows the text until the modules are loaded
  #length = 0; // characters of the plain text
  #revision = null; // of the plain text
  #final = null; // the text of a reply that is over

  constructor(root) {
    this.#root = root;
    if (Markdown) this.#markdown = new Markdown(root);
    else this.#load();
  }

  /** Show the text of a reply that is being written. Returns whether there is more to show. */
  write(text, revision) {
    this.#final = null;
    if (this.#markdown === null) {
      this.#showPlain(text, revision);
      return !this.#hasFailed;
    }
    if (this.#plain) this.#root.replaceChildren();
    this.#plain = null;
    return this.#markdown.write(text, revision);
  }

  /** Show the text of a reply that is over; resolves once it is on the page, or is superseded. */
  async settle(text) {
    this.#final = text;
    if (this.#markdown === null) {
      if (this.#plain) this.#showPlain(text, this.#revision);
      await this.#load();
      if (this.#final !== text) return;
      if (this.#markdown === null) return this.#stayPlain(text);
    }
    // The formatted text replaces the plain text when all of it is ready.
    this.#plain = null;
    await this.#markdown.settle(text);
  }

  /** Is all of this final text on the page? */
  isWhole(text) {
    return this.#markdown === null ? this.#hasFailed && this.#final === text : this.#markdown.isWhole(text);
  }

  async #load() {
    this.#hasFailed = false;
    try {
      await load();
      this.#markdown ??= new Markdown(this.#root);
    } catch (error) {
      console.error(error);
      this.#hasFailed = true;
    }
  }

  #showPlain(text, revision) {
    if (this.#plain === null || revision !== this.#revision || text.length < this.#length) {
      this.#plain = new PlainText();
      this.#length = 0;
      this.#revision = revision;
      this.#root.replaceChildren(this.#plain.element);
    }
    this.#plain.add(cleaned(text.slice(this.#length)));
    this.#length = text.length;
  }

  /** Show all of the text as plain text, because the modules cannot be loaded. */
  #stayPlain(text) {
    this.#plain = null;
    this.#showPlain(text, this.#revision);
    this.#root.prepend(el("p", { class: "plain-why" }, NOT_LOADED));
  }
}
