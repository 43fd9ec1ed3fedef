"""Whatever data and models write, nothing in the report can act, and the page loads nothing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from etude.reporting import Example, markdown, page, visible, words
from test_reporting import Parsed, full

VECTORS = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "</title><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</pre><script>alert(1)</script>",
    "</code></pre></details><img src=x onerror=alert(1)>",
    "<img src=x onerror=alert(1)>",
    "<img src=`javascript:alert(1)`>",
    '"><img src=x onerror=alert(1)>',
    "'><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "` onload=alert(1) `",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<svg><foreignObject><iframe srcdoc='<script>alert(1)</script>'></foreignObject></svg>",
    "</svg><script>alert(1)</script>",
    "</text></svg><body onload=alert(1)>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='&lt;script&gt;alert(1)&lt;/script&gt;'>",
    "<object data=data:text/html,<script>alert(1)</script>>",
    "<embed src=//evil.example/x.swf>",
    "<applet code=x>",
    "<base href=//evil.example/>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<meta http-equiv=Content-Security-Policy content='default-src *'>",
    "<style>@import '//evil.example/x.css';</style>",
    "<div style=background:url(//evil.example/x)>",
    "<a href=javascript:alert(1)>x</a>",
    "<a href='java\tscript:alert(1)'>x</a>",
    "<a href=data:text/html;base64,PHNjcmlwdD4=>x</a>",
    "<form action=//evil.example><input name=a><button>go</button></form>",
    "<input autofocus onfocus=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<audio src=x onerror=alert(1)>",
    "<marquee onstart=alert(1)>",
    "<body onload=alert(1)>",
    "<html onclick=alert(1)>",
    "<table background=//evil.example/x>",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<textarea></textarea><script>alert(1)</script>",
    "<plaintext>",
    "<xmp><script>alert(1)</script></xmp>",
    "<!--<script>alert(1)</script>-->",
    "--><script>alert(1)</script>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?xml version='1.0'?><script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)",
    "\\u003cscript\\u003ealert(1)",
    "{{ 7 * 7 }} {% include 'page.css' %} {# x #}",
    "{{ ''.__class__.__mro__ }}",
    "${alert(1)} <%= 7*7 %>",
    "[x](javascript:alert(1)) ![x](https://evil.example/x.png)",
    "[x]: https://evil.example\n\n<https://evil.example>",
    "` `` ``` ```` a | b \\| c",
    "\x1b]0;owned\x07\x1b[31mred\x1b[0m \x9b31m",
    "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "invoice\u202efdp.exe\u202c \u2066x\u2069 \u200b\ufeff",
    "half \ud800 of a pair, \x00 and \x7f and \x85 and \u2028",
    "\U000e0041\U000e0042 hidden tags",
]

HARMLESS = Parsed(page(full("x")))


@pytest.mark.parametrize("vector", VECTORS)
def test_no_text_can_act_in_the_page(vector: str) -> None:
    html = page(full(vector))
    found = Parsed(html)
    # Exactly the elements and attributes of the page with harmless texts: nothing was added, nothing was closed.
    assert found.elements == [(tag, names) for tag, names in HARMLESS.elements] or (
        # a backtick inside a note is our own mark for code, and may move <code> elements about
        "`" in vector and [e for e in found.elements if e[0] != "code"] == [e for e in HARMLESS.elements if e[0] != "code"]
    )
    for _, name, value in found.attributes:
        assert not name.startswith("on")
        assert name != "style"
        if name in ("href", "src", "action", "data", "srcdoc"):
            assert value == "data:," or re.fullmatch(r"#[a-z]+", value), (name, value)
    acting = [c for c in html if c != "\n" and (unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp"))]
    assert not acting or set(acting) <= {"\t"}
    html.encode("utf-8")
    shown = " ".join(visible(vector).split())
    assert shown in found.text


@pytest.mark.parametrize("vector", VECTORS)
def test_no_text_can_act_in_markdown(vector: str) -> None:
    from markdown_it import MarkdownIt

    text = markdown(full(vector))
    assert not [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in "\n\t"]

    def tokens(source: str) -> Iterator[Any]:
        for token in MarkdownIt("commonmark", {"html": True}).enable("table").parse(source):
            yield token
            yield from token.children or ()

    kinds = [token.type for token in tokens(text)]
    assert not {"html_inline", "html_block", "link_open", "image"} & set(kinds)
    outline = [kind for kind in kinds if kind.startswith(("table", "tr", "td", "th", "heading", "fence"))]
    assert outline == [
        token.type for token in tokens(markdown(full("x"))) if token.type.startswith(("table", "tr", "td", "th", "heading", "fence"))
    ]


def test_the_page_loads_nothing_and_says_so() -> None:
    html = page(full("x"))
    found = Parsed(html)
    policy = [value for tag, name, value in found.attributes if tag == "meta" and name == "content" and "default-src" in value]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"]
    assert not {"script", "iframe", "object", "embed", "form", "base", "img"} & {tag for tag, _ in found.elements}
    assert not re.search(r"https?:|//[a-z]", html)
    assert not re.search(r"@import|url\(", "".join(found.styles))
    ids = [value for _, name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for _, name, value in found.attributes:
        if name in ("aria-labelledby", "aria-describedby"):
            assert set(value.split()) <= set(ids)
    for tag, names in found.elements:
        if tag == "th":
            assert "scope" in names
    assert [tag for tag, _ in found.elements].count("h1") == 1
    assert "prefers-color-scheme: dark" in "".join(found.styles)
    assert "@media print" in "".join(found.styles)


def test_every_picture_has_a_title() -> None:
    class Pictures(HTMLParser):
        waiting, untitled, depth = False, 0, 0

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if self.waiting and tag != "title":
                self.untitled += 1
            self.waiting = tag == "svg" and "aria-hidden" not in dict(attrs)
            self.depth += tag == "svg"

    pictures = Pictures()
    pictures.feed(page(full("x")))
    assert pictures.depth > 5
    assert pictures.untitled == 0


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_contrast_of_text_in_light_and_dark() -> None:
    """WCAG 2.2 AA: 4.5 to 1 for text, 3 to 1 for what must be told apart in a picture."""
    css = "".join(Parsed(page(full("x"))).styles)
    light, dark = (dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block)) for block in css.split("prefers-color-scheme: dark")[:2])
    pairs = [(ink, ground) for ink in ("ink", "soft", "link") for ground in ("page", "card", "code")]
    pairs += [("good", "good-bg"), ("bad", "bad-bg"), ("mixed", "mixed-bg"), ("ink", "plain-bg")]
    for palette in (light, {**light, **dark}):
        for front, back in pairs:
            high, low = sorted((luminance(palette[front]), luminance(palette[back])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (front, back)
        for front in ("tuned", "valid", "good", "bad"):
            high, low = sorted((luminance(palette[front]), luminance(palette["card"])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 3, front


def test_huge_texts_are_cut_and_counted() -> None:
    huge = "word " * 400_000
    findings = full("x")
    findings = replace(findings, examples={"x": tuple(Example(str(i), huge, huge, huge, huge, 0, 1) for i in range(40))}, recipe=huge)
    text = page(findings)
    assert len(text) < 1_000_000
    assert "more characters" in text
    assert "9 more of 40" in text
    assert len(markdown(findings)) < 60_000
    assert len(words.name("a" * 10_000_000)) == 100
