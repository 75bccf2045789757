/**
 * The grammar of a reply: CommonMark with tables and strike-through, by markdown-it.
 *
 * HTML is text, but `<br>`. Mathematics is left as it is. Emphasis follows the CJK-friendly
 * amendment of CommonMark, because Chinese and Japanese have no spaces around `**`.
 * Each rule here depends on its block alone, so a block that has closed is never read anew.
 */

import MarkdownIt from "./vendor/markdown-it.min.js";

const DEEPEST = 32; // levels of quotes and lists; a list takes two
const WIDE = 16; // columns

export const grammar = new MarkdownIt({ html: false, linkify: true, breaks: true, typographer: false });

grammar.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });
// Addresses are judged where a link is made: what may not be followed stays as text.
grammar.validateLink = () => true;

// East Asian wide, fullwidth and halfwidth characters, but emoji.
const CJK = /[\u1100-\u11ff\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\ufe10-\ufe19\ufe30-\ufe6f\uff01-\uffee\u{16fe0}-\u{18dff}\u{1aff0}-\u{1b2ff}\u{20000}-\u{3fffd}\u{e0100}-\u{e01ef}]/u;
const MARK = /[\p{P}\p{S}]/u;
const SPACE = /\s/u;

/** The whole character that ends at `end`, which may be two units long; a space at the edge. */
function characterBefore(text, end) {
  if (end <= 0) return " ";
  const unit = text.charCodeAt(end - 1);
  const isTail = unit >= 0xdc00 && unit <= 0xdfff && end > 1;
  return isTail ? text.slice(end - 2, end) : text[end - 1];
}

grammar.inline.State = class extends grammar.inline.State {
  /** May a run of `*` or `~` open, may it close? (CommonMark §6.2, as amended for CJK.) */
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

/** `\(…\)`, `\[…\]` and `$$…$$`: nothing in between is Markdown. */
function formula(state, silent) {
  const found = FORMULAS.find(([opening]) => state.src.startsWith(opening, state.pos));
  if (!found) return false;
  const end = closing(state, found[1], state.pos + 2);
  if (end <= state.pos + 2) return false;
  if (!silent) state.push("formula", "code", 0).content = state.src.slice(state.pos + 2, end);
  state.pos = end + 2;
  return true;
}

/** Where `mark` comes next. Looked for once more only if it is known to be there. */
function closing(state, mark, from) {
  state.absent ??= new Set();
  if (state.absent.has(mark)) return -1;
  const place = state.src.indexOf(mark, from);
  if (place < 0) state.absent.add(mark);
  return place;
}

/** `$…$` on one line stays as it stands; two prices do not look like that. */
function dollars(state, silent) {
  const { src, pos } = state;
  if (src[pos] !== "$" || !/[^\s$]/.test(src[pos + 1] ?? " ")) return false;
  const end = closing(state, "$", pos + 1);
  if (end < 0 || /[\s\\]/.test(src[end - 1]) || /[\d$]/.test(src[end + 1] ?? "")) return false;
  const words = src.slice(pos, end + 1);
  if (/[\n`]/.test(words)) return false;
  if (!silent) state.push("text", "", 0).content = words;
  state.pos = end + 1;
  return true;
}

/** The one element of HTML that a cell of a table needs. */
function lineBreak(state, silent) {
  if (state.src[state.pos] !== "<") return false;
  const found = /^<br ?\/?>/i.exec(state.src.slice(state.pos, state.pos + 6));
  if (!found) return false;
  if (!silent) state.push("hardbreak", "br", 0);
  state.pos += found[0].length;
  return true;
}

/** Deeper than a reader can follow, quotes and lists are words: the parser calls itself. */
function tooDeep(state, start, end, silent) {
  if (state.level < DEEPEST) return false;
  if (silent) return true;
  let next = start + 1;
  while (next < end && !state.isEmpty(next) && state.sCount[next] >= state.blkIndent) next += 1;
  const open = state.push("paragraph_open", "p", 1);
  open.map = [start, next];
  const words = state.push("inline", "", 0);
  words.content = state.getLines(start, next, state.blkIndent, false).trim();
  words.children = [];
  state.push("paragraph_close", "p", -1);
  state.line = next;
  return true;
}

/** The columns of the last table's head; each token is looked at once, however many rows ask. */
function columnsOf(state) {
  const seen = (state.seen ??= { tokens: 0, columns: 0 });
  for (; seen.tokens < state.tokens.length; seen.tokens += 1) {
    const { type } = state.tokens[seen.tokens];
    if (type === "thead_open") seen.columns = 0;
    else if (type === "th_open") seen.columns += 1;
  }
  return seen.columns;
}

/** Where a table ends: at a row with almost none of its many cells, which all would be made. */
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
