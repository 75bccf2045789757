/**
 * From the tokens of a reply to elements, without a line of HTML in between.
 *
 * Hostile text is text: elements come from the closed list below, their text is set as text, and
 * a link goes to http, https or mail and nowhere else. An image becomes a link to it.
 */

import { dressCode } from "./code_blocks.js";
import { el } from "./dom.js";

/** The address, if a reader may be sent there, else null. */
export function safeAddress(address) {
  if (!/^(https?:\/\/|mailto:)/i.test(address)) return null;
  return URL.canParse(address) ? address : null;
}

function link(address, attributes = {}) {
  const href = safeAddress(address);
  if (href === null) return el("a", attributes);
  return el("a", { ...attributes, href, rel: "noopener noreferrer", target: "_blank" });
}

/** Block elements by the type of their token; all else is text. */
const BLOCKS = {
  paragraph_open: "p", blockquote_open: "blockquote", bullet_list_open: "ul", ordered_list_open: "ol",
  list_item_open: "li", table_open: "table", thead_open: "thead", tbody_open: "tbody", tr_open: "tr",
  th_open: "th", td_open: "td",
};
const INLINES = { em_open: "em", strong_open: "strong", s_open: "s" };
// Each of these finds its direction in its own words.
const DIRECTED = new Set(["P", "H3", "H4", "H5", "H6", "BLOCKQUOTE", "LI", "TD"]);

/** What a list or a table is told apart by: only one of the same kind can be gone on with. */
export const kindOf = (token) => `${token.type}${token.markup}`;

/** The blocks of these tokens, as elements; made in steps. */
export function* elementsOf(tokens) {
  const root = document.createDocumentFragment();
  let here = root;
  let cells = []; // of a row, which are empty so far
  for (const token of tokens) {
    if (token.nesting < 0) yield;
    if (token.type === "td_open") cells.push(token);
    else if (token.type === "td_close") here = here.tagName === "TD" ? closed(here) : here;
    else if (token.nesting > 0) here = here.appendChild(opened(token));
    else if (token.nesting < 0) {
      // The grammar fills short rows up, by as many cells as the head has: those are left out.
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

/** What is to be done with an element that is whole; gives its parent. */
function closed(element) {
  const parent = element.parentNode;
  // Not before: a browser would look for the direction again at each word that is added.
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

/** An item of one paragraph is that paragraph's words: whether others are longer is theirs. */
function tidyItem(item) {
  const paragraphs = [...item.children].filter(({ tagName }) => tagName === "P");
  const first = item.firstChild;
  if (first?.tagName === "P") tick(first);
  if (paragraphs.length === 1 && paragraphs[0] === first) first.replaceWith(...first.childNodes);
  else leaveDirection(item);
}

/** The direction of what holds blocks is its first one's: a browser skips those that have one. */
function leaveDirection(holder) {
  if (holder.firstChild?.tagName !== "LI") holder.firstElementChild?.removeAttribute("dir");
}

/** `[x] done`: a task that nobody can tick off here. */
function tick(paragraph) {
  const words = paragraph.firstChild;
  const box = words?.nodeType === Node.TEXT_NODE && /^\[([ xX])\]\s+/.exec(words.data);
  if (box) words.replaceData(0, box[0].length, box[1] === " " ? "☐ " : "☑ ");
}

/** Without the last line's end, which every block has. */
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
    else say(here, token.content);
  }
}

function image(here, token) {
  const words = el("span");
  write(words, token.children);
  const attributes = { class: "image" };
  const within = here.closest?.("a") ?? null; // no link stands in a link
  const element = within ? el("span", attributes) : link(token.attrGet("src") ?? "", attributes);
  element.append(words.textContent);
  return element;
}

/** Text that follows text is one node, so that a comparison does not depend on the cuts. */
function say(here, words) {
  if (words === "") return;
  if (here.lastChild?.nodeType === Node.TEXT_NODE) here.lastChild.appendData(words);
  else here.append(words);
}
