"""The scripted LLM: answers from a list, a mapping or a function."""

from __future__ import annotations

import pytest

from etude.failures import DataError
from etude.models import LLM, Sampling
from etude.models.scripted import Scripted
from etude.records import Conversation, Message


def asking(*texts: str) -> list[Conversation]:
    return [Conversation(f"row{i}", (Message("user", text), Message("assistant", "reference"))) for i, text in enumerate(texts)]


def test_a_list_answers_in_order_and_says_when_it_is_used_up() -> None:
    llm: LLM = Scripted(["one", "two", "three"])
    assert [a.text for (a,) in llm.complete(asking("a", "b"), Sampling())] == ["one", "two"]
    with pytest.raises(DataError, match=r"3 answers are used up; row row1 asks for one more: 'd'"):
        llm.complete(asking("c", "d"), Sampling())


def test_a_mapping_answers_by_the_question_and_names_the_nearest() -> None:
    llm = Scripted({"What is up?": "the sky"})
    (answer,) = llm.complete(asking("What is up?"), Sampling())[0]
    assert (answer.text, answer.finish, answer.tokens) == ("the sky", "stop", 2)
    with pytest.raises(DataError, match=r"no answer to 'What is op\?' \(row row0\); did you mean 'What is up\?'"):
        llm.complete(asking("What is op?"), Sampling())


def test_the_context_of_a_question_is_part_of_it() -> None:
    question = Conversation("row", (Message("user", "Add.", context="1 2"),))
    assert Scripted({"Add.\n\n1 2": "3"}).complete([question], Sampling())[0][0].text == "3"


def test_a_function_sees_the_question_without_its_answer_and_the_number_of_the_draw() -> None:
    llm = Scripted(lambda question, number: f"{question.messages[-1].content}{number}")
    found = llm.complete(asking("x", "y"), Sampling(n=2, temperature=1.0))
    assert [[a.text for a in answers] for answers in found] == [["x0", "x1"], ["y0", "y1"]]
    assert [q.messages[-1].role for q in llm.asked] == ["user", "user"]


def test_calls_progress_and_stop_texts() -> None:
    llm = Scripted(["good\nQuestion: next", "plain"])
    told: list[int] = []
    found = llm.complete(asking("a", "b"), Sampling(stop=("Question:", "\n")), told.append)
    assert [a.text for (a,) in found] == ["good", "plain"]
    assert (told, llm.calls, len(llm.asked)) == ([1, 1], 1, 2)
    ((index, answers),) = Scripted(["z"]).complete_each(asking("a"), Sampling())
    assert (index, answers[0].text) == (0, "z")


def test_one_text_is_no_script() -> None:
    with pytest.raises(TypeError, match=r"write \[text\]"):
        Scripted("yes")
