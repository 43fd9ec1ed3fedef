"""Mixing: the proportions asked for, the same every time, and a source that grows moves nothing it need not."""

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import etude
from etude.failures import DataError, RecipeError
from etude.mixing import Balance, Mixture, apportion, even_phrasings, fill, mix, rate, realised, shares, stream, words_of
from etude.records import Origin, Record, identify
from etude.templates import Wording, load, wording


def row(i, source="a", **more):
    fields = {"n": i, **more}
    return Record(identify(fields), fields, Origin("f", i + 1), source, "t")


def rows(source, count, start=0, **more):
    return [row(i, source, **more) for i in range(start, start + count)]


def drawn(mixed, source=None):
    """(id, repeat) of every draw of a source."""
    return [(draw.record.id, draw.repeat) for draw in mixed.order if source in (None, draw.source)]


def counts(mixed):
    return dict(Counter(draw.source for draw in mixed.order))


def line(mixed, source, kind=""):
    return next(one for one in mixed.report.lines if (one.source, one.kind) == (source, kind))


# ---- rates ------------------------------------------------------------------------------------------


def test_rates_are_capped_before_the_temperature():
    """By hand: cube roots of 500, 2000 and (twice) 3000 are 7.937005, 12.599210, 14.422496; their sum is 49.381207."""
    assert rate(500, 3000, 3) == pytest.approx(7.937005260)
    assert rate(40_000, 3000, 3) == rate(3000, None, 3) == pytest.approx(14.422495703)
    sizes = {"a": 500, "b": 2000, "c": 10_000, "d": 40_000}
    found = shares(Mixture(weights="examples_proportional", cap=3000, temperature=3), sizes)
    assert found == pytest.approx({"a": 0.160729, "b": 0.255142, "c": 0.292064, "d": 0.292064}, abs=2e-6)
    capped = shares(Mixture(preset="flan2021"), sizes)
    assert capped == pytest.approx({"a": 500 / 8500, "b": 2000 / 8500, "c": 3000 / 8500, "d": 3000 / 8500})
    assert shares(Mixture(cap={"d": 10_000}), sizes)["d"] == pytest.approx(10_000 / 22_500)
    assert shares(Mixture(weights="equal"), sizes) == dict.fromkeys(sizes, 0.25)
    assert shares(Mixture(temperature=1e9), sizes) == pytest.approx(dict.fromkeys(sizes, 0.25))


def test_groups_share_a_weight_by_examples():
    how = Mixture(weights={"qa": 3, "d": 1}, groups={"qa": ["a", "b", "c"]}, cap={"qa": 100, "b": 50})
    found = shares(how, {"a": 100, "b": 1000, "c": 200, "d": 5})
    assert found == pytest.approx({"a": 0.3, "b": 0.15, "c": 0.3, "d": 0.25})


def test_the_flan_2022_preset():
    how = Mixture(preset="flan2022", groups={"flan2021": ["nli", "news"], "t0": ["t0_a"], "niv2": ["tasks"]})
    sizes = {"nli": 10_000, "news": 300_000, "t0_a": 5, "tasks": 70_000, "cot": 10, "dialog": 10}
    found = shares(how, sizes)
    assert found == pytest.approx({"nli": 0.1, "news": 0.3, "t0_a": 0.32, "tasks": 0.2, "cot": 0.05, "dialog": 0.03})
    assert [how.cap_of(name, how.group_of(name)) for name in sizes] == [30_000, 30_000, 20_000, 5000, 100_000, 200_000]
    few = shares(Mixture(preset="flan2022"), {"flan2021": 100, "cot": 100})
    assert few == pytest.approx({"flan2021": 0.4 / 0.45, "cot": 0.05 / 0.45})
    words = words_of(how, "news", Wording())
    assert (words.few_shot, words.options, words.cot, words.inverted, words.phrasings) == (0.5, 0.5, None, 0, "all")
    words = words_of(how, "cot", Wording(few_shot=0.0, phrasings="first"))
    assert (words.few_shot, words.options, words.cot, words.phrasings) == (0, 1, 1, "first")
    assert words.inverted == pytest.approx(0.230769, abs=1e-6)
    assert words_of(Mixture(), "news", Wording(letters=0.5)) == Wording(letters=0.5)


parts = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0, 1e6) | st.integers(0, 100), min_size=1)


@given(parts, st.integers(0, 10_000))
def test_apportioned_numbers_add_up_and_are_within_one(parts, total):
    if not sum(parts.values()) > 1e-6:
        return
    found = apportion(total, parts)
    assert sum(found.values()) == total
    for name, part in parts.items():
        exact = total * part / sum(parts.values())
        assert abs(found[name] - exact) < 1 + 1e-6
        assert part > 0 or found[name] == 0


@given(parts, st.integers(0, 1000), st.data())
def test_filling_uses_everything_before_it_falls_short(parts, total, data):
    if not sum(parts.values()) > 1e-6:
        return
    most = {name: data.draw(st.integers(0, 300)) for name in parts}
    found = fill(total, parts, most)
    assert all(found[name] <= most[name] for name in parts)
    there = sum(most[name] for name, part in parts.items() if part > 0)
    assert sum(found.values()) == min(total, there)


def test_filling_keeps_the_proportions_of_those_that_have_rows():
    assert fill(100, {"a": 1, "b": 1, "c": 2}, {"a": 4, "b": 1000, "c": 1000}) == {"a": 4, "b": 32, "c": 64}
    assert fill(100, {"a": 1, "b": 1}, {"a": 4, "b": 50}) == {"a": 4, "b": 50}


# ---- drawing ----------------------------------------------------------------------------------------


def test_without_settings_it_is_every_row_once_in_the_order_given():
    some = {"b": rows("b", 5), "a": [*rows("a", 3), row(1, "a")]}
    for how in (Mixture(), Mixture(even_phrasings=True)):
        mixed = mix(some, how, 3)
        assert [draw.record for draw in mixed.order] == [*some["b"], *some["a"]]
        assert {(draw.repeat, draw.weight) for draw in mixed.order} == {(0, 1.0)}
        assert mixed.report.plain()["sources"][1] == {
            "source": "a", "rows": 4, "asked": 4, "asked_share": 4 / 9, "drawn": 4, "drawn_share": 4 / 9,
            "distinct": 4, "repeats": 0, "short": 0,
        }  # fmt: skip
        assert not mixed.report.notes
        assert not mixed.weights


def test_without_a_total_there_is_no_shortfall():
    some = {"a": rows("a", 100), "b": rows("b", 1000)}
    assert counts(mix(some, Mixture(weights={"a": 0.2, "b": 0.8}), 0)) == {"a": 100, "b": 400}
    assert counts(mix(some, Mixture(weights="equal"), 0)) == {"a": 100, "b": 100}
    assert counts(mix(some, Mixture(weights="equal", epochs={"a": 2.5}), 0)) == {"a": 250, "b": 250}
    assert counts(mix(some, Mixture(cap=300), 0)) == {"a": 100, "b": 300}
    assert counts(mix(some, Mixture(epochs=0.5), 0)) == {"a": 50, "b": 500}
    assert counts(mix(some, Mixture(weights="examples_proportional"), 0)) == {"a": 100, "b": 1000}


shapes = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 60), min_size=1)
weights = st.integers(1, 9)


@given(shapes, st.integers(1, 200), st.integers(0, 3), st.data())
@settings(deadline=None, max_examples=60)
def test_proportions_repeats_and_order(sizes, total, seed, data):
    how = Mixture(weights={name: data.draw(weights) for name in sizes}, total=total)
    some = {name: rows(name, count) for name, count in sizes.items()}
    mixed = mix(some, how, seed)
    assert mix(some, how, seed) == mixed
    part = shares(how, sizes)
    for name, there in sizes.items():
        found = drawn(mixed, name)
        assert len(found) == line(mixed, name).drawn == line(mixed, name).asked
        assert abs(len(found) - total * part[name]) < 1
        # no row again before the source is used up: turn by turn, in the order too
        assert [repeat for _, repeat in found] == sorted(repeat for _, repeat in found)
        assert len(set(found)) == len(found)
        assert Counter(repeat for _, repeat in found)[0] == min(there, len(found)) == line(mixed, name).distinct
        assert line(mixed, name).repeats == max(0, len(found) - there)
        for at in range(0, total, 7):  # every stretch from the start holds the proportions
            before = sum(draw.source == name for draw in mixed.order[:at])
            assert abs(before - at * len(found) / total) <= len(sizes) + 1
    assert len(mixed.order) == total


@given(shapes, st.integers(1, 40), st.integers(1, 100), st.integers(0, 3), st.data())
@settings(deadline=None, max_examples=60)
def test_a_source_that_grows_moves_nothing_else(sizes, more, total, seed, data):
    how = Mixture(weights={name: data.draw(weights) for name in sizes}, total=total)
    grown = data.draw(st.sampled_from(sorted(sizes)))
    some = {name: rows(name, count) for name, count in sizes.items()}
    after = {**some, grown: data.draw(st.permutations([*some[grown], *rows(grown, more, start=1000)]))}
    one, two = mix(some, how, seed), mix(after, how, seed)
    for name in sizes:
        if name != grown:
            assert drawn(one, name) == drawn(two, name)
    others = [draw for draw in one.order if draw.source != grown]
    assert others == [draw for draw in two.order if draw.source != grown]
    first = {id for id, repeat in drawn(one, grown) if not repeat}
    assert len(first - {id for id, repeat in drawn(two, grown) if not repeat}) <= more


def test_more_draws_keep_the_fewer():
    some = {"a": rows("a", 50)}
    few, many = (set(drawn(mix(some, Mixture(total=total), 1))) for total in (20, 70))
    assert few < many
    assert set(drawn(mix(some, Mixture(total=20), 2))) != few


def test_rows_of_the_same_id_are_rows_of_their_own():
    some = {"a": [row(0), row(0), row(1)]}
    mixed = mix(some, Mixture(total=3), 0)
    assert sorted(drawn(mixed)) == sorted([(row(0).id, 0), (row(0).id, 0), (row(1).id, 0)])


def test_a_shortfall_is_reported_filled_or_refused():
    some = {"a": rows("a", 10), "b": rows("b", 100)}
    asked = {"weights": {"a": 1, "b": 1}, "total": 60}
    again = mix(some, Mixture(**asked), 0)
    assert counts(again) == {"a": 30, "b": 30}
    assert again.report.notes == ("a: 30 rows drawn, 10 different ones: 20 are repeats",)
    limited = mix(some, Mixture(**asked, epochs={"a": 1.5}), 0)
    assert counts(limited) == {"a": 15, "b": 30}
    assert line(limited, "a").short == 15
    assert "a: 30 rows asked, 15 drawn: 15 short, the set is smaller by that" in limited.report.notes
    filled = mix(some, Mixture(**asked, shortfall="fill"), 0)
    assert counts(filled) == {"a": 10, "b": 50}
    assert "a: 30 rows asked, 10 drawn: 20 short, other sources fill in where they can" in filled.report.notes
    assert "b: 20 rows more than asked, for sources that fell short" in filled.report.notes
    assert counts(mix(some, Mixture(**{**asked, "total": 500}, shortfall="fill", epochs={"a": 2}), 0)) == {"a": 20, "b": 100}
    with pytest.raises(DataError, match=r"a: 30 rows asked, 10 there\. In these proportions there can be 20 rows"):
        mix(some, Mixture(**asked, shortfall="stop"), 0)
    assert counts(mix(some, Mixture(**asked, shortfall="stop", epochs=3), 0)) == {"a": 30, "b": 30}
    with pytest.raises(DataError, match="b: 200 rows asked, 100 there"):
        mix(some, Mixture(counts={"a": 1, "b": 200}, shortfall="stop"), 0)
    assert counts(mix(some, Mixture(counts={"a": 0, "b": 150}), 0)) == {"b": 150}


def test_a_source_without_rows():
    some = {"a": [], "b": rows("b", 10)}
    with pytest.raises(DataError, match="source 'a' has no row to draw"):
        mix(some, Mixture(weights="equal", total=4), 0)
    assert counts(mix(some, Mixture(weights="equal", total=4, shortfall="fill"), 0)) == {"b": 4}
    assert counts(mix(some, Mixture(weights={"a": 0, "b": 1}), 0)) == {"b": 10}
    with pytest.raises(DataError, match="no source that has a weight has a row"):
        mix({"a": []}, Mixture(weights="equal", shortfall="fill"), 0)
    with pytest.raises(DataError, match="that its `epochs` lets be drawn"):
        mix({"a": rows("a", 3), "b": rows("b", 9)}, Mixture(epochs={"a": 0.2}), 0)


def test_a_share_of_reasoning():
    some = {"math": rows("math", 300), "news": rows("news", 1000), "both": rows("both", 400)}

    def reasoned(source, record):
        return source == "math" or (source == "both" and record.fields["n"] % 2 == 0)

    mixed = mix(some, Mixture(weights="equal", total=600, cot=0.1), 0, reasoned=reasoned)
    found = Counter((draw.source, reasoned(draw.source, draw.record)) for draw in mixed.order)
    assert found == {("math", True): 30, ("both", True): 30, ("news", False): 270, ("both", False): 270}
    assert line(mixed, "both", "plain").repeats == 70
    even = mix({"both": some["both"]}, Mixture(cot=0.25), 0, reasoned=reasoned)
    assert counts(even) == {"both": 266}
    with pytest.raises(DataError, match=r"mixture.cot is 0\.05, and no source that is drawn from has a row with reasoning"):
        mix(some, Mixture(cot=0.05), 0, reasoned=lambda source, record: False)
    with pytest.raises(ValueError, match="reasoned"):
        mix(some, Mixture(cot=0.05), 0)


# ---- balance ----------------------------------------------------------------------------------------


def labelled(**sizes):
    return [row(i, "s", label=label) for label, count in sizes.items() for i in range(count)]


def test_balance():
    some = {"s": labelled(good=60, bad=30, odd=10), "t": rows("t", 20)}

    def classes(mixed):
        return dict(Counter(draw.record.fields["label"] for draw in mixed.order if draw.source == "s"))

    over = mix(some, Mixture(balance={"field": "label"}), 0)
    assert classes(over) == {"good": 60, "bad": 60, "odd": 60} == line(over, "s").classes
    assert counts(over)["t"] == 20
    assert line(over, "s").repeats == 80
    assert max(Counter(drawn(over, "s")).values()) == 1
    under = mix(some, Mixture(balance={"field": "label", "by": "undersample"}), 0)
    assert classes(under) == {"good": 10, "bad": 10, "odd": 10}
    assert line(under, "s").repeats == 0
    asked = mix(some, Mixture(counts={"s": 50, "t": 1}, balance={"field": "label", "by": "undersample"}), 0)
    assert sorted(classes(asked).values()) == [16, 17, 17]
    assert len({id for id, _ in drawn(asked, "s")}) == 30
    heavy = mix(some, Mixture(balance={"field": "label", "by": "weights"}), 0)
    assert classes(heavy) == {"good": 60, "bad": 30, "odd": 10}
    by_class = {draw.record.fields["label"]: draw.weight for draw in heavy.order if draw.source == "s"}
    assert by_class == pytest.approx({"good": 100 / 180, "bad": 100 / 90, "odd": 100 / 30})
    assert sum(draw.weight for draw in heavy.order if draw.source == "s") == pytest.approx(100)
    assert {draw.weight for draw in heavy.order if draw.source == "t"} == {1.0}
    assert len(heavy.weights) == 100
    assert ("s", some["s"][0].id) in heavy.weights


def test_balance_says_what_is_wrong():
    some = {"s": labelled(good=3, bad=2), "t": rows("t", 4)}
    with pytest.raises(RecipeError, match=r"no source has a field 'lable'; did you mean 'label'"):
        mix(some, Mixture(balance={"field": "lable"}), 0)
    with pytest.raises(DataError, match=r"^f:1: mixture.balance.field is 'label', and the row has no such field"):
        mix(some, Mixture(balance={"field": "label", "sources": ["t"]}), 0)
    with pytest.raises(RecipeError, match=r"mixture.balance.sources: there is no source 'u'"):
        mix(some, Mixture(balance=Balance(field="label", sources=("u",))), 0)


# ---- phrasings --------------------------------------------------------------------------------------


def test_phrasings_are_used_equally_often_and_stay_where_they_are():
    template, words = load("sentiment"), Wording(phrasings="all", options=0.5, inverted=0.2)

    def chosen(count):
        some = {"s": [row(i, "s", text=f"text {i}", label="neutral") for i in range(count)]}
        draws = mix(some, Mixture(total=count), 0).order
        before = [wording(template, draw.record, 0, words) for draw in draws]
        return draws, before, even_phrasings(template, draws, before, words, 0)

    draws, before, after = chosen(700)
    kinds = Counter((b.listed, template.phrasings[b.phrasing].inverts, a.phrasing) for b, a in zip(before, after, strict=True))
    for listed in (True, False):
        own = [n for (is_listed, inverts, _), n in kinds.items() if is_listed == listed and not inverts]
        assert len(own) > 3
        assert max(own) - min(own) <= 1
    for b, a in zip(before, after, strict=True):
        assert template.phrasings[a.phrasing].inverts == template.phrasings[b.phrasing].inverts
        assert (a.listed, a.style, a.few_shot) == (b.listed, b.style, b.few_shot)
    more, _, later = chosen(710)
    was = {draw.record.id: a.phrasing for draw, a in zip(draws, after, strict=True)}
    now = {draw.record.id: a.phrasing for draw, a in zip(more, later, strict=True)}
    assert sum(was[id] != now[id] for id in was) < 60
    first = Wording()
    assert even_phrasings(template, draws, before, first, 0) == before


# ---- settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"weights": {"a": 1}, "counts": {"a": 1}}, "both say how much"),
        ({"preset": "flan2022", "weights": "equal"}, "both say how much"),
        ({"weights": {"a": 0}}, "every weight is 0"),
        ({"weights": {}}, "names no source"),
        ({"weights": {"a": -1}}, "greater than or equal to 0"),
        ({"counts": {"a": 0}}, "every count is 0"),
        ({"counts": {"a": 1}, "total": 5}, "'total' needs weights"),
        ({"counts": {"a": 1}, "cot": 0.0}, "'cot' needs weights"),
        ({"weights": {"a": 1}, "cap": 5}, "'cap' is for examples_proportional"),
        ({"counts": {"a": 1}, "temperature": 2}, "'temperature' is for examples_proportional"),
        ({"groups": {"g": ["a"]}}, "groups share a weight"),
        ({"weights": {"g": 1, "h": 1}, "groups": {"g": ["a"], "h": ["a"]}}, "'a' is in 'g' and in 'h'"),
        ({"temperature": 0}, "greater than 0"),
        ({"wieghts": "equal"}, "did you mean 'weights'"),
        ({"total": 0}, "greater than or equal to 1"),
        ({"cot": 541}, "less than or equal to 1"),  # 9:1 in YAML 1.1
    ],
)
def test_settings_that_do_not_fit_together(given, words):
    with pytest.raises(ValidationError, match=words):
        Mixture.model_validate(given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"weights": {"a": 1, "c": 1}}, r"mixture.weights: there is no source or group 'c'"),
        ({"weights": {"a": 1}}, r"mixture.weights does not name source 'b'; give it a number, or 0"),
        ({"counts": {"a": 1}}, r"mixture.counts does not name source 'b'"),
        ({"cap": {"aa": 3}}, r"mixture.cap: there is no source or group 'aa'|mixture.cap: there is no source 'aa'"),
        ({"epochs": {"x": 3}}, r"mixture.epochs: there is no source 'x'; there is a, b"),
        ({"preset": "flan2022", "groups": {"cot": ["a"]}}, r"source 'b' belongs to no submixture of flan2022"),
        ({"preset": "flan2022", "groups": {"cots": ["a"]}}, r"mixture.groups: there is no source.* 'cots'; did you mean 'cot'"),
        ({"weights": {"g": 1, "b": 1}, "groups": {"g": ["a", "z"]}}, r"mixture.groups.g: there is no source 'z'"),
        ({"weights": {"b": 1}, "groups": {"b": ["a"]}}, r"'b' is the name of a source"),
    ],
)
def test_names_that_are_no_source(given, words):
    with pytest.raises(RecipeError, match=words):
        mix({"a": rows("a", 3), "b": rows("b", 3)}, Mixture.model_validate(given), 0)


def test_the_shipped_recipe_has_a_mixture_of_its_sources():
    raw = yaml.safe_load((Path(etude.__file__).parent / "recipes" / "multitask.yaml").read_text())
    how = Mixture.model_validate(raw["mixture"])
    assert shares(how, dict.fromkeys(raw["sources"], 400)) == pytest.approx({"first": 0.4, "second": 0.3, "third": 0.3})
    assert counts(mix({name: rows(name, 400) for name in raw["sources"]}, how, 0)) == {"first": 320, "second": 240, "third": 240}
    assert Mixture.model_validate(how.model_dump(mode="json")) == how


# ---- streaming --------------------------------------------------------------------------------------


class Endless:
    """A source that counts how many rows it gave and how often it was opened."""

    def __init__(self, source, count):
        self.source, self.count, self.given, self.opened = source, count, 0, 0

    def __call__(self):
        self.opened += 1
        for i in range(self.count):
            self.given += 1
            yield row(i, self.source)


def exhaust(generator):
    found = []
    while True:
        try:
            found.append(next(generator))
        except StopIteration as stop:
            return found, stop.value


@given(shapes, st.integers(1, 200), st.integers(1, 30), st.integers(0, 3), st.data())
@settings(deadline=None, max_examples=50)
def test_streaming_has_the_numbers_of_mixing(sizes, total, buffer, seed, data):
    how = Mixture(
        weights={name: data.draw(weights) for name in sizes},
        total=total,
        epochs=data.draw(st.sampled_from([None, 1, 2.5])),
        shortfall=data.draw(st.sampled_from(["oversample", "fill"])),
    )
    opened = {name: (lambda name=name: rows(name, sizes[name])) for name in sizes}
    found, report = exhaust(stream(opened, how, seed, buffer=buffer))
    assert exhaust(stream(opened, how, seed, buffer=buffer)) == (found, report)
    mixed = mix({name: rows(name, count) for name, count in sizes.items()}, how, seed)
    numbers = Counter(draw.source for draw in found)
    for name in sizes:
        assert abs(numbers[name] - line(mixed, name).drawn) <= (len(sizes) if how.shortfall == "fill" else 0)
        own = [(draw.record.id, draw.repeat) for draw in found if draw.source == name]
        assert len(set(own)) == len(own)
        assert [repeat for _, repeat in own] == sorted(repeat for _, repeat in own)
        assert Counter(repeat for _, repeat in own)[0] == min(sizes[name], len(own))
    assert len(found) == len(mixed.order) == report.drawn


def test_streaming_reads_no_more_than_it_holds():
    sources = {"a": Endless("a", 10**9), "b": Endless("b", 10**9)}
    drawn = list(islice(stream(sources, Mixture(weights={"a": 3, "b": 1}, total=10**8), 0, buffer=50), 1000))
    assert abs(sum(draw.source == "a" for draw in drawn) - 750) <= 2
    for at in range(0, 1000, 50):
        assert abs(sum(draw.source == "a" for draw in drawn[:at]) - 0.75 * at) <= 3
    assert sources["a"].given <= 750 + 3 + 51
    assert sources["a"].opened == 1
    assert len({(draw.source, draw.record.id) for draw in drawn}) == 1000
    assert [draw.record.fields["n"] for draw in drawn[:50]] != sorted(draw.record.fields["n"] for draw in drawn[:50])


def test_streaming_another_source_does_not_move_with_one_that_grows():
    def run(count):
        opened = {"a": Endless("a", count), "b": Endless("b", 100)}
        return [draw for draw in stream(opened, Mixture(weights="equal", total=150), 0, buffer=10) if draw.source == "b"]

    assert run(80) == run(2000)


def test_streaming_ends_and_says_what_is_wrong():
    found, report = exhaust(stream({"a": Endless("a", 5), "b": Endless("b", 100)}, Mixture(weights={"a": 1, "b": 2}), 0))
    numbers = Counter(draw.source for draw in found)
    assert numbers["a"] == 5
    assert abs(numbers["b"] - 10) <= 2
    assert [one.rows for one in report.lines] == [5, numbers["b"]]
    sized = {"a": 100, "b": 300}
    opened = {name: Endless(name, count) for name, count in sized.items()}
    found, _ = exhaust(stream(opened, Mixture(total=40), 0, sizes=sized))
    assert Counter(draw.source for draw in found) == {"a": 10, "b": 30}
    found, report = exhaust(stream(opened, Mixture(counts={"a": 150, "b": 20}, epochs=1.2), 0))
    assert Counter(draw.source for draw in found) == {"a": 120, "b": 20}
    assert report.notes == (
        "a: 120 rows drawn, 100 different ones: 20 are repeats",
        "a: 150 rows asked, 120 drawn: 30 short, the set is smaller by that",
    )
    with pytest.raises(DataError, match="a: 150 rows asked, 100 there"):
        list(stream(opened, Mixture(counts={"a": 150, "b": 20}, shortfall="stop"), 0))
    with pytest.raises(RecipeError, match="examples-proportional rates need the number of rows"):
        list(stream(opened, Mixture(total=4), 0))
    with pytest.raises(RecipeError, match=r"mixture\.balance needs every row at once"):
        list(stream(opened, Mixture(total=4, balance={"field": "n"}), 0))
    with pytest.raises(RecipeError, match="epochs below 1"):
        list(stream(opened, Mixture(weights="equal", total=4, epochs=0.5), 0))
    with pytest.raises(DataError, match="source 'a' has no row to draw"):
        list(stream({"a": list}, Mixture(weights="equal", total=4), 0))
    once = iter(rows("a", 3))
    with pytest.raises(DataError, match="when it was read again: give a function"):
        list(stream({"a": lambda: once}, Mixture(weights="equal", total=4), 0))


# ---- report -----------------------------------------------------------------------------------------


def test_the_realised_mixture():
    mixed = mix({"a": rows("a", 10), "b": rows("b", 30)}, Mixture(weights={"a": 1, "b": 1}, total=40), 0)
    encoded = [("a", 100, 10)] * 20 + [("b", 50, 40)] * 19
    first, second, whole = realised(mixed.report, encoded)
    assert first == {
        "source": "a", "rows": 10, "asked": 20, "drawn": 20, "distinct": 10, "repeats": 10, "passes": 2.0, "examples": 20,
        "tokens": 2000, "trained_tokens": 200, "asked_share": 0.5, "drawn_share": 0.5,
        "tokens_share": 2000 / 2950, "trained_tokens_share": 200 / 960,
    }  # fmt: skip
    assert (second["examples"], second["passes"]) == (19, 20 / 30)
    assert (whole["source"], whole["drawn"], whole["tokens"], whole["trained_tokens_share"]) == ("all", 40, 2950, 1.0)
    assert realised(mixed.report, [])[-1]["tokens_share"] == 0
