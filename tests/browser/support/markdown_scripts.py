"""Scripts that write Markdown on the page, and the texts that they write."""

from __future__ import annotations

# Returns each element of a reply with a tag, an attribute or a link that is not allowed.
STRANGERS = """
(root) => {
  const tags = new Set(("A BLOCKQUOTE BR BUTTON CODE DEL DIV EM H3 H4 H5 H6 HR LI OL P PRE S SPAN "
    + "STRONG TABLE TBODY TD TH THEAD TR UL").split(" "));
  const attributes = new Set(["class", "href", "rel", "target", "align", "start", "type", "role",
    "tabindex", "dir", "aria-label", "data-language", "data-copy", "data-coloured"]);
  const found = [];
  for (const node of root.querySelectorAll("*")) {
    if (!tags.has(node.tagName)) found.push(node.outerHTML);
    for (const { name } of node.attributes) if (!attributes.has(name)) found.push(node.outerHTML);
    if (node.tagName !== "A" || !node.hasAttribute("href")) continue;
    if (!/^(https?:|mailto:)/.test(node.getAttribute("href"))) found.push(node.outerHTML);
    if (node.rel !== "noopener noreferrer" || node.target !== "_blank") found.push(node.outerHTML);
  }
  return found;
}
"""
WRITTEN = f"""
async ([text, size]) => {{
  const {{ Markdown }} = await import("/markdown.js");
  const strangers = {STRANGERS};
  const here = document.getElementById("here");
  const root = here.appendChild(document.createElement("div"));
  const markdown = new Markdown(root);
  for (let end = size; end < text.length + size; end += size) markdown.write(text.slice(0, end), 0);
  const streamed = strangers(root);
  await markdown.settle(text);
  return [...streamed, ...strangers(root)];
}}
"""


TEXT = """# A title

Some *words*, **strong** ones, `code` and [a link](https://example.org/a).
A second line.

1. one
2. two
   - inner

> said

```python
print("x")
```

The end."""


# Texts whose parsing time can grow faster than their length.
QUADRATIC = {
    "emphasis": "a**b" * 16_000,
    "formulas": "\\(" * 100_000,
    "quotes": ">" * 2_000 + " x",
    "lists": "- " * 2_000 + "x",
    "nested": "\n".join(" " * 2 * n + "- x" for n in range(300)),
    "links": "[a](" * 16_000,
    "brackets": "[" * 65_000,
    "dollars": "$a " * 20_000,
    "strokes": "~~a" * 20_000,
    "stars": "*a **b " * 10_000,
    "words": "some **bold** words in one line " * 6_000,
    "rows": "| a | b | c |\n|---|---|---|\n" + "| one | `two` | three |\n" * 8_000,
    "cells": "|" + "a|" * 60 + "\n|" + "-|" * 60 + "\n" + "|\n" * 20_000,
}
