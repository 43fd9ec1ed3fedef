"""The best of several answers to one request: by a judge's scores, by a judge's comparisons, by the task's tests, by agreement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from etude import journal
from etude.failures import DataError
from etude.generation import Given
from etude.generation.quoting import SAID, quoted
from etude.generation.replies import choice, folded, score, until_read
from etude.generation.requests import Request
from etude.metrics.items import RowError
from etude.metrics.math import number
from etude.metrics.pass_at_k import PassAtK
from etude.models import Sampling
from etude.records import Conversation, Message, Prediction
from etude.templates.reasoning import answer_of

LONGEST = 200
"""Characters beyond which a text is no final answer."""

SCORING = (
    "Say how good the answer to the request is, from 0 (useless or wrong) to 10 (nothing to improve). What counts is that it is right, "
    "does all that was asked and no more, and is clear. Its length does not count."
)
SCORED = "Reply with one line, `Score: N`, with N a number from 0 to 10."
COMPARING = (
    "Two answers, A and B, were given to the request. Say which is better. What counts is that it is right, does all that was asked and no "
    "more, and is clear. Their length and their order do not count."
)
COMPARED = "Reply with one line: A, B or TIE."
SORRY = "I could not read that reply. "


@dataclass(frozen=True, slots=True)
class Choice:
    """The place of the answer that was chosen, with facts for the notes; or None and the rule by which there is none."""

    place: int | None
    rule: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judging:
    """A judge: its name, how its replies are drawn, and how often it is asked."""

    llm: str
    sampling: Sampling
    attempts: int


def transcript(request: Request) -> str:
    """All that was asked, each turn named where there are several, between marks."""
    turns = [message for message in request.messages if message.content or message.context]
    if len(turns) == 1:
        return quoted("request", turns[0].words())
    return quoted("request", "\n\n".join(f"{message.role}: {message.words()}" for message in turns))


def by_scores(given: Given, judging: Judging, requests: Sequence[Request], texts: Sequence[Sequence[str]], least: float) -> list[Choice]:
    """The answer with the highest score, the first of equals; none where no score can be read, or the highest is below `least`."""
    places = [(row, place) for row, answers in enumerate(texts) for place in range(len(answers))]
    questions = [
        asked(f"{requests[row].id}.score.{place}", SCORING, transcript(requests[row]), quoted("answer", texts[row][place]), SCORED)
        for row, place in places
    ]
    read = until_read(given, judging.llm, questions, judging.sampling, score, SORRY + SCORED, judging.attempts) if questions else []
    found: list[list[float | None]] = [[] for _ in texts]
    for (row, _), value in zip(places, read, strict=True):
        found[row].append(value)
    choices = []
    for scores in found:
        known = [value for value in scores if value is not None]
        facts = {"scores": scores}
        if not known:
            choices.append(Choice(None, "no verdict", facts))
        elif max(known) < least:
            choices.append(Choice(None, f"scored below {least:g}", facts))
        else:
            choices.append(Choice(scores.index(max(known)), "", facts))
    return choices


def by_pairs(given: Given, judging: Judging, requests: Sequence[Request], texts: Sequence[Sequence[str]]) -> list[Choice]:
    """The answer that wins most comparisons, the first of equals; every two answers are compared in both orders, and one that wins in
    one order only has half a point, as its opponent has. None where no verdict can be read at all."""
    pairs = [(row, pair) for row, answers in enumerate(texts) for pair in combinations(range(len(answers)), 2)]
    both = [(row, order) for row, pair in pairs for order in (pair, pair[::-1])]
    questions = []
    for row, (a, b) in both:
        answers = quoted("A", texts[row][a]), quoted("B", texts[row][b])
        questions.append(asked(f"{requests[row].id}.pair.{a}.{b}", COMPARING, transcript(requests[row]), *answers, COMPARED))
    read = until_read(given, judging.llm, questions, judging.sampling, choice, SORRY + COMPARED, judging.attempts) if questions else []
    points = [[0.0] * len(answers) for answers in texts]
    readable = [len(answers) == 1 for answers in texts]
    for (row, (a, b)), one, other in zip(pairs, read[::2], read[1::2], strict=True):
        readable[row] = readable[row] or one is not None or other is not None
        winner = a if (one, other) == ("a", "b") else b if (one, other) == ("b", "a") else None
        for place in (a, b):
            points[row][place] += 0.5 if winner is None else float(place == winner)
    return [
        Choice(won.index(max(won)), "", {"points": won}) if fine else Choice(None, "no verdict", {"points": won})
        for won, fine in zip(points, readable, strict=True)
    ]


def by_tests(given: Given, running: PassAtK, requests: Sequence[Request], texts: Sequence[Sequence[str]]) -> list[Choice]:
    """The first answer that passes all of its task's tests, run in the jail. Raises DataError for a row without tests, NoSandbox where
    there is no jail."""
    predictions = [
        Prediction(request.id, tuple(answers), (), request.record.task, request.record.fields)
        for request, answers in zip(requests, texts, strict=True)
    ]
    named = running.model_dump(mode="json")
    keys = [journal.digest(["verdicts", named, one.id, one.outputs]) for one in predictions]

    def run(places: Sequence[int]) -> list[list[str]]:
        try:
            found = running.verdicts([predictions[place] for place in places])
        except RowError as error:
            origin = next((request.record.origin for request in requests if request.id == error.id), "")
            raise DataError(f"{origin}: row {error.id}: {error.what}") from error
        return [[verdict.kind for verdict in verdicts] for verdicts in found]

    choices = []
    for kinds in given.ask.kept(keys, run):
        facts = {"verdicts": kinds, "passed": kinds.count("passed")}
        choices.append(Choice(kinds.index("passed"), "", facts) if facts["passed"] else Choice(None, "no test passed", facts))
    return choices


def by_agreement(texts: Sequence[Sequence[str]], drawn: int, least: float) -> list[Choice]:
    """The first answer whose final answer most of them have (self-consistency, Wang et al. 2022, arXiv 2203.11171).

    Final answers are found by `templates.reasoning.answer_of` and compared as numbers where they are numbers, else as texts without
    case. None where two are as frequent, where no two agree, or where the share in all `drawn` answers is below `least`.
    """
    choices = []
    for answers in texts:
        finals = [final(answer) for answer in answers]
        ranked = Counter(one for one in finals if one).most_common(2)
        facts: dict[str, Any] = {"finals": finals}
        if not ranked:
            choices.append(Choice(None, "no final answer", facts))
            continue
        best, votes = ranked[0]
        facts["votes"] = votes
        tie = len(ranked) > 1 and ranked[1][1] == votes
        if tie or votes < 2 or votes < least * drawn:
            choices.append(Choice(None, "no agreement", facts))
        else:
            choices.append(Choice(finals.index(best), "", facts))
    return choices


def final(text: str) -> str:
    """The final answer of a text as it is compared; "" where it has none."""
    found = answer_of(text)
    if len(found) > LONGEST:
        return ""
    value = number(found)
    return folded(found) if value is None else str(value)


def asked(id: str, *parts: str) -> Conversation:
    """A question to a judge."""
    return Conversation(id, (Message("user", "\n\n".join([SAID, *parts])),))
