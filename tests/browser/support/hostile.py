"""Hostile replies: text that must not become active markup."""

from __future__ import annotations

ELSEWHERE = "https://elsewhere.test"

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    f'<img src="{ELSEWHERE}/pixel.gif">',
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    f'<iframe src="{ELSEWHERE}"></iframe>',
    '<iframe srcdoc="<script>alert(1)</script>"></iframe>',
    f'<object data="{ELSEWHERE}/x"></object>',
    f'<embed src="{ELSEWHERE}/x">',
    f'<link rel="stylesheet" href="{ELSEWHERE}/x.css">',
    f'<meta http-equiv="refresh" content="0;url={ELSEWHERE}">',
    f'<base href="{ELSEWHERE}/">',
    f'<form action="{ELSEWHERE}"><button>go</button></form>',
    "<body onload=alert(1)>",
    '<div style="position:fixed;inset:0;background:url(https://elsewhere.test/x)">over</div>',
    "<style>@import url(https://elsewhere.test/x.css);</style>",
    "<details open ontoggle=alert(1)>x</details>",
    "<video><source onerror=alert(1)></video>",
    f'<video poster="{ELSEWHERE}/p.png" src="{ELSEWHERE}/v.mp4"></video>',
    "<math><mi//xlink:href=\"data:x,<script>alert(1)</script>\">",
    "<a href=javascript:alert(1)>click</a>",
    "<a href=\"jAvAsCrIpT:alert(1)\">click</a>",
    "<input autofocus onfocus=alert(1)>",
    "<marquee onstart=alert(1)>x</marquee>",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\"></noscript>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "[click](javascript:alert(1))",
    "[click](JaVaScRiPt:alert(1))",
    "[click](java\tscript:alert(1))",
    "[click](&#106;avascript:alert(1))",
    "[click](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[click](vbscript:msgbox(1))",
    f"[click](file:///etc/passwd) [or]({ELSEWHERE}\"onclick=alert(1))",
    "[a](<javascript:alert(1)>)",
    "<javascript:alert(1)>",
    "[ref]\n\n[ref]: javascript:alert(1)",
    f"![pixel]({ELSEWHERE}/pixel.gif)",
    "![x](x\" onerror=\"alert(1))",
    f"![x]({ELSEWHERE}/a.png \"t\\\" onload=alert(1)\")",
    f"[![nested]({ELSEWHERE}/in.png)]({ELSEWHERE}/out)",
    "```html\n<script>alert(1)</script>\n```",
    "```\"><img src=x onerror=alert(1)>\ncode\n```",
    "```x onmouseover=alert(1)\ncode\n```",
    "`<img src=x onerror=alert(1)>`",
    "| <img src=x onerror=alert(1)> | b |\n|---|---|\n| <script>alert(1)</script> | c |",
    "# <img src=x onerror=alert(1)>",
    "- [x] <img src=x onerror=alert(1)>",
    "> <script>alert(1)</script>",
    "$$<img src=x onerror=alert(1)>$$ and \\(<svg onload=alert(1)>\\)",
    "1. <b onclick=alert(1)>x</b>\n   <script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt; &#60;img src=x onerror=alert(1)&#62;",
    "\u202e<script>alert(1)</script>\u202c \u0000<img src=x onerror=alert(1)>",
    "{{constructor.constructor('alert(1)')()}} ${alert(1)} <%= alert(1) %>",
]  # fmt: skip

# Text that is harmless for one parser but not for another, or not when the same parser reads the
# result again. DOMPurify's fixtures have these kinds of mutation; the texts are rewritten.
MUTATIONS = [
    # A closing tag within an attribute, where the element's text is raw.
    '<noscript><i title="</noscript><img src=x onerror=alert(1)>"></noscript>',
    '<style><i title="</style><img src=x onerror=alert(1)>"></style>',
    '<title><i title="</title><img src=x onerror=alert(1)>"></title>',
    '<textarea><i title="</textarea><img src=x onerror=alert(1)>"></textarea>',
    '<xmp><i title="</xmp><img src=x onerror=alert(1)>"></xmp>',
    '<iframe><i title="</iframe><img src=x onerror=alert(1)>"></iframe>',
    # Namespaces that change where an element ends up.
    "<svg></p><style><a title=\"</style><img src=x onerror=alert(1)>\">",
    "<math><mtext><table><mglyph><style><!--</style><img title=\"--><img src=x onerror=alert(1)>\">",  # noqa: E501
    "<form><math><mtext></form><form><mglyph><svg><mtext><style><path title=\"</style><img src onerror=alert(1)>\">",  # noqa: E501
    "<svg><foreignObject><p><style><b title=\"</style><script>alert(1)</script>\"></foreignObject></svg>",  # noqa: E501
    "<math><annotation-xml encoding=\"text/html\"><style><img src=x onerror=alert(1)></style></annotation-xml></math>",  # noqa: E501
    "<svg><desc><template><style><x title=\"</style><img src=x onerror=alert(1)>\">",
    # Elements that the parser moves out of their table or list of options.
    "<table><tr><svg><style><td><img src=x onerror=alert(1)></style></svg></table>",
    "<select><option><style></option></select><b><img src=x onerror=alert(1)></style>",
    "<select><iframe></select><b><script>alert(1)</script>",
    # Comments and declarations that end elsewhere.
    "<!-- --!><img src=x onerror=alert(1)> -->",
    "<!-->\n<img src=x onerror=alert(1)>\n<!---->",
    "<textarea>x</textarea><!--</textarea><img src=x onerror=alert(1)>-->",
    "<?xml-stylesheet ><img src=x onerror=alert(1)> ?>",
    "<!DOCTYPE x [<!ENTITY e '<img src=x onerror=alert(1)>'>]>&e;",
    "<svg><![CDATA[><img src=x onerror=alert(1)>]]></svg>",
    # Text that is unescaped once too often.
    "<listing>&lt;img src=x onerror=alert(1)&gt;</listing>",
    "&amp;lt;img src=x onerror=alert(1)&amp;gt;",
    "[x](&quot;onmouseover=alert(1)) ![x](x&quot;onerror=&quot;alert(1))",
    '[x](https://elsewhere.test/"onclick="alert(1)) <https://elsewhere.test/"onclick="alert(1)>',
    "<img src=x id/=' onerror=alert(1)//'>",
    # Addresses whose scheme is not where it seems to be.
    "[a](\u0001javascript:alert(1)) [a](<\u2028javascript:alert(1)>) [a](<\u00a0javascript:alert(1)>)",  # noqa: E501
    "[a](javascript&colon;alert(1)) [a](java&Tab;script:alert(1)) [a](java&NewLine;script:alert(1))",  # noqa: E501
    "[a](https:javascript:alert(1)) [a](//elsewhere.test) [a](\\\\elsewhere.test) [a](blob:x) [a](x:y)",  # noqa: E501
    "[r]\n\n[r]: javascript&#58;alert(1)\n[R]: <data:text/html,x>",
    # Names that hide the document's own properties (clobbering).
    "<form><input name=attributes><input name=parentNode></form><a id=body></a><img name=createElement>",  # noqa: E501
    "[x](https://e.test/ \"id=location\") <a id=DOMPurify></a><a id=highlight href=x:y>",
    "[__proto__]: https://e.test/\n\n[__proto__] [constructor] [toString][hasOwnProperty]",
    # Text that becomes dangerous only because Markdown changes it.
    "`<img src=x`onerror=alert(1)> **<img src=x** onerror=alert(1)>",
    "[<img src=x onerror=alert(1)>](https://e.test) ![<svg onload=alert(1)>](https://e.test)",
    "| a | <br onclick=alert(1)> | <br\n/onload=alert(1)> |\n|-|-|-|\n| <br><img src=x onerror=alert(1)> |",  # noqa: E501
    "```html\n</code></pre><img src=x onerror=alert(1)>\n```\n~~~<img/src=x>\nx\n~~~",
    "$$</code><img src=x onerror=alert(1)>$$ $<img src=x onerror=alert(1)>$",
]  # fmt: skip
