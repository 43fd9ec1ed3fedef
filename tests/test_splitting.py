"""Splits: by the hash of the row, so that data that grows leaves almost every row where it was."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etude.failures import DataError
from etude.records import Origin, Record, identify
from etude.splitting import Predefined, Split, split


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
