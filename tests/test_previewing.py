"""The mask doctor: it is silent about good masks, and every check can say no."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest

from etude import previewing
from etude.encoding import Encoder
from etude.failures import DataError
from etude.formats import FORMATS, ChatFormat, text
from etude.formats.jinja import Jinja
from etude.previewing import as_json, as_text, preview
from etude.records import Conversation, Message, Origin, Segment


def talk(i: int, answer: str = "It is blue.", task: str = "sky") -> Conversation:
    messages = (Message("user", f"Why is it {i}?"), Message("assistant", answer))
    return Conversation(str(i), messages, Origin("rows.json", i + 1), task)


@dataclass(frozen=True)
class Broken:
    """A format broken on purpose: `ruin` changes renderings, `ruin_prompt` prompts."""

    form: ChatFormat
    ruin: Any = tuple
    ruin_prompt: Any = tuple
    name: str = "broken"

    def render(self, conversation: Conversation) -> tuple[Segment, ...]:
        return tuple(self.ruin(self.form.render(conversation)))

    def prompt(self, conversation: Conversation) -> tuple[Segment, ...]:
        return tuple(self.ruin_prompt(self.form.prompt(conversation)))

    def stops(self) -> tuple[str, ...]:
        return self.form.stops()


@pytest.mark.parametrize("name", FORMATS)
def test_good_masks_pass_and_are_counted(name: str, tokenizer: Any) -> None:
    form, encoder = FORMATS[name]().bind(tokenizer), Encoder.of(tokenizer)
    rows = [talk(i, "yes <|im_end|>" * (i % 3)) for i in range(10)] + [talk(10, task="sea")]
    found = preview(rows, form, encoder, 3)
    assert found.failures == []
    assert [(s.name, s.rows, s.examples, s.truncated, s.untrained) for s in found.sets] == [("sky", 10, 10, 0, 0), ("sea", 1, 1, 0, 0)]
    assert len(found.samples) == 3
    for sample in found.samples:
        ids = [i for t in sample.tokens for i in t.ids]
        row = next(r for r in rows if r.id == sample.id)
        assert "".join(t.text for t in sample.tokens) == text(form.render(row))
        assert ids == encoder.ids(form.render(row))
    sea = found.sets[1]
    assert sea.tokens == sea.lengths[0] == len(encoder.ids(form.render(rows[-1])))
    assert sea.trained == len(encoder.ids([Segment("It is blue.")])) + 1
    assert sea.share == sea.trained / sea.tokens


def test_each_check_can_fail(tokenizer: Any, make_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    form, encoder = Jinja().bind(tokenizer), Encoder.of(tokenizer)

    def failed(form: ChatFormat, rows: list[Conversation], encoder: Encoder = encoder) -> set[str]:
        found = preview(rows, form, encoder, 1)
        assert len(found.failures) == len([c for c in found.checks if c.broken])
        assert all("rows.json:" in line for line in found.failures)
        return {c.name for c in found.checks if c.broken}

    rows = [talk(0), talk(1)]
    assert failed(form, rows) == set()
    assert failed(form, [*rows, talk(2).question()]) == {previewing.TRAINED}
    assert failed(form, [talk(0, "half \ud800")]) == {previewing.WRITTEN}
    # from here on renderings() would refuse by itself; the doctor must see it alone
    monkeypatch.setattr(previewing, "renderings", lambda form, conversation: [form.render(conversation)])
    without_end = Broken(form, ruin=lambda s: [replace(x, trained=x.trained and not x.special) for x in s])
    assert failed(without_end, rows) == {previewing.END}
    nothing = Broken(form, ruin=lambda s: [replace(x, trained=False) for x in s])
    assert failed(nothing, rows) == {previewing.TRAINED, previewing.END}
    other_prompt = Broken(form, ruin_prompt=lambda s: [*s, Segment(" ")])
    assert failed(other_prompt, rows) == {previewing.TEXT, previewing.IDS}
    spelled = Broken(form, ruin_prompt=lambda s: [replace(x, special=False) for x in s])
    assert failed(spelled, rows) == {previewing.IDS}
    doubled = Broken(*[form, *[lambda s: [Segment("<|im_start|>", special=True), *s]] * 2])
    assert failed(doubled, rows) == {previewing.BOS}
    padded = make_tokenizer(pad_token="<|im_end|>")
    assert failed(Jinja().bind(padded), rows, Encoder.of(padded)) == {previewing.PAD}
    leaky = replace(encoder, first=tokenizer.backend_tokenizer, later=tokenizer.backend_tokenizer, joined=tokenizer.backend_tokenizer)
    assert failed(form, [talk(0, "so <think> not")], leaky) == {previewing.DATA}


def test_broken_rows_are_reported_with_their_place(tokenizer: Any) -> None:
    form = Jinja().bind(tokenizer)

    def refuse(segments: Any) -> Any:
        raise DataError("rows.json:1: the chat template refuses this")

    found = preview([talk(0), talk(0)], Broken(form, ruin=refuse), Encoder.of(tokenizer), 1)
    assert found.failures == ["not so: the format can write every row; 2 times, first rows.json:1: the chat template refuses this"]
    assert found.sets[0].dropped == (("cannot be written", 2),)


def test_truncation_is_shown(tokenizer: Any) -> None:
    form, encoder = Jinja().bind(tokenizer), Encoder.of(tokenizer)
    long = Conversation("a", (Message("user", "on and on " * 50), Message("assistant", "ok")), Origin("rows.json", 1))
    found = preview([long], form, encoder, 1, most_tokens=80)
    assert found.failures == []
    assert found.sets[0].truncated == 1
    assert found.sets[0].lengths == (80,) * len(previewing.QUANTILES)
    assert "cut out of the prompt" in as_text(found)
    dropped = preview([long], form, encoder, 1, most_tokens=80, truncation="drop")
    assert dropped.sets[0].dropped == (("longer than 80 tokens", 1),)
    assert "1 dropped: longer than 80 tokens" in as_text(dropped)
    refused = preview([long], form, encoder, 1, most_tokens=80, truncation="refuse")
    assert "more than the limit of 80" in refused.failures[0]


def test_the_text_shows_tokens_and_what_is_trained(tokenizer: Any) -> None:
    form, encoder = Jinja().bind(tokenizer), Encoder.of(tokenizer)
    answer = "hi \x1b[31m\u202e é😀"
    found = preview([talk(0, answer)], form, encoder, 1)
    plain = as_text(found)
    assert "\x1b" not in plain
    assert "\u202e" not in plain
    assert "⟦" in plain
    assert "│<|im_end|>⟧" in plain
    assert "\\x1b" in plain
    assert "\\u202e" in plain
    assert "😀" in plain, "a character of several tokens is shown as itself"
    ids = encoder.ids([Segment(answer), Segment("<|im_end|>", special=True)])
    assert f"⟦{' '.join(map(str, ids))}⟧" in plain
    coloured = as_text(found, colour=True)
    assert "\x1b[30;42m" in coloured
    assert "⟦" not in coloured
    assert "\x1b[31m" not in coloured, "no colour of the data's own, and no failed check"
    json.dumps(as_json(found))
    assert as_json(found)["failures"] == []
    assert as_json(found)["sets"][0]["share"] > 0


def test_nothing_to_preview(tokenizer: Any) -> None:
    found = preview([], Jinja().bind(tokenizer), Encoder.of(tokenizer), 3)
    assert (found.samples, found.sets, found.failures) == ((), (), [])
    assert "ok" in as_text(found)
