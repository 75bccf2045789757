/** From Markdown to tokens, in steps: between any two of them the page may have its turn. */

import { grammar } from "./markdown_rules.js";

const STRETCH = 4_000; // characters of one paragraph whose marks may belong together

/** The blocks of `text`, whose words are not read yet. */
export function blocksOf(text, references) {
  const tokens = [];
  grammar.block.parse(text, grammar, { references }, tokens);
  return tokens;
}

/** The tokens of `text`; the `children` of an inline token are lists, one for each stretch. */
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

/** A long paragraph is read in stretches: marks are matched against each other within one. */
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
