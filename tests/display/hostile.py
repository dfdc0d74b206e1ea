"""Texts that models, tools and attackers produce. Displays must show them as text wherever a span contains them."""

from __future__ import annotations

HOSTILE = {
    "image with a handler": "<img src=x onerror=alert(1)>",
    "script": "</script><script>alert(1)</script>",
    "end of everything": "</code></td></tr></table></details></div></body>",
    "attribute": '" onmouseover="alert(1)" style="background:url(https://evil.example/x)" x="',
    "single quotes": "' onfocus='alert(1)' autofocus='",
    "style": "<style>*{display:none}</style>",
    "cdata": "]]><!-- --> <![CDATA[x]]>",
    "link": "javascript:alert(1)",
    "markdown": "[click](javascript:alert(1)) ![x](https://evil.example/x.png)",
    "template": "{{7*7}} {% raw %} ${1+1} #{x}",
    "formula": r"$\frac{1}{2}$ and \(x\)",
    "line separators": "one\u2028two\u2029three\r\nfour\tfive\x0bsix",
    "terminal": "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b]8;;https://evil.example\x1b\\link \x9b2J \x1b[2J",
    "controls": "nul\x00 bell\x07 back\x08space del\x7f",
    "right to left": "user\u202etxt.exe\u202c \u2066x\u2069 \u200fy",
    "invisible": "a\u200bb\ufeffc\u00add\U000e0041",
    "lone surrogates": "a\ud800b\udfff",
    "emoji": "👩‍👩‍👧 🏳️‍🌈 e\u0301",
    "wide": "東京都の天気を教えてください",
    "long": "x" * 1_000_000,
    "long markup": "<b>" * 300_000,
    "nothing": "",
    "spaces": " \n\t ",
}
