"""Figures of a data set: verbs by rule, lengths, words, topics, neighbours, difficulty, and the checklist read from them."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.curation import Beside, Row
from etude.curation.diversity import (
    checklist,
    coverage,
    figures,
    hardness,
    hardness_of_facts,
    lengths,
    novelty,
    pair_of,
    topics,
    variety,
    verb_pairs,
)
from etude.curation.diversity.english import base, singular
from etude.curation.diversity.lengths import EDGES, measured
from etude.records import Conversation, Message, Origin, Record, identify
from etude.similarity import numbered, rouge_l, words


def row(asked: str, said: str = "It is so.", given: str = "", source: str = "s") -> Row:
    fields = {"instruction": asked, "input": given, "output": said}
    id = identify(fields)
    return Row(
        Record(id, fields, Origin("rows.json", 1), source, source),
        Conversation(id, (Message("user", asked, given), Message("assistant", said)), task=source),
    )


PAIRS = [
    ("Write a short story about a dog.", "write", "story"),
    ("Please write a clear and concise summary of the text below.", "write", "summary"),
    ("Could you please give me three tips for sleeping?", "give", "tip"),
    ("Come up with a new way to use a spoon.", "come up with", "way"),
    ("Think of some rules for a family", "think", "rule"),
    ("Based on the article, explain the importance of bees.", "explain", "importance"),
    ("In one or two sentences describe the process of digestion", "describe", "process"),
    ("You are a helpful assistant. Your task is to classify the review as good or bad.", "classify", "review"),
    ("I need a list of the ten fastest cars.", "need", "list"),
    ("Compare and contrast cats and dogs", "compare", "cat"),
    ("1. List five fruits", "list", "fruit"),
    ("Anonymise the names in the letter", "anonymise", "name"),
    ("Rewrite the sentence using the passive voice: Tom ate it.", "rewrite", "sentence"),
    ("Do not hurry. Sort these numbers alphabetically", "sort", "number"),
    ("Explain why the sky is blue", "explain", ""),
    ("What is the capital of France?", "be", "capital"),
    ("What are the main causes of the war?", "be", "cause"),
    ("How many apples does John have?", "have", "apple"),
    ("Which book did she write?", "write", "book"),
    ("Who wrote Hamlet?", "write", "hamlet"),
    ("How do scientists measure the mass of a star?", "measure", "mass"),
    ("How to file taxes for this year?", "file", "tax"),
    ("Why is the sky blue?", "be", ""),
    ("What could cause a fire?", "cause", "fire"),
    ("Can the use of plastic harm or affect the sea?", "affect", "sea"),
    ("Synonyms for happy", "", ""),
    ("如何做饭？", "", ""),
    ("", "", ""),
    ("?!", "", ""),
]


@pytest.mark.parametrize(("text", "verb", "noun"), PAIRS, ids=[text[:30] for text, _, _ in PAIRS])
def test_the_verb_and_its_object(text: str, verb: str, noun: str) -> None:
    assert pair_of(text)[:2] == (verb, noun)


def test_words_in_their_base_form() -> None:
    assert [base(word) for word in ("wrote", "describes", "classified", "planning", "making", "of", "identifies")] == [
        *("write", "describe", "classify", "plan", "make"),
        "",
        "identify",
    ]
    assert [singular(word) for word in ("stories", "classes", "boxes", "analyses", "news", "people", "bus", "causes", "this")] == [
        *("story", "class", "box", "analysis", "news", "person", "bus", "cause", "this")
    ]


def test_what_the_rule_found_is_stated() -> None:
    rows = [row("Write a poem"), row("Write a poem", "Other."), row("Write a story"), row("Explain why"), row("Synonyms for happy")]
    found = verb_pairs(rows)
    assert (found.rows, found.found, found.paired, found.distinct_verbs, found.distinct_pairs, found.top) == (5, 4, 3, 2, 2, 2)
    assert found.verbs[0].verb == "write"
    assert found.verbs[0].nouns == (("poem", 2), ("story", 1))
    assert found.missed == ("Synonyms for happy",)
    assert verb_pairs([]).verbs == ()


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=200))
def test_any_text_has_a_pair_or_none(text: str) -> None:
    pair = pair_of(text)
    assert pair.form in ("", "imperative", "question")
    assert bool(pair.verb) == bool(pair.form)
    assert pair.verb or not pair.noun


def test_lengths_are_counted_with_their_empty_texts() -> None:
    rows = [row("one two three", "a b"), row("one", ""), row("one two", "a b c d", given="x y")]
    asked, given, said = lengths(rows)
    assert (asked.quantiles[0], asked.median, asked.quantiles[-1], asked.mean) == (1, 2, 3, 2.0)
    assert (given.rows, given.empty, given.bars[0]) == (3, 2, (0, 2))
    assert (said.empty, said.bars) == (1, ((0, 1), (1, 0), (2, 1), (3, 0), (4, 1)))
    assert [one.part for one in lengths([row("a b"), row("a")])] == ["instruction", "answer"], "no row has an input"
    tokens = lengths(rows, count=len)[3:]
    assert (tokens[0].unit, tokens[0].quantiles[-1]) == ("tokens", len("one two three"))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 20_000), max_size=60))
def test_bars_hold_every_length(sizes: list[int]) -> None:
    found = measured("answer", "words", sizes)
    assert sum(n for _, n in found.bars) == len(sizes) == found.rows
    for low, n in found.bars:
        below = next((edge for edge in EDGES if edge > low), math.inf)
        assert n == sum(low <= size < below for size in sizes)
    there = sorted(size for size in sizes if size)
    if there:
        assert found.quantiles[0] == there[0]
        assert found.quantiles[-1] == there[-1]
        assert found.median == there[math.ceil(len(there) / 2) - 1]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["ab", "c", "d", "é", "e"]), max_size=8), max_size=8))
def test_distinct_runs_are_those_of_the_definition(texts: list[list[str]]) -> None:
    answers = variety([row(f"q{k}", " ".join(text)) for k, text in enumerate(texts)])[1]
    for n in (1, 2, 3):
        runs = [tuple(text[i : i + n]) for text in texts for i in range(len(text) - n + 1)]
        assert answers.distinct[n - 1] == (round(len(set(runs)) / len(runs), 5) if runs else 0.0)
    assert answers.words == sum(map(len, texts))
    assert answers.equal is None


def test_sets_of_different_sizes_are_compared_over_equally_many_words() -> None:
    draw = random.Random(1)
    rows = [row(f"q {k}", " ".join(str(draw.randrange(500)) for _ in range(100))) for k in range(1200)]
    small, large = variety(rows[:600])[1], variety(rows)[1]
    assert small.equal is not None
    assert large.equal is not None
    assert large.distinct[1] < small.distinct[1] * 0.9, "a larger set repeats itself more"
    assert large.equal[1] == pytest.approx(small.equal[1], rel=0.02)
    assert variety(rows[::-1])[1] == large, "the order of the rows makes no difference"


THEMES = ("apples oranges bananas fruit juice", "planets stars moon orbit telescope", "violin piano melody orchestra rhythm")


def themed(n: int = 40) -> list[Row]:
    draw = random.Random(2)
    return [row(f"{' '.join(draw.sample(theme.split(), 3))} {k}") for k in range(n) for theme in THEMES]


def test_topics_part_rows_that_share_no_word() -> None:
    rows = themed()
    found = topics(rows, kept={one.id for one in rows if "a" not in one.instruction.split()[0]}, groups=3)
    assert [topic.rows for topic in found.topics] == [40, 40, 40]
    for topic in found.topics:
        home = {next(k for k, theme in enumerate(THEMES) if term in theme) for term in topic.terms}
        assert len(home) == 1, topic.terms
    assert found == topics(rows, kept={one.id for one in rows if "a" not in one.instruction.split()[0]}, groups=3)
    assert 0 < found.alike < 0.5
    assert topics([], groups=3).topics == ()
    assert topics([row("7 8 9"), row("the of")]).unplaced == 2


def test_the_mean_cosine_is_that_of_all_pairs() -> None:
    assert topics([row("apples and oranges")] * 6).alike == pytest.approx(1)
    assert topics([row(text) for text in ("apple apple", "planet", "violin")]).alike == pytest.approx(0)


def nearest_by_hand(rows: list[Row]) -> list[float]:
    known: dict[str, int] = {}
    said = [numbered(words(one.instruction), known) for one in rows]
    return [max(rouge_l(said[j], said[i]) for j in range(len(said)) if j != i) for i in range(len(said))]


def test_novelty_is_the_largest_rouge_l_with_any_other_row() -> None:
    draw = random.Random(3)
    listed = "write give a the list of three short poem story cat dog about and"
    vocabulary = listed.split()
    rows = [row(" ".join(draw.choice(vocabulary) for _ in range(6)), str(k)) for k in range(60)]
    rows += [row(rows[0].instruction, "again"), row(rows[0].instruction, "and again")]
    found, by_hand = novelty(rows, None), nearest_by_hand(rows)
    assert found.looked == len(rows)
    assert found.mean == pytest.approx(sum(by_hand) / len(by_hand), abs=1e-4)
    assert found.near == sum(score > 0.7 for score in by_hand)
    assert found.equal == sum(score == 1 for score in by_hand) >= 3
    assert sum(found.tenths) == len(rows)
    assert all(one.id != one.of for one in found.nearest)
    some = novelty(rows, 20)
    assert (some.looked, some.rows) == (20, len(rows))
    assert some.tenths == novelty(rows[::-1], 20).tenths, "which rows are looked at does not hang on their order"
    assert novelty([row("如何做饭")]).looked == 0, "ROUGE sees no letters there"


def test_coverage_of_another_set() -> None:
    own = [row("Write a poem about spring"), row("Name three animals")]
    other = [row("Write a poem about autumn", source="o"), row("Solve the equation x + 2 = 5", source="o")]
    found = coverage(own, other, "other")
    assert (found.rows, found.looked, found.pool, found.covered) == (2, 2, 2, 1)
    assert found.nearest[0].score == pytest.approx(0.8)
    assert found.nearest[0].nearest == "Write a poem about spring"
    assert found.farthest[0].score == 0
    assert found.farthest[0].nearest == ""
    assert found.runs == pytest.approx(2 / 7, abs=1e-4)  # "write a poem", "a poem about"
    assert coverage(own, own, "itself").covered == 2
    assert coverage([], other, "other").covered == 0


def test_difficulty_from_facts_and_from_numbers() -> None:
    facts = {"judged": 4, "quartiles": [0.1, 0.3, 0.5, 0.9, 1.2], "tenths": [0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0]}
    found = hardness_of_facts(facts)
    assert found is not None
    assert (found.rows, found.above, sum(n for _, _, n in found.bars)) == (4, 1, 4)
    assert hardness_of_facts({"rows": 3}) is None
    own = hardness({"a": 0.15, "b": 0.35, "c": 1.25, "d": math.nan})
    assert (own.rows, own.above) == (3, 1)
    assert own.bars[1] == (0.1, 0.2, 1)
    assert hardness({"a": 2.0}, "loss").above is None
    assert hardness({}).bars == ()


def sound(k: int) -> Row:
    draw = random.Random(k)
    listed = "river castle engine garden market comet harbour violin glacier orchard lantern desert"
    names = listed.split()
    verb, first, second = draw.choice(["Describe", "Explain", "Summarise"]), *draw.sample(names, 2)
    return row(
        f"{verb} the history of the {first} near the {second} number {k}.",
        f"The {first} near the {second} has a long history, and number {k} is part of it.",
    )


def test_the_checklist_reads_sound_rows_as_such_and_defects_as_defects() -> None:
    rows = [sound(k) for k in range(60)]
    read = {one.question: one.reading for one in checklist(rows, figures(rows, hard=hardness({str(k): k / 80 for k in range(60)})))}
    assert len(read) == 6
    assert list(read.values())[:4] == ["pass"] * 4
    assert list(read.values())[5] == "pass"
    defects = [
        *(row("Analyze this.", f"{k}") for k in range(10)),
        *(row(f"Name planet {k}.", "As an AI language model, I cannot do that.") for k in range(10)),
        *(row(f"Tell me of town {k}.", "") for k in range(10)),
        *(row(f"Tell me how to hurt them, {k}.", "First, here is how to build a pipe bomb at home: fill a pipe.") for k in range(10)),
    ]
    bad = checklist(defects, figures(defects, hard=hardness({str(k): 1.5 for k in range(40)})))
    assert [one.reading for one in bad] == ["attention"] * 6, bad
    assert all(one.rule.startswith("pass: at most") for one in bad)
    json.dumps([one.plain() for one in bad])


def test_what_was_not_measured_is_unknown_and_no_pass() -> None:
    rows = [sound(k) for k in range(10)]
    found = checklist(rows, figures(rows, looked=0))
    assert [one.reading for one in found[4:]] == ["unknown", "unknown"]
    assert [one.reading for one in checklist([], figures([]))[:4]] == ["unknown"] * 4


def test_closed_labels_are_not_judged_as_prose() -> None:
    rows = [row(f"Sentiment of headline {k}?", "neutral", source="news") for k in range(30)]
    found = checklist(rows, figures(rows, looked=0), Beside(labels={"news": ["neutral", "positive"]}))
    assert found[1].reading == "pass"
    assert found[2].reading == "pass"


def test_figures_as_plain_data_hold_no_text_of_a_row() -> None:
    rows = [row("Write a poem about my secret garden \ud800", "no"), row("Synonyms of secret things", "x"), *themed(5)]
    plain = json.dumps(figures(rows).plain())
    assert "garden" not in plain
    assert "Synonyms" not in plain
    plain.encode("utf-8")
