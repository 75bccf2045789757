/**
 * A reply's Markdown on the page: written once as it comes, read once more when it is over.
 *
 * While it streams, `streaming-markdown` only ever adds to what is there. At the ending `marked`
 * reads the whole by the full grammar, DOMPurify goes over that, and only blocks that came out
 * differently are replaced, so that a reader's selection and place stay.
 *
 * Hostile text is text: HTML is never interpreted, an image becomes a link to it, and a link
 * goes to http, https or mail and nowhere else.
 */

import * as smd from "./vendor/smd.min.js";
import { dressCode, highlight, isSameCode } from "./code.js";
import { el } from "./dom.js";

const PIECE = 12_000; // characters written between two frames

/** The address, if a reader may be sent there, else null. */
export function safeAddress(address) {
  if (!/^(https?:\/\/|mailto:)/i.test(address)) return null;
  return URL.canParse(address) ? address : null;
}

export function dressLink(link, address) {
  const safe = safeAddress(address);
  if (safe === null) return link.removeAttribute("href");
  link.setAttribute("href", safe);
  link.setAttribute("rel", "noopener noreferrer");
  link.setAttribute("target", "_blank");
}

export function dressTable(table) {
  const frame = { class: "table", tabindex: "0", role: "region", "aria-label": "Table" };
  return el("div", frame, table);
}

/** streaming-markdown's renderer, but for what must not be or needs more around it. */
function streamed(root) {
  const renderer = smd.default_renderer(root);
  const { add_token: add, end_token: end, set_attr: set } = renderer;
  const put = (data, outer, inner) => {
    data.nodes[data.index].append(outer);
    data.nodes[++data.index] = inner;
  };
  const heading = (data, level) => {
    const element = el(`h${Math.min(level + 2, 6)}`);
    put(data, element, element);
  };
  const headings = [smd.HEADING_1, smd.HEADING_2, smd.HEADING_3, smd.HEADING_4, smd.HEADING_5, smd.HEADING_6];
  renderer.add_token = (data, type) => {
    if (headings.includes(type)) return heading(data, headings.indexOf(type) + 1);
    switch (type) {
      case smd.CODE_BLOCK:
      case smd.CODE_FENCE: {
        const code = el("code");
        return put(data, dressCode(el("pre", {}, code)), code);
      }
      case smd.IMAGE: {
        const link = el("a", { class: "image" });
        return put(data, link, link);
      }
      case smd.CHECKBOX: {
        const box = document.createTextNode("☐ ");
        return put(data, box, box);
      }
      case smd.TABLE: {
        const table = el("table");
        return put(data, dressTable(table), table);
      }
      case smd.EQUATION_BLOCK:
      case smd.EQUATION_INLINE: {
        const code = el("code", { class: "math" });
        return put(data, code, code);
      }
      default:
        return add(data, type);
    }
  };
  renderer.end_token = (data) => {
    const node = data.nodes[data.index];
    if (node.parentElement?.tagName === "PRE") highlight(node);
    end(data);
  };
  renderer.add_text = (data, text) => {
    const node = data.nodes[data.index];
    if (node.lastChild?.nodeType === Node.TEXT_NODE) node.lastChild.appendData(text);
    else node.append(text);
  };
  renderer.set_attr = (data, type, value) => {
    const node = data.nodes[data.index];
    if (type === smd.HREF || type === smd.SRC) dressLink(node, value);
    else if (type === smd.CHECKED) node.data = "☑ ";
    else if (type === smd.LANG) dressCode(node.parentElement, value);
    else if (type === smd.START) node.setAttribute("start", Number.parseInt(value, 10) || 1);
    else set(data, type, value);
  };
  return renderer;
}

let grammar = null; // the module, once a reply is over

export class Prose {
  #root;
  #parser = null;
  #epoch = 0;
  #written = 0;
  #settled = null;

  constructor(root) {
    this.#root = root;
  }

  /** Go on with a reply that is being written. Says whether there is more to write. */
  write(text, epoch) {
    if (this.#parser === null || epoch !== this.#epoch || text.length < this.#written) {
      this.#root.replaceChildren();
      this.#parser = smd.parser(streamed(this.#root));
      this.#written = 0;
      this.#epoch = epoch;
      this.#settled = null;
    }
    let piece = text.slice(this.#written, this.#written + PIECE);
    if (/[\uD800-\uDBFF]$/.test(piece)) piece = piece.slice(0, -1); // half a character
    if (piece === "") return false;
    smd.parser_write(this.#parser, piece);
    this.#written += piece.length;
    return this.#written < text.length;
  }

  /** Show a reply that is over. */
  async settle(text) {
    if (this.#settled === text) return;
    // The first reading will do until the grammar is here.
    if (grammar === null || this.#parser) {
      while (this.write(text, this.#epoch));
      if (this.#parser) smd.parser_end(this.#parser);
    }
    this.#parser = null;
    this.#settled = text;
    const { rendered } = await (grammar ??= import("./grammar.js"));
    if (this.#settled !== text) return;
    this.#root.normalize();
    const fresh = [...rendered(text).childNodes];
    const old = [...this.#root.childNodes];
    fresh.forEach((block, place) => {
      const before = old[place];
      if (before === undefined) this.#root.append(block);
      else if (!isSame(before, block)) before.replaceWith(block);
    });
    old.slice(fresh.length).forEach((block) => block.remove());
    for (const code of this.#root.querySelectorAll("pre > code")) highlight(code);
  }
}

function isSame(one, other) {
  if (one.nodeType === Node.ELEMENT_NODE && one.classList.contains("code")) return isSameCode(one, other);
  return one.isEqualNode(other);
}
