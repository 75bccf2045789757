/** Parses Markdown into tokens, in steps, so that the browser can get control in between. */

import { grammar } from "./markdown_rules.js";

const STRETCH = 4_000; // characters of a paragraph within which marks are matched

/** The block tokens of `text`; inline text is not parsed yet. */
export function blocksOf(text, references) {
  const tokens = [];
  grammar.block.parse(text, grammar, { references }, tokens);
  return tokens;
}

/** Generator; returns the tokens of `text`. An inline token's `children` has a list per stretch. */
export function* tokensOf(text, references) {
  const tokens = blocksOf(text, references);
  for (const token of tokens) {
    if (token.type !== "inline") continue;
    token.children = [];
    for (const stretch of stretches(token.content)) {
      token.children.push(grammar.parseInline(stretch, { references })[0].children);
      yield;
    }
  }
  return tokens.filter(({ type }) => type !== "reference_definition");
}

/** The parts of a long paragraph that are parsed one by one, cut at a line or word if possible. */
function* stretches(text) {
  let start = 0;
  while (text.length - start > STRETCH) {
    const limit = start + STRETCH;
    const line = text.lastIndexOf("\n", limit) + 1;
    const word = text.lastIndexOf(" ", limit) + 1;
    let end = [line, word].find((place) => place > start + STRETCH / 2) ?? limit;
    if (/[\ud800-\udbff]/.test(text[end - 1])) end -= 1;
    yield text.slice(start, end);
    start = end;
  }
  yield text.slice(start);
}
