"""A training row that holds an evaluation row is found, however it was disguised; a shared template is no leak."""

from __future__ import annotations

import json

import pytest

from etude.curation import Beside, Row
from etude.curation.contamination import Contamination
from etude.failures import CheckFailed
from etude.records import Conversation, Message, Origin, Record
from test_curation_duplicates import row, worded

LONG = (
    "A baker sells forty loaves on Monday and half as many on Tuesday, then gives nine to the school. "
    "How many loaves did the baker part with in all?"
)
ANSWER = "On Monday forty loaves went, on Tuesday twenty, and nine went to the school, which makes sixty-nine."
OTHER = "Describe how a canal lock lifts a boat from one level of water to the next, gate by gate, for a child of ten."


def judge(train, held_out, check=None, **beside):
    """Id -> the evaluation id it leaves for; and the facts."""
    found = (check or Contamination()).judge(train, Beside(evaluation={"maths.test": held_out}, **beside))
    json.dumps(found.facts)
    return {fate.id: fate.of for fate in found.fates if not fate.kept}, found.facts


EVALUATION = [row(LONG, ANSWER), row(OTHER, "First the lower gate shuts."), row("What is 7 times 8?", "56")]


@pytest.mark.parametrize(
    ("leak", "how"),
    [
        (row(LONG, "69"), "same input"),
        (row(LONG.upper().replace(",", " ;"), "69"), "same input"),
        (row(f"Think hard. {LONG} Answer in words.", "69"), "13-gram"),
        (row("Write a riddle.", f"Here is one: {LONG}"), "13-gram"),
        (row("Solve the riddle in the text.", "69", input=LONG), "13-gram"),
        (row("A wholly different question", ANSWER.lower()), "same answer"),
        (row("what is 7 TIMES 8", "fifty-six"), "same input"),
    ],
)
def test_a_planted_leak_is_found(leak, how):
    dropped, facts = judge([leak, row("Name a colour", "red")], EVALUATION)
    assert list(dropped) == [leak.id]
    assert facts["rate"] == 0.5
    assert facts["found"][0]["of"][0]["how"] == how
    touched = facts["evaluation"]["maths.test"]
    assert touched["touched"] == [dropped[leak.id]]
    assert touched["clean"] == 2


@pytest.mark.parametrize(
    "clean",
    [
        row("What is 7 times 9?", "63"),
        row("A text that asks: what is 7 times 8? and goes on", "x"),  # five tokens alone say little
        row(" ".join(LONG.split()[:12]), "x"),  # one token short of a run
        row("Shut it.", "First the lower gate shuts."),  # a short answer may be anyone's
    ],
)
def test_what_is_no_leak(clean):
    assert judge([clean], EVALUATION)[0] == {}


def test_a_question_of_eight_to_twelve_tokens_counts_whole():
    held_out = [row("Which river flows through both Vienna and Budapest?", "The Danube")]
    inside = row("Quiz: which river flows through both Vienna and Budapest? Think.", "Danube")
    part = row("Which river flows through both Vienna and Passau?", "Danube")
    assert list(judge([inside, part], held_out)[0]) == [inside.id]


def test_eight_grams_are_stricter():
    part = row(" ".join(LONG.split()[:9]), "x")
    assert judge([part], EVALUATION)[0] == {}
    assert judge([part], EVALUATION, Contamination(ngram=8))[1]["by"] == {"8-gram": 1}
    assert judge([part], EVALUATION, Contamination(ngram=None))[0] == {}


def test_minhash_finds_what_runs_do_not():
    words = LONG.split()
    for place in range(6, len(words), 7):
        words[place] = "loaf"
    changed = row(" ".join(words), "x")
    assert judge([changed], EVALUATION)[0] == {}
    dropped, facts = judge([changed], EVALUATION, Contamination(minhash=0.3))
    assert dropped == {changed.id: EVALUATION[0].id}
    assert facts["by"] == {"minhash": 1}


def test_rows_that_share_a_template_or_an_instruction_share_nothing():
    held_out = [worded("sentiment", text=f"Sales of {thing} rose.", label="positive") for thing in ("bread", "milk")]
    train = [worded("sentiment", text="Costs fell.", label="positive"), worded("sentiment", text="sales of MILK rose", label="negative")]
    assert judge(train, held_out)[0] == {train[1].id: held_out[1].id}
    asked = "Read the following passage with care and then say in one word what mood the person who wrote it was in."
    dropped, _ = judge([row(asked, "glad", input="What a day it was!")], [row(asked, "sad", input="It rained for weeks.")])
    assert dropped == {}


def test_wording_of_many_evaluation_rows_is_boilerplate():
    frame = "You are given a list of numbers and you have to sort them from the smallest to the largest number: "
    held_out = [row(frame + str(n), str(n)) for n in range(30)]
    train = [row(frame + "77", "77")]
    assert judge(train, held_out)[0] == {}
    assert judge(train, held_out[:2])[0] == {train[0].id: held_out[0].id}
    assert judge(train, held_out, Contamination(common=100))[0] == {}  # half of the set has it
    assert judge([row(frame + "7", "7")], held_out)[0]  # the same question all the same


def test_labels_are_no_leak():
    label = "this is the answer that everybody gives to all of the questions of this closed task"
    train, held_out = [row("One", label)], [row("Two", label)]
    assert judge(train, held_out)[1]["by"] == {"same answer": 1}
    assert judge(train, held_out, labels={"rows": (label,)})[0] == {}
    assert judge(train, held_out, Contamination(same_answer=None))[0] == {}


def test_conversations_leak_by_any_turn():
    turns = (
        Message("system", LONG),
        Message("user", "Hi"),
        Message("assistant", "Hello"),
        Message("user", OTHER),
        Message("assistant", "Well"),
    )
    train = Row(Record("talk", {"messages": []}, Origin("talk.jsonl", 4)), Conversation("talk", turns))
    dropped, facts = judge([train], EVALUATION)
    assert dropped == {"talk": EVALUATION[1].id}  # the system's words are not asked
    assert facts["found"][0]["origin"] == "talk.jsonl:4"


def test_the_limit_stops_the_run():
    train = [row(LONG, "69"), *(row(f"Name colour {n}", "red") for n in range(9))]
    assert judge(train, EVALUATION, Contamination(most=0.4))[1]["rate"] == 0.1
    with pytest.raises(CheckFailed, match=r"33\.33% of the rows of maths\.test are touched, and at most 20\.00% may be") as failure:
        judge(train, EVALUATION, Contamination(most=0.2))
    assert failure.value.exit_code == 4
    assert EVALUATION[0].id in str(failure.value)
    with pytest.raises(CheckFailed):
        judge([train[0]], EVALUATION, Contamination(most=0.0, drop=False))


def test_reported_only():
    train = [row(LONG, "69")]
    dropped, facts = judge(train, EVALUATION, Contamination(drop=False))
    assert dropped == {}
    assert (facts["contaminated"], facts["dropped"]) == (1, 0)
    assert judge(train, [])[1]["contaminated"] == 0
