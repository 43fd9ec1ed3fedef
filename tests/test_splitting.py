"""Splits: by the hash of the row, so that data that grows leaves almost every row where it was."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etude.failures import CheckFailed, DataError
from etude.records import Origin, Record, identify
from etude.splitting import Leak, Parts, Predefined, Split, leaks, refuse_leaks, split, whole_groups


def row(i, group=None):
    fields = {"n": i} if group is None else {"n": i, "g": group}
    return Record(identify(fields), fields, Origin("f", i + 1), "s", "t")


def rows(count, groups=None):
    return [row(i, None if groups is None else f"g{i % groups}") for i in range(count)]


def ids(part):
    return [record.id for record in part]


def side(parts):
    return {r.id: name for name in ("train", "validation", "test") for r in getattr(parts, name)}


def disjoint(sets):
    return sum(map(len, sets)) == len(set().union(*sets))


def check(records, parts):
    """Nothing is lost or doubled, nothing is on two sides, evaluation parts hold an id once, order is kept."""
    assert len(parts.train) + len(parts.validation) + len(parts.test) + len(parts.fates) == len(records)
    assert [f.id for f in parts.fates] == ids(parts.dropped)
    assert all(not f.kept and f.reason for f in parts.fates)
    sets = [set(ids(part)) for part in (parts.train, parts.validation, parts.test)]
    assert disjoint(sets)
    assert len(sets[1]) == len(parts.validation)
    assert len(sets[2]) == len(parts.test)
    place = {id(r): i for i, r in enumerate(records)}
    for part in (parts.train, parts.validation, parts.test):
        assert [place[id(r)] for r in part] == sorted(place[id(r)] for r in part)


def test_defaults_are_shares_of_all_rows():
    some = rows(20_000)
    parts = split(some, Split())
    check(some, parts)
    assert len(parts.test) == pytest.approx(2000, rel=0.1)
    assert len(parts.validation) == pytest.approx(1000, rel=0.12)
    assert not parts.fates


def test_shares_and_seeds():
    some = rows(3000)
    parts = split(some, Split(test=0.3, validation=0.3, seed=5))
    check(some, parts)
    assert len(parts.test) == pytest.approx(900, rel=0.12)
    assert len(parts.validation) == pytest.approx(900, rel=0.12)
    assert split(some, Split(test=0.3, validation=0.3, seed=5)) == parts
    assert side(split(some, Split(test=0.3, validation=0.3, seed=6))) != side(parts)
    assert split(some, Split(test=0, validation=0.0)).train == tuple(some)


def test_a_larger_share_keeps_the_smaller_one():
    some = rows(2000)
    small = set(ids(split(some, Split(test=0.1, validation=0)).test))
    assert small < set(ids(split(some, Split(test=0.2, validation=0)).test))
    few = set(ids(split(some, Split(test=50, validation=0)).test))
    assert few < set(ids(split(some, Split(test=60, validation=0)).test))


numbers = st.lists(st.integers(0, 120), min_size=5, max_size=120)
sizes = st.floats(0, 0.4)


@given(numbers, st.lists(st.integers(0, 400), max_size=40), sizes, sizes, st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_by_share_adding_rows_moves_no_row(first, more, test, validation, seed):
    how = Split(test=test, validation=validation, seed=seed)
    before_rows, after_rows = [row(i) for i in first], [row(i) for i in first + more]
    try:
        before, after = split(before_rows, how), split(after_rows, how)
    except DataError:  # a handful of rows, all of them held out
        assume(False)
    check(before_rows, before)
    check(after_rows, after)
    assert side(before).items() <= side(after).items()


@given(numbers, st.lists(st.integers(0, 400), max_size=40), st.integers(0, 9), st.integers(0, 9), st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_by_count_adding_rows_moves_at_most_as_many(first, more, test, validation, seed):
    how = Split(test=test, validation=validation, seed=seed)
    before_rows, after_rows = [row(i) for i in first], [row(i) for i in first + more]
    if len(set(first)) <= test + validation:
        with pytest.raises(DataError):
            split(before_rows, how)
        return
    before, after = split(before_rows, how), split(after_rows, how)
    check(before_rows, before)
    check(after_rows, after)
    assert (len(after.test), len(after.validation)) == (test, validation)
    added = len(set(ids(after_rows)) - set(ids(before_rows)))
    assert len(set(ids(before.test)) - set(ids(after.test))) <= added
    assert len(set(ids(before.validation)) - set(ids(after.validation))) <= added
    assert set(ids(after.test)) - set(ids(before.test)) <= set(ids(after_rows)) - set(ids(before_rows))


@given(numbers, st.integers(1, 15), st.one_of(sizes, st.integers(0, 6)), st.one_of(sizes, st.integers(0, 6)), st.integers(0, 5))
@settings(deadline=None, max_examples=80)
def test_groups_stay_together(numbers, groups, test, validation, seed):
    some = [row(i, f"g{i % groups}") for i in numbers]
    try:
        parts = split(some, Split(test=test, validation=validation, group="g", seed=seed))
    except DataError:  # few groups, none of them left to train on
        assume(False)
    check(some, parts)
    sides = [{r.fields["g"] for r in part} for part in (parts.train, parts.validation, parts.test)]
    assert disjoint(sides)
    for size, part in ((test, parts.test), (validation, parts.validation)):
        if isinstance(size, int):
            assert len(part) == size


def test_a_count_with_groups_drops_the_rest_of_them():
    some = rows(100, groups=10)
    parts = split(some, Split(test=15, validation=0, group="g"))
    assert len(parts.test) == 15
    assert [f.reason for f in parts.fates] == ["held out with its group"] * 5
    assert len(parts.train) == 80
    touched = {r.fields["g"] for r in parts.test} | {r.fields["g"] for r in parts.dropped}
    assert len(touched) == 2
    assert not touched & {r.fields["g"] for r in parts.train}


def test_by_share_whole_groups_never_move():
    some = rows(200, groups=20)
    before = side(split(some[:100], Split(test=0.3, group="g")))
    assert before.items() <= side(split(some, Split(test=0.3, group="g"))).items()


def test_a_row_without_the_group_says_so():
    with pytest.raises(DataError, match=r"f:1: split\.group is 'nn', and the row has no such field; did you mean 'n'"):
        split(rows(5), Split(group="nn"))


def test_repeated_rows_fall_on_one_side_and_count_once():
    some = rows(50) + rows(50)
    parts = split(some, Split(test=10, validation=5))
    check(some, parts)
    assert (len(parts.test), len(parts.validation), len(parts.train)) == (10, 5, 70)
    assert sorted(f.reason for f in parts.fates) == ["repeated in test"] * 10 + ["repeated in validation"] * 5
    assert all(f.of == f.id for f in parts.fates)


def test_a_predefined_test_file_is_taken_out_of_training():
    some, test = rows(50), [row(3), row(4), row(4), row(90)]
    parts = split(some, Split(test={"path": "test.csv"}, validation=5), test=test)
    assert ids(parts.test) == ids([row(3), row(4), row(90)])
    assert [(f.id, f.reason) for f in parts.fates] == [
        (row(4).id, "repeated in test"),
        (row(3).id, "also in the test set"),
        (row(4).id, "also in the test set"),
    ]
    assert len(parts.validation) == 5
    assert len(parts.train) == 43
    both = split(some, Split(test={"path": "t"}, validation={"path": "v"}), test=test, validation=[row(3), row(7)])
    assert ids(both.validation) == [row(7).id]
    assert len(both.train) == 47
    only = split(some, Split(test=0.2, validation={"path": "v"}), validation=rows(5))
    assert not {r.id for r in only.test} & {r.id for r in rows(5)}
    assert ids(only.validation) == ids(rows(5))


def test_a_predefined_test_file_takes_its_groups_along():
    parts = split(rows(40, groups=4), Split(test={"path": "t"}, validation=0, group="g"), test=[row(100, "g1")])
    assert {r.fields["g"] for r in parts.train} == {"g0", "g2", "g3"}
    assert {f.reason for f in parts.fates} == {"its group is in the test set"}
    assert len(parts.fates) == 10


def test_too_large_parts_say_both_numbers():
    with pytest.raises(DataError, match=r"split\.test asks for 200 rows, more than the 150 different rows"):
        split(rows(150), Split(test=200))
    with pytest.raises(DataError, match=r"split\.test asks for 150 rows, all of the 150"):
        split(rows(150), Split(test=150))
    with pytest.raises(DataError, match=r"split\.validation asks for 60 rows, more than the 50"):
        split(rows(150), Split(test=100, validation=60))
    with pytest.raises(ValidationError, match=r"test 0\.5 and validation 0\.5 together leave no row"):
        Split(test=0.5, validation=0.5)
    with pytest.raises(DataError, match="of 3 different rows, 3 in test and 0 in validation"):
        split(rows(3), Split(test={"path": "t"}, validation=0), test=rows(3))
    with pytest.raises(DataError, match="of 10 different rows"):
        split(rows(10, groups=1), Split(test=5, validation=0, group="g"))
    with pytest.raises(DataError, match="of 0 different rows"):
        split([], Split(test=0, validation=0))


@pytest.mark.parametrize("size", [1.0, -0.1, -3, 200.5, True, "many", None, float("nan"), {"pth": "x"}])
def test_sizes_that_mean_nothing_are_refused(size):
    with pytest.raises(ValidationError):
        Split(test=size)


def test_settings_keep_counts_and_shares_apart():
    assert isinstance(Split(test=1).test, int)
    assert isinstance(Split(test=0.0).test, float)
    assert Split(test={"path": "x"}).test == Predefined(path="x")
    assert Split.model_validate(Split(test=3, validation=0.5).model_dump(mode="json")) == Split(test=3, validation=0.5)


def test_predefined_rows_must_be_given():
    with pytest.raises(ValueError, match="needed"):
        split(rows(5), Split(test={"path": "x"}))
    with pytest.raises(ValueError, match="not asked for"):
        split(rows(5), Split(), test=rows(1))


# ---- groups by count --------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.data())
@settings(deadline=None, max_examples=80)
def test_whole_groups_meet_a_count_as_nearly_as_they_can(sizes, data):
    size = data.draw(st.integers(1, sum(sizes)))
    groups = [(str(at), rows) for at, rows in enumerate(sizes)]
    chosen = whole_groups(groups, size)
    assert len(set(chosen)) == len(chosen)
    sums = {0}
    for rows in sizes:
        sums |= {one + rows for one in sums}
    assert sum(sizes[int(name)] for name in chosen) == min(one for one in sums if one >= size)


def test_whole_groups_take_the_first_that_do():
    groups = [("big", 7), ("five", 5), ("also", 5), ("one", 1), ("last", 2)]
    assert whole_groups(groups, 10) == ["big", "one", "last"]
    assert whole_groups(groups[:3], 10) == ["five", "also"]
    assert whole_groups(groups[:2], 6) == ["big"]
    many = [(str(i), 1 + i % 9) for i in range(30_000)]
    chosen = whole_groups(many, 50_000)
    assert sum(many[int(name)][1] for name in chosen) == 50_000
    huge = [("a", 3_000_000), *((str(i), 1) for i in range(5000))]
    assert whole_groups(huge, 2500) == [str(i) for i in range(2500)]


def test_a_count_of_groups_does_not_prefer_small_or_large_ones():
    some = [row(i, f"g{i // 20}") for i in range(200)] + [row(1000 + i, f"h{i}") for i in range(200)]
    large = [sum(r.fields["g"][0] == "g" for r in split(some, Split(test=100, validation=0, group="g", seed=s)).test) for s in range(30)]
    assert 35 < sum(large) / 30 < 65
    assert not any(split(some, Split(test=90, validation=0, group="g", seed=s)).fates for s in range(10))


# ---- stratified -------------------------------------------------------------------------------------


def values(part):
    return {value: sum(r.fields["g"] == value for r in part) for value in {r.fields["g"] for r in part}}


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), sizes, sizes, st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_stratified_shares_hold_for_every_value(sizes, test, validation, seed):
    some = [row(i, f"v{v}") for v, count in enumerate(sizes) for i in range(count)]
    parts = split(some, Split(test=test, validation=validation, stratify="g", seed=seed))
    check(some, parts)
    for v, count in enumerate(sizes):
        found = {name: values(part).get(f"v{v}", 0) for name, part in (("test", parts.test), ("validation", parts.validation))}
        assert abs(found["test"] - test * count) < 1 + 1e-9 or count == 1
        if count > found["test"] + found["validation"] + 1:
            assert abs(found["validation"] - validation * count) < 1 + 1e-9
        assert values(parts.train)[f"v{v}"] >= 1


@given(st.lists(st.integers(2, 60), min_size=1, max_size=6), st.integers(1, 20), st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_stratified_counts_are_met_and_hold_for_every_value(sizes, test, seed):
    some = [row(i, f"v{v}") for v, count in enumerate(sizes) for i in range(count)]
    room = sum(count - 1 for count in sizes)
    how = Split(test=test, validation=0, stratify="g", seed=seed)
    if test > room:
        with pytest.raises(DataError, match=r"split\.test asks for"):
            split(some, how)
        return
    parts = split(some, how)
    check(some, parts)
    assert len(parts.test) == test
    if min(sizes) > 3 and test < len(some) / 2:
        assert all(abs(values(parts.test).get(f"v{v}", 0) - test * count / len(some)) < 1 for v, count in enumerate(sizes))


@given(st.lists(st.integers(5, 60), min_size=1, max_size=5), st.integers(1, 30), st.integers(0, 5))
@settings(deadline=None, max_examples=40)
def test_stratified_rows_of_one_value_move_no_other(sizes, more, seed):
    some = [row(i, f"v{v}") for v, count in enumerate(sizes) for i in range(count)]
    how = Split(test=0.2, validation=0, stratify="g", seed=seed)
    before, after = split(some, how), split([row(1000 + i, "v0") for i in range(more)] + some, how)
    moved = {r.id for r in before.test} - {r.id for r in after.test}
    assert len(moved) <= more
    assert all(r.fields["g"] == "v0" for r in before.test if r.id in moved)
    gained = [r for r in after.test if r.id not in {x.id for x in before.test}]
    assert all(r.fields["g"] == "v0" for r in gained)


def test_stratified_settings():
    with pytest.raises(ValidationError, match="give one of the two"):
        Split(group="g", stratify="g")
    with pytest.raises(DataError, match=r"f:1: split\.stratify is 'nn', and the row has no such field; did you mean 'n'"):
        split(rows(5), Split(stratify="nn"))
    with pytest.raises(DataError, match="stratified by 'g' 3 leave training one of each value"):
        split([row(i, f"g{i % 3}") for i in range(6)], Split(test=5, validation=0, stratify="g"))
    some = rows(60, groups=3)
    parts = split(some, Split(test={"path": "t"}, validation=0.5, stratify="g"), test=some[:30])
    assert values(parts.validation) == {"g0": 5, "g1": 5, "g2": 5}
    parts = split(rows(3000, groups=3), Split(test=300, validation=0.1, stratify="g"))
    assert values(parts.test) == {"g0": 100, "g1": 100, "g2": 100}
    assert set(values(parts.validation).values()) <= {90, 91}


# ---- leaks ------------------------------------------------------------------------------------------


def worded(id, text, task="t", **fields):
    return Record(id, {"text": text, **fields}, Origin("f", 1), "s", task)


def parts_of(train=(), validation=(), test=()):
    return Parts(tuple(train), tuple(validation), tuple(test), (), ())


def text_of(record):
    return record.fields["text"]


def test_leaks_are_named_once_with_both_sides():
    news = parts_of([worded("a", "One  two"), worded("b", "three"), worded("b", "three")], [worded("c", "ONE two")], [worded("d", "four")])
    more = parts_of([worded("d", "four")], (), [worded("e", "thr\u200aee"), worded("f", "three", "other")])
    found = leaks({"news": news, "more": more}, {"news": text_of, "more": text_of})
    assert found == [
        Leak("id", "d", "more.train", "news.test", ("d",), ("d",)),
        Leak("input", "one two", "news.train", "news.validation", ("a",), ("c",)),
    ]
    assert leaks({"news": news}) == []
    assert not leaks({"news": split(rows(500), Split()), "more": split(rows(500), Split())}, None)
    refuse_leaks(found[1:])
    with pytest.raises(CheckFailed, match=r"leaks in 1 places(.|\n)*the same row \('d'\) in more\.train and news\.test"):
        refuse_leaks(found)
    with pytest.raises(CheckFailed, match="rows that ask the same"):
        refuse_leaks(found[1:], kinds=["input"])


def test_counts_over_sources_with_the_same_rows_leak_and_shares_do_not():
    one, other = rows(300, groups=30), rows(300, groups=30)[:150]

    def parts(**how):
        return {"one": split(one, Split(**how)), "other": split(other, Split(**how))}

    assert leaks(parts(test=0.2, group="g"), group="g") == []
    found = leaks(parts(test=40, validation=0, group="g"), group="g")
    assert {leak.kind for leak in found} == {"id", "group"}
    with pytest.raises(CheckFailed, match=r"and .* more"):
        refuse_leaks(found)
