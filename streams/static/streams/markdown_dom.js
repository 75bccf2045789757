/**
 * Creates elements from the tokens of a reply, without any HTML in between.
 *
 * Hostile text stays text: elements come from the closed list below, and text is set as text. A
 * link leads to http, https or mailto only. An image becomes a link to the image.
 */

import { dressCode } from "./code_blocks.js";
import { el, externalLink } from "./dom.js";

/** The address if a link may lead there, otherwise null. */
export function safeAddress(address) {
  if (!/^(https?:\/\/|mailto:)/i.test(address)) return null;
  return URL.canParse(address) ? address : null;
}

function link(address, attributes = {}) {
  const href = safeAddress(address);
  if (href === null) return el("a", attributes);
  return externalLink(href, attributes);
}

/** Block elements by the type of their token. */
const BLOCKS = {
  paragraph_open: "p", blockquote_open: "blockquote", bullet_list_open: "ul", ordered_list_open: "ol",
  list_item_open: "li", table_open: "table", thead_open: "thead", tbody_open: "tbody", tr_open: "tr",
  th_open: "th", td_open: "td",
};
const INLINES = { em_open: "em", strong_open: "strong", s_open: "s" };
// The text of each of these determines its direction (dir="auto").
const DIRECTED = new Set(["P", "H3", "H4", "H5", "H6", "BLOCKQUOTE", "LI", "TD"]);

/** The kind of a list or table. Later text can continue only a block of the same kind. */
export const kindOf = (token) => `${token.type}${token.markup}`;

/** Generator in steps; returns the elements of these tokens. */
export function* elementsOf(tokens) {
  const root = document.createDocumentFragment();
  let here = root;
  let cells = []; // tokens of the cells at the end of a row that are empty so far
  for (const token of tokens) {
    if (token.nesting < 0) yield;
    if (token.type === "td_open") cells.push(token);
    else if (token.type === "td_close") here = here.tagName === "TD" ? closed(here) : here;
    else if (token.nesting > 0) here = here.appendChild(opened(token));
    else if (token.nesting < 0) {
      // markdown-it fills a short row with empty cells; leave them out.
      cells = [];
      here = closed(here);
    } else if (token.type === "inline" && cells.length === 0) yield* writeAll(here, token);
    else if (token.type === "inline") {
      if (token.content === "") continue;
      for (const cell of cells.splice(0, cells.length - 1)) closed(here.appendChild(opened(cell)));
      here = here.appendChild(opened(cells.pop()));
      yield* writeAll(here, token);
    } else if (token.type === "hr") here.append(el("hr"));
    else if (token.type === "fence") here.append(codeBlock(token.content, languageOf(token.info)));
    else here.append(codeBlock(token.content, ""));
  }
  return [...root.childNodes];
}

function opened(token) {
  const heading = token.type === "heading_open";
  const tag = heading ? `h${Math.min(Number(token.tag[1]) + 2, 6)}` : BLOCKS[token.type] ?? "p";
  const align = /^text-align:(left|right|center)$/.exec(token.attrGet("style") ?? "")?.[1];
  return el(tag, {
    align: align ?? null,
    start: tag === "ol" ? token.attrGet("start") : null,
  });
}

/** Complete an element that has all its children. Returns its parent. */
function closed(element) {
  const parent = element.parentNode;
  // Set `dir` last, because browsers compute the direction again for each word that is added.
  if (DIRECTED.has(element.tagName)) element.setAttribute("dir", "auto");
  switch (element.tagName) {
    case "LI":
      tidyItem(element);
      break;
    case "BLOCKQUOTE":
      leaveDirection(element);
      break;
    case "TABLE": {
      if (element.tBodies.length === 0) element.append(el("tbody"));
      const frame = { class: "table", dir: "auto", tabindex: "0", role: "region", "aria-label": "Table" };
      const place = document.createComment("");
      element.replaceWith(place);
      place.replaceWith(el("div", frame, element));
      break;
    }
  }
  return parent;
}

/** If an item has only one paragraph, unwrap it, whatever the other items have. */
function tidyItem(item) {
  const paragraphs = [...item.children].filter(({ tagName }) => tagName === "P");
  const first = item.firstChild;
  if (first?.tagName === "P") tick(first);
  if (paragraphs.length === 1 && paragraphs[0] === first) first.replaceWith(...first.childNodes);
  else leaveDirection(item);
}

/** Let the first block decide the direction, because dir="auto" skips children with a `dir`. */
function leaveDirection(holder) {
  if (holder.firstChild?.tagName !== "LI") holder.firstElementChild?.removeAttribute("dir");
}

/** Show `[x]` as a box that cannot be changed. */
function tick(paragraph) {
  const text = paragraph.firstChild;
  const box = text?.nodeType === Node.TEXT_NODE && /^\[([ xX])\]\s+/.exec(text.data);
  if (box) text.replaceData(0, box[0].length, box[1] === " " ? "☐ " : "☑ ");
}

/** A finished code block, without the line break that ends its last line. */
function codeBlock(content, language) {
  const code = el("code");
  code.append(content.replace(/\n$/, ""));
  return dressCode(el("pre", {}, code), language);
}

export const languageOf = (info) => info.trim().split(/\s/)[0];

function* writeAll(block, { children }) {
  for (const stretch of children) {
    write(block, stretch);
    yield;
  }
}

function write(block, tokens) {
  let here = block;
  for (const token of tokens) {
    if (token.type in INLINES) here = here.appendChild(el(INLINES[token.type]));
    else if (token.type === "link_open") here = here.appendChild(link(token.attrGet("href") ?? ""));
    else if (token.nesting < 0) here = here.parentNode;
    else if (token.type === "softbreak" || token.type === "hardbreak") here.append(el("br"));
    else if (token.type === "code_inline") here.append(el("code", { dir: "ltr" }, token.content));
    else if (token.type === "formula") here.append(el("code", { class: "math", dir: "ltr" }, token.content));
    else if (token.type === "image") here.append(image(here, token));
    else appendText(here, token.content);
  }
}

function image(here, token) {
  const label = el("span");
  write(label, token.children);
  const attributes = { class: "image" };
  const outer = here.closest?.("a") ?? null; // a link must not contain a link
  const element = outer ? el("span", attributes) : link(token.attrGet("src") ?? "", attributes);
  element.append(label.textContent);
  return element;
}

/** Append to the last text node, so that the nodes do not depend on how the tokens were cut. */
function appendText(here, text) {
  if (text === "") return;
  if (here.lastChild?.nodeType === Node.TEXT_NODE) here.lastChild.appendData(text);
  else here.append(text);
}
