"""Markdown as models write it, with ambiguous cases, and the elements that it must become."""

from __future__ import annotations

# Each text with the tags and words that it must become, without attributes.
READINGS = {
    "**重要：**请注意。含**「重点」**内容。": (
        "<p><strong>重要：</strong>请注意。含<strong>「重点」</strong>内容。</p>"
    ),
    "**日本語の文章（括弧付き）。**この文が続きます。": (
        "<p><strong>日本語の文章（括弧付き）。</strong>この文が続きます。</p>"
    ),
    "~~删除的文字（带括号）。~~这个句子": "<p><s>删除的文字（带括号）。</s>这个句子</p>",
    '한국어**"강조"**는 *이탤릭(기울임)*입니다.': (
        '<p>한국어<strong>"강조"</strong>는 <em>이탤릭(기울임)</em>입니다.</p>'
    ),
    "𠮷**（𠮷）**𠮷 a**b**c **(x)**y": (
        "<p>𠮷<strong>（𠮷）</strong>𠮷 a<strong>b</strong>c **(x)**y</p>"
    ),
    "Temperatures: 20~25°C by day, 10~15°C by night. ~~two~~": (
        "<p>Temperatures: 20~25°C by day, 10~15°C by night. <s>two</s></p>"
    ),
    "Set MAX_OUTPUT_TOKENS and see test_model.py.": (
        "<p>Set MAX_OUTPUT_TOKENS and see test_model.py.</p>"
    ),
    "| x |\n|---|\n| a<br>b |": (
        "<div><table><thead><tr><th>x</th></tr></thead>"
        "<tbody><tr><td>a<br>b</td></tr></tbody></table></div>"
    ),
    "$\\{1, 2\\}$ and $a*b*c$ cost $5 and $10, *not* $20": (
        "<p>$\\{1, 2\\}$ and $a*b*c$ cost $5 and $10, <em>not</em> $20</p>"
    ),
    "\\(x*y*z\\) \\[ a_b_c \\] $$d*e*f$$": (
        "<p><code>x*y*z</code> <code> a_b_c </code> <code>d*e*f</code></p>"
    ),
    "- item\n  > quote\n- next": (
        "<ul><li>item<blockquote><p>quote</p></blockquote></li><li>next</li></ul>"
    ),
    "- a\n-\n- b\n--\n* c\n*d*": (
        "<ul><li>a</li><li></li><li>b<br>--</li></ul><ul><li>c<br><em>d</em></li></ul>"
    ),
    "1. one\n\n   more\n2. two\n   - in\n\n\n3. three\n\nend": (
        "<ol><li><p>one</p><p>more</p></li><li>two<ul><li>in</li></ul></li><li>three</li></ol>"
        "<p>end</p>"
    ),
    "para\n---\n***\n# One #\n###### Six\n> a\nlazy\n> b\n\n> c": (
        "<h4>para</h4><hr><h3>One</h3><h6>Six</h6>"
        "<blockquote><p>a<br>lazy<br>b</p></blockquote><blockquote><p>c</p></blockquote>"
    ),
    "- [ ] todo\n- [x] done\r\n\r\nover\r\nlines": (
        "<ul><li>☐ todo</li><li>☑ done</li></ul><p>over<br>lines</p>"
    ),
    "a | b\n--|:-:\n1 | 2\n3\n\\| | `|`\n\nafter": (
        "<div><table><thead><tr><th>a</th><th>b</th></tr></thead><tbody>"
        "<tr><td>1</td><td>2</td></tr><tr><td>3</td></tr><tr><td>|</td><td>`</td></tr>"
        "</tbody></table></div><p>after</p>"
    ),
    "[a][1], [b] and [1]\n\n[1]: https://e.test/x\n[b]: <https://e.test/y>\n'title\nmore'\n": (
        "<p><a>a</a>, <a>b</a> and <a>1</a></p>"
    ),
    "See https://e.test/a_b_c. *x* <b>no</b> &amp; &#42; \\* `**`": (
        "<p>See <a>https://e.test/a_b_c</a>. <em>x</em> &lt;b&gt;no&lt;/b&gt; &amp; * *"
        " <code>**</code></p>"
    ),
}  # fmt: skip

# Texts that are only read at each cut. Their elements are not given here, because blocks of code
# have further elements around them.
MORE = [
    "```python\nx = 1\n\n\ny = 2\n\n```\nafter\n~~~\n```\n~~~ \nend",
    "```\nnot closed\n\n``\n  `",
    "  ```js\n  indented\n ```\n- ```sh\n  ls\n\n  ```\n- next\n\n      code\n\n    code",
    "    code\n\n    more\n\n\ttab\n\nend",
    "| a |\n|-\n| b |\n# h\n| c |\n\n|x|\n|-|\n|y|\n```\nz\n```\n",
    "> - a\n>   b\n> - c\n>\n> ```\n> d\n> ```\n\n1) x\n2) y\n1. z\n\n* * *\n- - -\n__b__ _i_ a_b_",
    "text\n[not a definition]: \nhttps://e.test\n\n\n\n- \n\n  x\n-\ty\n10. z\n\n\n",
]

PIECEWISE = """
async ([text, sizes]) => {
  const { Markdown } = await import("/markdown.js");
  const here = document.getElementById("here");
  const place = () => here.appendChild(document.createElement("div"));
  const seen = (root) => {
    const copy = root.cloneNode(true);
    for (const code of copy.querySelectorAll("pre > code")) {
      code.textContent = code.textContent;  // without its colours
      delete code.dataset.coloured;
    }
    return copy.innerHTML;
  };
  const whole = place();
  await new Markdown(whole).settle(text);
  const differing = [];
  const compare = (how, root) => {
    if (seen(root) !== seen(whole)) differing.push([how, seen(root)]);
    root.remove();
  };
  for (let cut = 0; cut <= text.length; cut += 1) {
    const root = place();
    const markdown = new Markdown(root);
    markdown.write(text.slice(0, cut), 0);
    markdown.write(text, 0);
    await markdown.settle(text);
    compare(`cut at ${cut}`, root);
  }
  for (const size of sizes) {
    const root = place();
    const markdown = new Markdown(root);
    for (let end = size; end < text.length + size; end += size) {
      markdown.write(text.slice(0, end), 0);
    }
    await markdown.settle(text);
    compare(`pieces of ${size}`, root);
  }
  const shown = whole.innerHTML.replace(/<(\\w+)[^>]*>/g, "<$1>");
  whole.remove();
  return [shown, differing];
}
"""
