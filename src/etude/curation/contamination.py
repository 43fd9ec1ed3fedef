"""Training rows that hold what an evaluation set asks: found, listed, and dropped before they can raise a score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from etude.catalog import Settings
from etude.curation.keeping import share
from etude.curation.material import Material, material
from etude.curation.rows import Beside, Row, Verdicts
from etude.curation.texts import closed, shown
from etude.failures import CheckFailed
from etude.records import Fate
from etude.similarity import near_pairs, tokens

SHORTEST = 8
"""Tokens from which a short evaluation text counts wherever it is found in a training text; GPT-3's lower bound for n
(Brown et al. 2020, appendix C). A still shorter one has to be the whole question."""
LISTED = 20
"""Evaluation rows named for one training row."""

Words = tuple[str, ...]
Hit = tuple[str, str, str]
"""Evaluation set, id of its row, and how it was found."""


class Contamination(Settings):
    """Drops training rows that hold a question or an answer of any evaluation set of the recipe.

    Compared are the rows' own words, whatever their case and punctuation: never a template's, nor the instruction of a
    row that has an input beside it. A training row is contaminated by an evaluation row when

    - they share a run of `ngram` tokens of the evaluation row's question (13: Brown et al. 2020, GPT-3, appendix C).
      A question of 8 to `ngram` - 1 tokens counts whole; wording that more than `common` evaluation rows have is
      the task's, not a row's;
    - `same_input`: all that the users ask is the same, however short;
    - `same_answer`: an answer of at least so many tokens is the same (tasks with a closed label set are left out);
    - `minhash`: their questions are near duplicates.
    """

    ngram: Annotated[int, Field(ge=2, le=64)] | None = 13
    """Tokens of a run; 8 is stricter. None: no runs."""
    same_input: bool = True
    same_answer: Annotated[int, Field(gt=0)] | None = 13
    """Tokens from which an equal answer counts. None: answers are not compared."""
    minhash: Annotated[float, Field(gt=0, le=1)] | None = None
    """Jaccard similarity of the questions' word 3-grams from which they are the same; None: not compared."""
    common: Annotated[int, Field(gt=0)] = 10
    """A run that more evaluation rows of a set have is boilerplate (GPT-3's rule), as is one that half of a set's
    rows have, where these are more than two."""
    most: Annotated[float, Field(ge=0, le=1)] | None = None
    """The run stops with exit code 4 where a larger share of the training rows is contaminated, or a larger share of an
    evaluation set touched."""
    drop: bool = True
    """Whether contaminated rows leave; false: they are reported only."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """A Fate for every row (`of`: the first evaluation row it holds); `facts` name every contaminated row and every
        touched evaluation row. Linear in the tokens of both sides; about 200 bytes a run of the evaluation sets.

        Raises CheckFailed above `most`.
        """
        index = Index(self.ngram)
        for name, held_out in beside.evaluation.items():
            index.learn(name, held_out, self, beside)
        close = self.near(rows, beside.evaluation) if self.minhash else {}
        fates, found = [], []
        for place, row in enumerate(rows):
            hits = list(dict.fromkeys([*index.hits(row, self, beside), *close.get(place, ())]))
            if hits:
                found.append(listed(row, hits))
            fates.append(Fate.drop(row.id, "contamination", of=hits[0][1]) if hits and self.drop else Fate.keep(row.id))
            if place % 1000 == 999:
                beside.progress(1000)
        facts = summary(rows, found, beside.evaluation, self)
        self.judge_rate(facts)
        return Verdicts(fates, facts)

    def near(self, rows: Sequence[Row], evaluation: Mapping[str, Sequence[Row]]) -> dict[int, list[Hit]]:
        """Place of a training row -> the evaluation rows whose questions are near duplicates of its question."""
        close: dict[int, list[Hit]] = {}
        asked = ["\n".join(material(row).questions) for row in rows]
        for name, held_out in evaluation.items():
            theirs = ["\n".join(material(row).questions) for row in held_out]
            for other, place in near_pairs(theirs, asked, self.minhash or 1.0):
                close.setdefault(place, []).append((name, held_out[other].id, "minhash"))
        return close

    def judge_rate(self, facts: Mapping[str, Any]) -> None:
        """Raise CheckFailed above `most`, naming the worst."""
        if self.most is None:
            return
        shares = {"training rows are contaminated": facts["rate"]}
        shares |= {f"rows of {name} are touched": one["share"] for name, one in facts["evaluation"].items()}
        worst, rate = max(shares.items(), key=lambda item: item[1])
        if rate > self.most:
            first = facts["found"][0]
            raise CheckFailed(
                f"contamination: {rate:.2%} of the {worst}, and at most {self.most:.2%} may be; first: {first['origin']} holds row "
                f"{first['of'][0]['id']} of {first['of'][0]['set']} ({first['of'][0]['how']}): {first['text']!r}. "
                "Take those rows out of the sources, or raise `most` of the contamination check",
                facts,
            )


@dataclass
class Index:
    """What the evaluation sets ask and answer, by their words."""

    ngram: int | None
    runs: dict[Words, list[tuple[str, str]]] = field(default_factory=dict)
    lengths: set[int] = field(default_factory=set)
    starts: set[Words] = field(default_factory=set)
    questions: dict[tuple[Words, ...], list[tuple[str, str]]] = field(default_factory=dict)
    answers: dict[Words, list[tuple[str, str]]] = field(default_factory=dict)

    @property
    def shortest(self) -> int:
        """Tokens of the shortest run there can be; `starts` has the beginnings of all."""
        return min(SHORTEST, self.ngram or SHORTEST)

    def learn(self, name: str, rows: Sequence[Row], settings: Contamination, beside: Beside) -> None:
        """Take in an evaluation set."""
        grams: dict[Words, list[tuple[str, str]]] = {}
        asked: Counter[Words] = Counter()
        for row in rows:
            own = material(row)
            key = (name, row.id)
            cut = {text: tokens(text) for text in (*own.questions, *own.answers)}
            self.questions.setdefault(question(own, cut), []).append(key)
            if settings.same_answer and not closed(row, beside):
                for words in long_answers(own, settings.same_answer, cut):
                    self.answers.setdefault(words, []).append(key)
            mine = {run for text in own.about for run in self.cut(cut[text])}
            asked.update(mine)
            for run in mine:
                grams.setdefault(run, []).append(key)
        limit = min(settings.common, max(2, len(rows) // 2))
        for run, keys in grams.items():
            if asked[run] <= limit:
                self.runs.setdefault(run, []).extend(keys)
                self.lengths.add(len(run))
                self.starts.add(run[: self.shortest])
        self.questions.pop((), None)

    def cut(self, words: Sequence[str]) -> Iterable[Words]:
        """The runs that an evaluation text is known by: all of n tokens; the whole of a shorter one of at least 8."""
        if self.ngram is None:
            return []
        if len(words) >= self.ngram:
            return {tuple(words[i : i + self.ngram]) for i in range(len(words) - self.ngram + 1)}
        return [tuple(words)] if len(words) >= SHORTEST else []

    def hits(self, row: Row, settings: Contamination, beside: Beside) -> list[Hit]:
        """The evaluation rows that a training row holds, and how."""
        own = material(row)
        cut = {text: tokens(text) for text in (*own.questions, *own.answers)}  # `about` is some of the questions
        found: list[Hit] = []
        if settings.same_input:
            found += [(*key, "same input") for key in self.questions.get(question(own, cut), ())]
        for text in (*own.about, *own.answers) if self.starts else ():
            words = cut[text]
            if self.starts.isdisjoint(zip(*(words[k:] for k in range(self.shortest)), strict=False)):
                continue  # nearly always, and decided without a Python loop
            for size in sorted(self.lengths, reverse=True):
                for run in zip(*(words[k:] for k in range(size)), strict=False):
                    found += [(*key, f"{size}-gram") for key in self.runs.get(run, ())]
        if settings.same_answer and not closed(row, beside):
            for whole in long_answers(own, settings.same_answer, cut):
                found += [(*key, "same answer") for key in self.answers.get(whole, ())]
        return found


def question(own: Material, cut: Mapping[str, Sequence[str]]) -> tuple[Words, ...]:
    """All that is asked, as words, empty texts left out; `cut` has the tokens of each text."""
    return tuple(tuple(cut[text]) for text in own.questions if cut[text])


def long_answers(own: Material, least: int, cut: Mapping[str, Sequence[str]]) -> list[Words]:
    """The answers of at least so many tokens; `cut` has the tokens of each text."""
    return [tuple(cut[text]) for text in own.answers if len(cut[text]) >= least]


def listed(row: Row, hits: Sequence[Hit]) -> dict[str, Any]:
    """One contaminated row for the report: of each evaluation row the first way it was found."""
    ways: dict[tuple[str, str], str] = {}
    for name, other, how in hits:
        ways.setdefault((name, other), how)
    of = [{"set": name, "id": other, "how": how} for (name, other), how in ways.items()]
    text = shown(" ".join(material(row).questions) or row.answer)
    return {"id": row.id, "origin": str(row.record.origin), "text": text, "evaluation_rows": len(of), "of": of[:LISTED], "touched": of}


def summary(
    rows: Sequence[Row], found: list[dict[str, Any]], evaluation: Mapping[str, Sequence[Row]], settings: Contamination
) -> dict[str, Any]:
    """Rates and rows as plain data: `found` a training row, `evaluation` a set with the ids it is touched at (the
    others are the clean subset)."""
    touched: dict[str, set[str]] = {name: set() for name in evaluation}
    how: Counter[str] = Counter()
    for one in found:
        whole = one.pop("touched")
        for hit in whole:
            touched[hit["set"]].add(hit["id"])
        how.update({hit["how"] for hit in whole})
    sets = {
        name: {
            "rows": len(held_out),
            "touched": sorted(touched[name]),
            "clean": len({row.id for row in held_out} - touched[name]),
            "share": share(len(touched[name]), len({row.id for row in held_out})),
        }
        for name, held_out in evaluation.items()
    }
    return {
        "rows": len(rows),
        "contaminated": len(found),
        "rate": share(len(found), len(rows)),
        "dropped": len(found) if settings.drop else 0,
        "by": dict(sorted(how.items())),
        "evaluation": sets,
        "found": found,
    }
