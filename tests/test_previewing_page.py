"""The preview's page: nothing in it can act, it loads nothing, and it shows what the terminal shows."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest

from etude.encoding import Encoder
from etude.formats.jinja import Jinja
from etude.previewing import Preview, preview, stop_ids
from etude.records import Conversation, Message, Origin, ToolCall
from etude.reporting import preview_page, visible
from etude.reporting.preview_page import page
from test_reporting import Parsed
from test_reporting_safety import VECTORS


def seen(tokenizer: Any, words: str, most_tokens: int | None = None) -> Preview:
    """A preview in which `words` stand wherever rows can put them."""
    form, encoder = Jinja().bind(tokenizer), Encoder.of(tokenizer)
    safe = words.encode("utf-8", "replace").decode()  # half a character cannot be tokenised
    rows = [
        Conversation("a", (Message("user", f"q {safe}"), Message("assistant", f"a {safe}")), Origin(f"{words}.json", 1), words),
        Conversation("b", (Message("user", "on and on " * 60), Message("assistant", "ok")), Origin("rows.json", 2), "long"),
        Conversation("c", (Message("user", f"no answer {safe}"),), Origin(f"{words}.json", 3), words),
    ]
    return preview(rows, form, encoder, 3, most_tokens=most_tokens, ends=stop_ids(form, encoder), notes=[words])


@pytest.mark.parametrize("vector", VECTORS)
def test_no_text_of_a_row_can_act_in_the_page(vector: str, tokenizer: Any) -> None:
    html = page(seen(tokenizer, vector), vector, vector)
    found = Parsed(html)
    harmless = Parsed(page(seen(tokenizer, "x"), "x", "x"))

    def kinds(parsed: Parsed) -> set[tuple[str, tuple[str, ...]]]:
        return set(parsed.elements)

    assert kinds(found) <= kinds(harmless), "no element and no attribute that harmless rows do not give"
    spans = [e for e in found.elements if e[0] not in ("span",)]
    assert spans == [e for e in harmless.elements if e[0] not in ("span",)], "there may be more tokens, nothing else"
    for _, name, value in found.attributes:
        assert not name.startswith("on")
        assert name != "style"
        if name in ("href", "src"):
            assert value == "data:," or re.fullmatch(r"#[a-z]+", value), (name, value)
    acting = {c for c in html if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert acting <= {"\t"}
    html.encode("utf-8")
    assert " ".join(visible(vector).split())[:90] in found.text


def test_the_page_loads_nothing(tokenizer: Any) -> None:
    html = page(seen(tokenizer, "x", 90), "x", "x")
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
    assert [tag for tag, _ in found.elements].count("h1") == 1


def test_the_page_shows_tokens_checks_and_numbers(tokenizer: Any) -> None:
    shown = seen(tokenizer, "x", 90)
    html = page(shown, "my-task", "a model")
    found = Parsed(html)
    titles = [value for tag, name, value in found.attributes if tag == "span" and name == "title"]
    assert titles == [f"id{'s' * (len(t.ids) > 1)} {' '.join(map(str, t.ids))}" for s in shown.samples for t in s.tokens]
    assert re.search(r'<span class="trained"><span class="t"[^>]*>a', html)
    assert re.search(r'<span class="cut"><span class="t"', html)
    assert "text-decoration: underline" in html, "what is trained shows without colour too"
    assert "1 of 11 broken" in found.text
    assert "x.json:3: no token of this row is trained" in found.text
    assert "dropped: no trained token" in found.text
    assert f"{shown.samples[1].cut} tokens cut out" in found.text
    rows = next(d for d in shown.sets if d.name == "x")
    assert f"{rows.roles[0].tokens} 0 0.0 %" in found.text
    assert html.count('class="column"') == sum(len(preview_page.columns(d.histogram)) for d in shown.sets)


def test_a_page_of_nothing(tokenizer: Any) -> None:
    form, encoder = Jinja().bind(tokenizer), Encoder.of(tokenizer)
    found = Parsed(page(preview([], form, encoder), "x", "y"))
    assert "No rows" in found.text
    assert "All hold" not in found.text


def test_long_rows_and_tool_calls_in_the_page(tokenizer: Any) -> None:
    form, encoder = Jinja().bind(tokenizer), Encoder.of(tokenizer)
    long = Conversation("a", (Message("user", "word " * 20_000), Message("assistant", "ok")), Origin("rows.json", 1))
    html = page(preview([long], form, encoder, 1), "x", "y")
    assert len(html) < 600_000
    assert "more …" in html
    assert "more characters" in html
    sample = preview([Conversation("b", (Message("user", "hi"), Message("assistant", "ho")), Origin("rows.json", 2))], form, encoder, 1)
    call = previewed_call(sample)
    assert 'class="call">f({&#34;a&#34;: &#34;&lt;b&gt;&#34;})</span>' in page(call, "x", "y")


def previewed_call(found: Preview) -> Preview:
    """The preview with a tool call in its row."""
    from dataclasses import replace

    call = ToolCall("f", '{"a": "<b>"}')
    turns = (*found.samples[0].turns[:1], replace(found.samples[0].turns[1], text="", calls=(f"{call.name}({call.arguments})",)))
    return replace(found, samples=(replace(found.samples[0], turns=turns, tools=("f",)),))
