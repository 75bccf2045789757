/**
 * The grammar of a reply: CommonMark with tables and strike-through, parsed by markdown-it.
 *
 * HTML stays text, except `<br>`. Formulas stay as they are written. Emphasis follows the
 * CJK-friendly amendment of CommonMark, because Chinese and Japanese have no spaces around `**`.
 * No rule here depends on other blocks, so a closed block never needs to be read again.
 */

import MarkdownIt from "./vendor/markdown-it.min.js";

const DEEPEST = 32; // levels of quotes and lists; a list takes two
const WIDE = 16; // columns

export const grammar = new MarkdownIt({ html: false, linkify: true, breaks: true, typographer: false });

grammar.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });
// markdown_dom.js checks the addresses. A link with a forbidden address has no href.
grammar.validateLink = () => true;

// East Asian wide, fullwidth and halfwidth characters, without emoji.
const CJK = /[\u1100-\u11ff\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\ufe10-\ufe19\ufe30-\ufe6f\uff01-\uffee\u{16fe0}-\u{18dff}\u{1aff0}-\u{1b2ff}\u{20000}-\u{3fffd}\u{e0100}-\u{e01ef}]/u;
const MARK = /[\p{P}\p{S}]/u;
const SPACE = /\s/u;

/** The character (one or two UTF-16 units) that ends at `end`; a space at the beginning of the text. */
function characterBefore(text, end) {
  if (end <= 0) return " ";
  const unit = text.charCodeAt(end - 1);
  const isTail = unit >= 0xdc00 && unit <= 0xdfff && end > 1;
  return isTail ? text.slice(end - 2, end) : text[end - 1];
}

grammar.inline.State = class extends grammar.inline.State {
  /** Can this run of `*` or `~` open or close emphasis? (CommonMark §6.2, amended for CJK.) */
  scanDelims(start, splitsWords) {
    if (!splitsWords) return super.scanDelims(start, splitsWords);
    let end = start;
    while (end < this.posMax && this.src[end] === this.src[start]) end += 1;
    let before = characterBefore(this.src, start);
    // A variation selector belongs to the character before it.
    if (/[\ufe00-\ufe0f]/.test(before)) before = characterBefore(this.src, start - 1);
    const after = end < this.posMax ? String.fromCodePoint(this.src.codePointAt(end)) : " ";
    const cjk = CJK.test(before) || CJK.test(after);
    const opens = !SPACE.test(after) && (cjk || !MARK.test(after) || SPACE.test(before) || MARK.test(before));
    const closes = !SPACE.test(before) && (cjk || !MARK.test(before) || SPACE.test(after) || MARK.test(after));
    return { can_open: opens, can_close: closes, length: end - start };
  }
};

const FORMULAS = [["\\(", "\\)"], ["\\[", "\\]"], ["$$", "$$"]];

/** `\(…\)`, `\[…\]` and `$$…$$`: a formula, in which nothing is Markdown. */
function formula(state, silent) {
  const found = FORMULAS.find(([opening]) => state.src.startsWith(opening, state.pos));
  if (!found) return false;
  const end = closing(state, found[1], state.pos + 2);
  if (end <= state.pos + 2) return false;
  if (!silent) state.push("formula", "code", 0).content = state.src.slice(state.pos + 2, end);
  state.pos = end + 2;
  return true;
}

/** The next position of `mark`, or -1. After one failed search, it is not searched for again. */
function closing(state, mark, from) {
  state.absent ??= new Set();
  if (state.absent.has(mark)) return -1;
  const place = state.src.indexOf(mark, from);
  if (place < 0) state.absent.add(mark);
  return place;
}

/** `$…$` on one line stays as it is written. The rule does not match two prices. */
function dollars(state, silent) {
  const { src, pos } = state;
  if (src[pos] !== "$" || !/[^\s$]/.test(src[pos + 1] ?? " ")) return false;
  const end = closing(state, "$", pos + 1);
  if (end < 0 || /[\s\\]/.test(src[end - 1]) || /[\d$]/.test(src[end + 1] ?? "")) return false;
  const text = src.slice(pos, end + 1);
  if (/[\n`]/.test(text)) return false;
  if (!silent) state.push("text", "", 0).content = text;
  state.pos = end + 1;
  return true;
}

/** `<br>`, the only HTML that is interpreted, because a table cell has no other line break. */
function lineBreak(state, silent) {
  if (state.src[state.pos] !== "<") return false;
  const found = /^<br ?\/?>/i.exec(state.src.slice(state.pos, state.pos + 6));
  if (!found) return false;
  if (!silent) state.push("hardbreak", "br", 0);
  state.pos += found[0].length;
  return true;
}

/** Below DEEPEST levels, quotes and lists are text, because the parser is recursive. */
function tooDeep(state, start, end, silent) {
  if (state.level < DEEPEST) return false;
  if (silent) return true;
  let next = start + 1;
  while (next < end && !state.isEmpty(next) && state.sCount[next] >= state.blkIndent) next += 1;
  const open = state.push("paragraph_open", "p", 1);
  open.map = [start, next];
  const inline = state.push("inline", "", 0);
  inline.content = state.getLines(start, next, state.blkIndent, false).trim();
  inline.children = [];
  state.push("paragraph_close", "p", -1);
  state.line = next;
  return true;
}

/** The number of columns in the last table's head. Each token is read once for all rows. */
function columnsOf(state) {
  const seen = (state.seen ??= { tokens: 0, columns: 0 });
  for (; seen.tokens < state.tokens.length; seen.tokens += 1) {
    const { type } = state.tokens[seen.tokens];
    if (type === "thead_open") seen.columns = 0;
    else if (type === "th_open") seen.columns += 1;
  }
  return seen.columns;
}

/** End a wide table at a row with few cells, because the parser would create all missing cells. */
function sparse(state, start, end, silent) {
  if (!silent || state.parentType !== "table") return false;
  const columns = columnsOf(state);
  if (columns <= WIDE) return false;
  const row = state.src.slice(state.bMarks[start], state.eMarks[start]);
  return row.split("|").length < columns / 4;
}

grammar.inline.ruler.before("escape", "formula", formula);
grammar.inline.ruler.before("escape", "dollars", dollars);
grammar.inline.ruler.before("autolink", "line_break", lineBreak);
grammar.block.ruler.before("table", "too_deep", tooDeep);
grammar.block.ruler.before("table", "sparse", sparse, { alt: ["blockquote"] });
