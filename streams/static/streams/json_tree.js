/** Any JSON as a small tree of lists, bounded in depth and size. All values are set as text. */

import { el } from "./dom.js";

const DEEPEST = 6; // levels that are shown
const MOST = 200; // entries of one tree
const LONGEST = 20_000; // characters of one text
const SHORT = 200; // characters of a name

/** An element that shows this value. */
export function treeOf(value) {
  return branch(value, 0, { left: MOST });
}

function branch(value, depth, room) {
  if (value === null || typeof value !== "object") return leaf(value);
  const isList = Array.isArray(value);
  const entries = Object.entries(value);
  if (entries.length === 0) return el("span", { class: "tree-none" }, isList ? "empty list" : "nothing");
  if (depth === DEEPEST) return el("span", { class: "tree-none" }, `${entries.length} more inside`);
  const list = el(isList ? "ol" : "ul", { class: "tree" });
  for (const [place, [name, inner]] of entries.entries()) {
    if (room.left === 0) {
      list.append(el("li", { class: "tree-none" }, `${entries.length - place} more`));
      break;
    }
    room.left -= 1;
    const key = isList ? [] : [el("bdi", { class: "tree-key" }, cut(name, SHORT)), ": "];
    list.append(el("li", {}, ...key, branch(inner, depth + 1, room)));
  }
  return list;
}

function leaf(value) {
  const isText = typeof value === "string";
  const text = isText ? cut(value, LONGEST) : String(value);
  return el("span", { class: isText ? "tree-text" : "tree-value", dir: isText ? "auto" : null }, text);
}

function cut(text, most) {
  return text.length <= most ? text : `${text.slice(0, most)}… (${text.length - most} more characters)`;
}
