"""The mask doctor: it is silent about good masks, and every check can say no."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude import previewing
from etude.encoding import Encoder, Piece
from etude.failures import DataError
from etude.formats import FORMATS, ChatFormat, text
from etude.formats.alpaca import Alpaca
from etude.formats.jinja import Jinja
from etude.previewing import Examiner, Preview, Row, as_json, as_text, generation_ends, preview, stop_ids, written
from etude.previewing.samples import tokens
from etude.previewing.statistics import histogram, quantiles, shares
from etude.records import IGNORED, Conversation, Encoded, Message, Origin, Segment, ToolCall

REWRITES = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{{ '(last) ' if m.role == 'assistant' and loop.last else '' }}"
    "{{ m.content + '<|im_end|>\n' }}{% endfor %}{{ '<|im_start|>assistant\n' if add_generation_prompt else '' }}"
)


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


def encoded(pieces: list[Piece]) -> Encoded:
    ids = np.array([i for piece in pieces for i in piece.ids], dtype=np.int32)
    trained = np.array([piece.trained for piece in pieces for _ in piece.ids])
    return Encoded("x", ids, np.where(trained, ids, IGNORED))


def examined(form: ChatFormat, rows: list[Conversation], encoder: Encoder, thorough: bool = True, **given: Any) -> Preview:
    """The rows as the examiner alone sees them: `renderings` would refuse many a broken one by itself."""
    examiner = Examiner(form, encoder, **given)
    examiner.rows = 0 if thorough else previewing.THOROUGH[0] + 1
    for row in rows:
        segments = form.render(row)
        pieces = encoder.pieces(segments)
        examiner.see(Row(row, [segments], [pieces], [encoded(pieces)]))
    return examiner.found()


def broken(found: Preview) -> set[str]:
    assert len(found.failures) == len([c for c in found.checks if c.broken])
    assert all("rows.json:" in line for line in found.failures), "every failure says where"
    return {c.name for c in found.checks if c.broken}


@pytest.mark.parametrize("name", ["auto", "jinja", "alpaca"])
def test_good_masks_pass_and_are_counted(name: str, tokenizer: Any) -> None:
    form, encoder = FORMATS[name]().bind(tokenizer), Encoder.of(tokenizer)
    rows = [talk(i, "yes <|im_end|>" * (i % 3)) for i in range(10)] + [talk(10, task="sea")]
    found = preview(rows, form, encoder, 3, ends=stop_ids(form, encoder))
    assert found.failures == []
    assert [c.name for c in found.checks] == list(previewing.CHECKS)
    assert [(s.name, s.rows, s.examples, s.truncated, s.untrained) for s in found.sets] == [("sky", 10, 10, 0, 0), ("sea", 1, 1, 0, 0)]
    assert len(found.samples) == 3
    for sample in found.samples:
        ids = [i for t in sample.tokens for i in t.ids]
        row = next(r for r in rows if r.id == sample.id)
        assert "".join(t.text for t in sample.tokens) == text(form.render(row))
        assert ids == encoder.ids(form.render(row))
        assert [turn.text for turn in sample.turns] == [m.content for m in row.messages]
    sea = found.sets[1]
    assert sea.tokens == sea.lengths[0] == len(encoder.ids(form.render(rows[-1])))
    assert sea.trained == len(encoder.ids([Segment("It is blue.")])) + 1
    assert sea.share == sea.trained / sea.tokens


def test_each_check_can_fail(tokenizer: Any, make_tokenizer: Any) -> None:
    form, encoder = Jinja().bind(tokenizer), Encoder.of(tokenizer)
    rows = [talk(0), talk(1)]
    assert broken(examined(form, rows, encoder)) == set()
    assert broken(preview([*rows, talk(2).question()], form, encoder)) == {previewing.TRAINED}
    assert broken(preview([talk(0, "half \ud800")], form, encoder)) == {previewing.WRITTEN}

    def ruined(ruin: Any = tuple, ruin_prompt: Any = tuple, **given: Any) -> set[str]:
        return broken(examined(Broken(form, ruin, ruin_prompt), rows, encoder, **given))

    assert ruined(lambda s: [replace(x, trained=x.trained and not x.special) for x in s]) == {previewing.END}
    assert ruined(lambda s: [replace(x, trained=False) for x in s]) == {previewing.TRAINED, previewing.ASKED}
    assert previewing.ASKED in ruined(lambda s: [replace(x, trained=not x.special) for x in s]), "the question is trained too"
    assert ruined(ruin_prompt=lambda s: [*s, Segment(" ")]) == {previewing.TEXT, previewing.IDS}
    for thorough in (True, False):
        spelled = ruined(ruin_prompt=lambda s: [replace(x, special=False) for x in s], thorough=thorough)
        assert spelled == {previewing.IDS}, "the same text, but other tokens"
    both = [lambda s: [Segment("<|im_start|>", special=True), *s]] * 2
    assert ruined(*both) == {previewing.BOS}
    assert ruined(ends=[0]) == {previewing.STOP}
    assert ruined(ends=stop_ids(form, encoder)) == set()
    padded = make_tokenizer(pad_token="<|im_end|>")
    assert broken(examined(Jinja().bind(padded), rows, Encoder.of(padded))) == {previewing.PAD}
    leaky = replace(encoder, first=tokenizer.backend_tokenizer, later=tokenizer.backend_tokenizer, joined=tokenizer.backend_tokenizer)
    assert broken(examined(form, [talk(0, "so <think> not")], leaky)) == {previewing.DATA}


def test_a_tokenizer_that_adds_a_bos_of_its_own_is_seen(tokenizer: Any) -> None:
    form, encoder = Jinja().bind(tokenizer), Encoder.of(tokenizer)
    row = written(talk(0), form, encoder)
    begun = [[Piece([tokenizer.bos_token_id], False, True), *row.pieces[0]]]
    examiner = Examiner(form, encoder)
    examiner.see(replace(row, pieces=begun, results=[encoded(begun[0])]))
    check = next(c for c in examiner.found().checks if c.name == previewing.BOS)
    assert check.examples == ("rows.json:1: '<|im_start|>' stands there 4 times, and the format writes it 3 times",)


def test_what_truncation_must_not_do_is_seen(tokenizer: Any) -> None:
    form, encoder = Jinja().bind(tokenizer), Encoder.of(tokenizer)
    row = written(talk(0), form, encoder)
    (whole,) = row.results
    assert isinstance(whole, Encoded)
    lost = Encoded("0", whole.ids[:-3], whole.labels[:-3])
    shifted = Encoded("0", np.roll(whole.ids, 1), whole.labels)
    for results in (lost, shifted):
        examiner = Examiner(form, encoder)
        examiner.see(replace(row, results=[results]))
        assert broken(examiner.found()) == {previewing.CUT}


def test_an_encoder_that_is_not_pure_is_noticed(tokenizer: Any) -> None:
    """Where segments agree the ids must, unless tokenising depends on more; some rows are tokenised again to see."""
    form, encoder = Jinja().bind(tokenizer), Encoder.of(tokenizer)
    row = written(talk(0), form, encoder)
    other = [[Piece(p.ids[::-1], p.trained, p.special) for p in row.pieces[0]]]
    for first, found in ((0, {previewing.IDS}), (previewing.THOROUGH[0] + 1, set())):
        examiner = Examiner(form, encoder)
        examiner.rows = first
        examiner.see(replace(row, pieces=other, results=[encoded(other[0])]))
        assert broken(examiner.found()) == found


def test_broken_rows_are_reported_with_their_place(tokenizer: Any) -> None:
    form = Jinja().bind(tokenizer)

    def refuse(segments: Any) -> Any:
        raise DataError("rows.json:1: the chat template refuses this")

    found = preview([talk(0)] * 7, Broken(form, ruin=refuse), Encoder.of(tokenizer), 1)
    assert found.failures == ["not so: the format can write every row; 7 rows, first rows.json:1: the chat template refuses this"]
    assert found.sets[0].dropped == (("cannot be written", 7),)
    assert len(found.checks[0].examples) == previewing.PLACES
    assert "and 2 more" in as_text(found)
    one = examined(Broken(form, ruin_prompt=lambda s: s[:-1]), [talk(4)], Encoder.of(tokenizer))
    assert "rows.json:5: message 2: they part at" in one.failures[0]
    refused = examined(Broken(form, ruin_prompt=refuse), [talk(0)], Encoder.of(tokenizer))
    assert refused.failures == ["not so: the format can write every row; 1 row, first rows.json:1: the chat template refuses this"]


def test_truncation_is_shown(tokenizer: Any) -> None:
    form, encoder = Jinja().bind(tokenizer), Encoder.of(tokenizer)
    long = Conversation("a", (Message("user", "on and on " * 50), Message("assistant", "ok")), Origin("rows.json", 1))
    found = preview([long], form, encoder, 1, most_tokens=80)
    assert found.failures == []
    (one,), (sample,) = found.sets, found.samples
    assert one.truncated == 1
    assert one.lengths == (80,) * len(previewing.QUANTILES)
    whole = encoder.ids(form.render(long))
    assert one.cut == sample.cut == len(whole) - 80
    assert [i for t in sample.tokens for i in t.ids] == whole
    (result,) = written(long, form, encoder, 80).results
    assert isinstance(result, Encoded)
    assert [i for t in sample.tokens if not t.cut for i in t.ids] == result.ids.tolist()
    assert not any(t.cut and (t.trained or t.special) for t in sample.tokens)
    assert sum(role.tokens for role in one.roles) == pytest.approx(80, abs=2)
    assert "cut out of the prompt" in as_text(found)
    assert "⟨cut: " in as_text(found)
    dropped = preview([long], form, encoder, 1, most_tokens=80, truncation="drop")
    assert dropped.sets[0].dropped == (("longer than 80 tokens", 1),)
    assert dropped.samples[0].dropped == "longer than 80 tokens"
    assert "1 dropped: longer than 80 tokens" in as_text(dropped)
    assert "DROPPED, longer than 80 tokens" in as_text(dropped)
    refused = preview([long], form, encoder, 1, most_tokens=80, truncation="refuse")
    assert "more than the limit of 80" in refused.failures[0]


def test_roles_share_the_tokens_out(tokenizer: Any) -> None:
    form, encoder = Jinja().bind(tokenizer), Encoder.of(tokenizer)
    messages = (Message("system", "Be brief."), Message("user", "user"), Message("assistant", "It is."), Message("user", "Sure?"))
    row = Conversation("a", (*messages, Message("assistant", "Yes, it is.")), Origin("rows.json", 1))
    one = preview([row], form, encoder, 0).sets[0]
    roles = {role.name: role for role in one.roles}
    assert list(roles) == ["system", "user", "assistant", "markup"]
    assert roles["assistant"].tokens == roles["assistant"].trained == one.trained - 2
    assert (roles["system"].trained, roles["user"].trained, roles["markup"].trained) == (0, 0, 2)
    assert roles["user"].tokens > 0
    assert sum(role.tokens for role in one.roles) == pytest.approx(one.tokens, abs=2)


def test_the_words_of_a_role_are_found_by_their_place(tokenizer: Any) -> None:
    encoder = Encoder.of(tokenizer)
    segments = [Segment("user: "), Segment("user"), Segment("\nanswer: "), Segment("a", trained=True)]
    found = shares(segments, (Message("user", "user"), Message("assistant", "a")), encoder.pieces(segments))
    size = len(encoder.ids(segments[:3]))
    assert found[0] == ("user", pytest.approx(size * 4 / 19), 0.0), "the words, not the markup that spells the same"
    assert found[1][:1] == ("markup",)
    assert found[2] == ("assistant", 1.0, 1.0)
    call = [Segment("call "), Segment('{"name": "f"}', trained=True)]
    assert shares(call, (Message("assistant", "", tool_calls=(ToolCall("f", "{}"),)),), encoder.pieces(call))[1][0] == "assistant"


@given(st.dictionaries(st.integers(1, 5000), st.integers(1, 50), min_size=1, max_size=40))
def test_histograms_hold_every_example(lengths: dict[int, int]) -> None:
    bars = histogram(lengths)
    assert sum(n for _, _, n in bars) == sum(lengths.values())
    assert 1 <= len(bars) <= previewing.statistics.BARS
    assert bars[0][0] <= min(lengths)
    assert bars[-1][1] > max(lengths)
    assert all(below == low for (_, below, _), (low, _, _) in pairwise(bars))
    spread = list(Counter(lengths).elements())
    for low, below, n in bars:
        assert n == sum(low <= length < below for length in spread)
    expected = np.quantile(spread, previewing.QUANTILES, method="inverted_cdf")
    assert quantiles(lengths) == tuple(int(n) for n in expected)


def test_messages_may_ask_not_to_be_trained(tokenizer: Any) -> None:
    """They are counted, and break nothing; a format that trains them all the same does."""
    form, encoder = Jinja().bind(tokenizer), Encoder.of(tokenizer)
    first = Message("assistant", "No.", trained=False)
    row = Conversation(
        "a", (Message("user", "Is it?"), first, Message("user", "Sure?"), Message("assistant", "Yes.")), Origin("rows.json", 1)
    )
    silent = replace(row, id="b", messages=row.messages[:2])

    def as_asked(segments: Any) -> list[Segment]:
        ends = [i for i, s in enumerate(segments) if s.trained and s.special]
        return [replace(s, trained=s.trained and i > ends[0]) for i, s in enumerate(segments)]

    def all_of_it(segments: Any) -> list[Segment]:
        for i, segment in enumerate(segments):
            if segment.text == "No.":
                return [replace(s, trained=s.trained or i <= k <= i + 1) for k, s in enumerate(segments)]
        return list(segments)

    deaf = replace(row, messages=tuple(replace(m, trained=None) for m in row.messages))
    kept = Row(row, [as_asked(form.render(deaf))], [encoder.pieces(as_asked(form.render(deaf)))], [])
    examiner = Examiner(form, encoder)
    examiner.see(kept)
    assert broken(examiner.found()) == set()
    assert examiner.found().sets[0].excused == 1
    assert previewing.ASKED in broken(examined(Broken(form, all_of_it), [row], encoder))
    pieces = [Piece(p.ids, False, p.special) for p in encoder.pieces(form.render(silent))]
    whole = Row(silent, [[replace(s, trained=False) for s in form.render(silent)]], [pieces], [])
    examiner = Examiner(form, encoder)
    examiner.see(whole)
    assert broken(examiner.found()) == set(), "every answer of this row asked for it"
    assert (examiner.found().sets[0].untrained, examiner.found().sets[0].excused) == (1, 1)
    assert "1 answer not to be trained" in as_text(examiner.found())


def test_one_example_an_answer_is_shown_as_such(make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer(REWRITES)
    form, encoder = Jinja().bind(tokenizer), Encoder.of(tokenizer)
    turns = (Message("user", "a?"), Message("assistant", "first answer"), Message("user", "b?"), Message("assistant", "second answer"))
    found = preview([Conversation("a", turns, Origin("rows.json", 1))], form, encoder, 1)
    assert found.failures == []
    assert (found.sets[0].rows, found.sets[0].examples) == (1, 2)
    assert [(s.part, s.parts) for s in found.samples] == [(1, 2), (2, 2)]
    trained = ["".join(t.text for t in s.tokens if t.trained) for s in found.samples]
    assert trained == ["(last) first answer<|im_end|>", "(last) second answer<|im_end|>"]
    assert "the example of answer 2 of 2" in as_text(found)


def test_tool_calls_are_shown(tokenizer: Any) -> None:
    form, encoder = Jinja().bind(tokenizer), Encoder.of(tokenizer)
    call = Message("assistant", "", tool_calls=(ToolCall("weather", '{"city": "Bern"}', "c1"),))
    row = Conversation(
        "a",
        (Message("user", "Is it warm?"), call, Message("tool", "21", name="weather", call_id="c1"), Message("assistant", "Yes.")),
        Origin("rows.json", 1),
        tools=({"type": "function", "function": {"name": "weather"}}, {"name": "clock"}),
    )
    plain = talk(0)
    pieces = encoder.pieces(form.render(plain))
    examiner = Examiner(form, encoder, shown=[0])
    examiner.see(Row(row, [form.render(plain)], [pieces], [encoded(pieces)]))
    found = examiner.found()
    assert found.sets[0].calls == 1
    shown = as_text(found)
    assert 'assistant calls weather({"city": "Bern"})' in shown
    assert "tool weather (call c1): 21" in shown
    assert "tools: weather, clock" in shown


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
    assert "\x1b[4;30;42m" in coloured
    assert "⟦" not in coloured
    assert "\x1b[31m" not in coloured, "no colour of the data's own, and no failed check"
    json.dumps(as_json(found))
    assert as_json(found)["failures"] == []
    assert as_json(found)["sets"][0]["share"] > 0
    assert as_json(found)["sets"][0]["roles"][-1]["share"] > 0


def test_long_rows_are_shown_in_part_only(tokenizer: Any) -> None:
    found = preview([talk(0, "word " * 2000)], Jinja().bind(tokenizer), Encoder.of(tokenizer), 1)
    assert "more tokens …" in as_text(found)
    assert "more characters" in as_text(found)
    assert len(as_text(found)) < 20_000


def test_the_first_space_of_a_word_is_not_lost() -> None:
    """A SentencePiece decoder drops the space that begins a text, also that of every token asked for alone."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "▁It": 2, "▁is": 3, "is": 4, "▁": 5}, unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>", clean_up_tokenization_spaces=False)
    encoder = Encoder.of(tokenizer)
    shown = list(tokens(encoder, encoder.pieces([Segment("It is is")])))
    assert [t.text for t in shown] == ["It", " is", " is"]


def test_notes_on_a_bos_that_the_tokenizer_adds(make_tokenizer: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer(None, bos_token="<|endoftext|>", pad_token="<|im_start|>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    encoder = Encoder.of(tokenizer)
    form = Alpaca().bind(tokenizer)
    found = preview([talk(0)], form, encoder, 0)
    assert found.failures == []
    assert "add_special_tokens=False" in found.notes[0]
    assert f"note: {found.notes[0]}" in as_text(found)
    assert "tuned and asked without it" in preview([talk(0)], replace(form, bos=""), encoder, 0).notes[0]


def test_where_a_model_stops_is_read_from_its_folder(tmp_path: Any) -> None:
    assert generation_ends(tmp_path) is None
    (tmp_path / "config.json").write_text('{"eos_token_id": 7}')
    assert generation_ends(tmp_path) == {7}
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 0]}')
    assert generation_ends(tmp_path) == {0, 2}
    (tmp_path / "generation_config.json").write_text("{}")
    assert generation_ends(tmp_path) == set()
    (tmp_path / "generation_config.json").write_text("[1")
    with pytest.raises(DataError, match=r"generation_config\.json: not a JSON object"):
        generation_ends(tmp_path)


def test_nothing_to_preview(tokenizer: Any) -> None:
    found = preview([], Jinja().bind(tokenizer), Encoder.of(tokenizer), 3)
    assert (found.samples, found.sets, found.failures) == ((), (), [])
    assert "there are no rows" in as_text(found)
    none = preview([talk(0)], Jinja().bind(tokenizer), Encoder.of(tokenizer), 0)
    assert none.samples == ()
    assert none.sets[0].rows == 1
