/** The second reading of a reply: the whole of it, by the full grammar, made harmless. */

import { Marked } from "./vendor/marked.esm.js";
import "./vendor/purify.min.js";
import { dressCode } from "./code.js";
import { dressLink, dressTable } from "./prose.js";

const { DOMPurify } = globalThis;
const TAGS = "a blockquote br code del em h3 h4 h5 h6 hr li ol p pre s strong table tbody td th thead tr ul";
const ALLOWED = { ALLOWED_TAGS: TAGS.split(" "), ALLOWED_ATTR: ["href", "class", "align", "start"] };

const escaped = (text) =>
  text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);

const math = {
  name: "math",
  level: "inline",
  start: (text) => text.search(/\\[([]|\$\$/),
  tokenizer(text) {
    const found = /^(?:\\\(([^]+?)\\\)|\\\[([^]+?)\\\]|\$\$([^]+?)\$\$)/.exec(text);
    if (!found) return undefined;
    return { type: "math", raw: found[0], text: found[1] ?? found[2] ?? found[3] };
  },
  renderer: ({ text }) => `<code class="math">${escaped(text)}</code>`,
};

const whole = new Marked({ gfm: true, breaks: true, async: false }, {
  extensions: [math],
  renderer: {
    html: ({ text, block }) => (block ? `<p>${escaped(text.trim())}</p>` : escaped(text)),
    image: ({ href, text }) => `<a class="image" href="${escaped(href)}">${escaped(text)}</a>`,
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    heading({ tokens, depth }) {
      const level = Math.min(depth + 2, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
    code: ({ text, lang }) =>
      `<pre><code class="language-${escaped((lang ?? "").split(/\s/)[0])}">${escaped(text)}</code></pre>`,
  },
});

/** The whole text as elements, fit for the page. */
export function rendered(text) {
  const fragment = DOMPurify.sanitize(whole.parse(text), { ...ALLOWED, RETURN_DOM_FRAGMENT: true });
  for (const link of fragment.querySelectorAll("a")) dressLink(link, link.getAttribute("href") ?? "");
  for (const pre of fragment.querySelectorAll("pre")) {
    const place = document.createComment("");
    pre.replaceWith(place);
    place.replaceWith(dressCode(pre, (pre.firstChild.className ?? "").replace("language-", "")));
  }
  for (const table of fragment.querySelectorAll("table")) {
    const place = document.createComment("");
    table.replaceWith(place);
    place.replaceWith(dressTable(table));
  }
  dropBlanks(fragment);
  fragment.normalize();
  return fragment;
}

const HOLDERS = ["UL", "OL", "LI", "TABLE", "THEAD", "TBODY", "TR", "BLOCKQUOTE"];

/** Line ends between blocks are the grammar's; the first reading wrote none to compare with. */
function dropBlanks(fragment) {
  const walk = document.createTreeWalker(fragment, NodeFilter.SHOW_TEXT);
  const blanks = [];
  while (walk.nextNode()) {
    const { data, parentNode } = walk.currentNode;
    const holds = parentNode === fragment || HOLDERS.includes(parentNode.tagName);
    if (holds && data.trim() === "" && data.includes("\n")) blanks.push(walk.currentNode);
  }
  for (const blank of blanks) blank.remove();
}
