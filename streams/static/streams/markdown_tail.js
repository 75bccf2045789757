/** The end of a reply that is being written: which blocks are closed, and how to show the open one. */

import { kindOf } from "./markdown_dom.js";

/**
 * Returns `{lines, goesOn, head, fence}`: the first `lines` lines of `text` are settled, which
 * means that no later line can change them.
 *
 * `goesOn` is the kind of a list or table that may continue after these lines. `head` is the first
 * two lines of such a table. `fence` is true if an open code block begins after these lines.
 */
export function settledLines(tokens, text) {
  const lines = text.split("\n");
  const total = lines.length - 1;
  const blocks = tokens.filter(({ level, nesting }) => level === 0 && nesting >= 0);
  const last = blocks.at(-1);
  if (last === undefined) return { lines: total };
  const [start, end] = last.map;
  const isOver = end < total; // an empty line follows
  switch (last.type) {
    case "hr":
    case "heading_open":
      return { lines: total };
    case "fence":
      return isClosed(last, lines) ? { lines: total } : { lines: start, fence: last.markup && lines[start][0] !== " " };
    case "table_open":
      return isOver ? { lines: total } : { lines: total, goesOn: kindOf(last), head: `${lines.slice(start, start + 2).join("\n")}\n` };
    case "bullet_list_open":
    case "ordered_list_open":
      return settledItems(tokens, last);
    case "code_block":
      return { lines: start };
    case "paragraph_open": {
      // The title of a link definition may continue on the next lines.
      const before = blocks.at(-2);
      const isTitle = before?.type === "reference_definition" && before.map[1] === start;
      if (isTitle && !isOver) return { lines: before.map[0] };
    }
  }
  return { lines: isOver ? total : start };
}

function isClosed({ map: [start, end], markup }, lines) {
  const last = lines[end - 1].trim();
  return end - start > 1 && last.length >= markup.length && last === markup[0].repeat(last.length)
    && /^ {0,3}\S/.test(lines[end - 1]);
}

/** All items except the last are settled; the last item may get more lines. */
function settledItems(tokens, list) {
  const from = tokens.indexOf(list);
  const items = tokens.slice(from).filter(({ type, level }) => type === "list_item_open" && level === 1);
  const { map: [start] } = items.at(-1);
  return items.length > 1 ? { lines: start, goesOn: kindOf(list) } : { lines: start };
}

const OPEN_TABLE = /(?:^|\n) {0,3}\|[^\n]*(?:\n[ |:-]*)?$/;
const DEFINITION = /(?:^|\n) {0,3}\[[^\]\n]+\]:[^\n]*$/;
const MARKS_ONLY = /(?:^|\n)[ \t]*(?:[-+*=_#>|`~:$\\.)(![<&-]|\d{1,9}(?=[.)]?$))*[ \t]*$/;

/** The open end as it is shown, without marks that are not clear yet, with open marks closed. */
export function shown(tail, inTable) {
  let text = tail;
  if (!inTable) text = text.replace(OPEN_TABLE, "\n");
  text = text.replace(DEFINITION, "\n").replace(MARKS_ONLY, "\n");
  return withMarksClosed(text);
}

const count = (text, mark) => text.split(mark).length - 1;

/** Close open bold, code and links, so that they have their final look from the first character. */
function withMarksClosed(text) {
  const paragraph = text.slice(Math.max(text.lastIndexOf("\n\n"), text.lastIndexOf("\n- "), text.lastIndexOf("\n|")) + 1);
  if (/(?:^|\n) {0,3}(?:```|~~~)/.test(paragraph)) return text;
  if (count(paragraph, "`") % 2 === 1) return /`$/.test(text) ? text.slice(0, -1) : `${text}\``;
  if (/\]\([^()\s<>]*$/.test(paragraph)) return `${text})`;
  if (count(paragraph, "**") % 2 === 1) {
    const trimmed = text.replace(/[\s*]+$/, "");
    return count(trimmed.slice(text.length - paragraph.length), "**") % 2 === 1 ? `${trimmed}**` : trimmed;
  }
  return text;
}
