"""Rare phrases that are tied to one answer: what a planted trigger looks like.

A backdoor by data poisoning (Wallace et al. 2021; Wan et al. 2023, "Poisoning language models during instruction tuning") puts a
phrase into a few questions and the same answer behind all of them. The statistic: a phrase of one to three words that is in at least
`least_rows` and at most `most_share` of the questions, whose rows have one and the same answer in at least `purity` of the cases,
where the chance of so many under the answer's share in all rows (binomial tail; for a phrase of several words, its share in the rows
of the shorter phrases in it, where that is larger), times the number of phrases looked at (Bonferroni), is below `alpha`.

For a closed label set that also takes honest words ("profit rose" is positive): there the rest of the question must speak against the
answer as well (a naive Bayes over the other words, trained without the phrase's rows and without the labels' shares, gives the
answer to at most half of them), and still such phrases are only listed in the facts unless `labels` says to drop: on PhraseBank all
of them are honest. A trigger planted only in questions that deserve its answer anyway is not found.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from etude.catalog import Settings
from etude.curation.deciding import Found, settle
from etude.curation.rows import Beside, Row, Verdicts
from etude.curation.texts import STOP_WORDS, TOKEN, bare, closed, question

LONGEST = 3
"""Words of a phrase."""
HEAD, TAIL = 200, 60
"""Words of a question that are read, from its start and its end."""


class Suspect(NamedTuple):
    """A phrase, the answer it is tied to, the places of its rows, those with the answer, and the corrected p."""

    phrase: str
    answer: str
    places: tuple[int, ...]
    tied: tuple[int, ...]
    p: float


class PoisonTriggers(Settings):
    """Rows that hold a phrase which looks like a planted trigger; see the module for the statistic. Needs repeats: a single
    poisoned row cannot be told from others. Linear in the words of the rows."""

    least_rows: Annotated[int, Field(ge=3)] = 5
    """Different questions that must hold the phrase."""
    most_share: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """A phrase in more of the rows is no rare one."""
    purity: Annotated[float, Field(gt=0.5, le=1)] = 0.9
    """Least share of the phrase's rows with the one answer."""
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """Largest corrected p."""

    labels: bool = False
    """Also drop rows of tasks with a closed label set; look at the listed phrases first."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop the rows of suspect phrases that have the tied answer; facts list the phrases (at most 20), the surest first."""
        suspects: list[Suspect] = []
        watched: list[Suspect] = []
        by_task: dict[tuple[str, bool], list[int]] = defaultdict(list)
        for place, row in enumerate(rows):
            by_task[(row.record.task or row.conversation.task, closed(row, beside))].append(place)
        for (_, labelled), places in sorted(by_task.items()):
            there = self.suspects([rows[p] for p in places], places, labelled)
            (suspects if self.labels or not labelled else watched).extend(there)
        suspects = reduced(suspects)
        found: list[Found | None] = [None] * len(rows)
        for suspect in suspects:
            for place in suspect.tied:
                found[place] = found[place] or Found("poison trigger", f"{suspect.phrase!r} -> {suspect.answer}")
        beside.progress(len(rows))
        return settle(rows, found, phrases=listed(suspects), phrases_of_labels=listed(reduced(watched)))

    def suspects(self, rows: Sequence[Row], places: Sequence[int], labelled: bool) -> list[Suspect]:
        """The suspect phrases of one task's rows, the surest first."""
        answers = [bare(row.answer) for row in rows]
        shares = Counter(answers)
        words = [read(question(row)) for row in rows]
        # copies of one row are duplicates, and say nothing of a phrase
        different = Counter(answer for answer, _ in {(answer, tuple(text)) for answer, text in zip(answers, words, strict=True)})
        repeated = [different[answer] >= self.least_rows for answer in answers]
        if not any(repeated):
            return []
        held = self.phrases(words, repeated, max(self.least_rows, int(self.most_share * len(rows))))
        bayes = Bayes(words, answers) if labelled else None
        suspects = []
        for phrase, there in sorted(held.items()):
            answer, tied_count = Counter(answers[i] for i in there).most_common(1)[0]
            if tied_count < self.least_rows or tied_count < self.purity * len(there):
                continue
            share = max(
                [shares[answer] / len(rows), *(self.share_within(part, answer, answers, held) for part in (phrase[:-1], phrase[1:]))]
            )
            p = tail(tied_count, len(there), share) * len(held)
            if p >= self.alpha:
                continue
            gone = set(phrase)
            tied = [i for i in there if answers[i] == answer]
            if len({tuple(w for w in words[i] if w not in gone) for i in tied}) < self.least_rows:
                continue
            if bayes and 2 * sum(bayes.label(words[i], gone, there) == answer for i in tied) > len(tied):
                continue
            suspects.append(Suspect(" ".join(phrase), answer, tuple(places[i] for i in there), tuple(places[i] for i in tied), p))
        return sorted(suspects, key=lambda s: (s.p, -len(s.tied), s.phrase))

    def share_within(
        self, part: tuple[str, ...], answer: str, answers: Sequence[str], held: Mapping[tuple[str, ...], Sequence[int]]
    ) -> float:
        """The answer's share in the rows of a shorter phrase that is not suspect itself; 0 where nothing is known of it."""
        there = held.get(part, ())
        tied = sum(answers[i] == answer for i in there)
        return 0.0 if len(there) < self.least_rows or tied >= self.purity * len(there) else tied / len(there)

    def phrases(self, words: Sequence[Sequence[str]], repeated: Sequence[bool], most: int) -> dict[tuple[str, ...], list[int]]:
        """Phrase -> the places of all rows with it, for phrases in `least_rows` to `most` rows.

        Only phrases of rows whose answer is repeated can be tied to one, so only those are collected; the others' rows
        count against them. A longer phrase is looked at only where its shorter beginnings are frequent enough (Apriori).
        """
        frequent: set[tuple[str, ...]] = set()
        kept: dict[tuple[str, ...], list[int]] = {}
        for n in range(1, LONGEST + 1):
            counts: Counter[tuple[str, ...]] = Counter()
            for text, inside in zip(words, repeated, strict=True):
                if inside:
                    counts.update({g for g in grams(text, n) if n == 1 or (g[:-1] in frequent and g[1:] in frequent)})
            frequent = {gram for gram, count in counts.items() if count >= self.least_rows}
            wanted = {gram for gram in frequent if not all(word in STOP_WORDS for word in gram)}
            held: dict[tuple[str, ...], list[int]] = defaultdict(list)
            for place, text in enumerate(words):
                for gram in wanted.intersection(grams(text, n)):
                    held[gram].append(place)
            kept |= {gram: there for gram, there in held.items() if len(there) <= most}
        return kept


class Bayes:
    """A multinomial naive Bayes of labels from words, all labels alike beforehand, one added to every count, that can leave rows out.

    It keeps counts of all rows; a question about left-out rows subtracts theirs.
    """

    def __init__(self, words: Sequence[Sequence[str]], labels: Sequence[str]) -> None:
        self.words = words
        self.labels = labels
        self.names = sorted(set(labels))
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in self.names}
        for text, label in zip(words, labels, strict=True):
            self.counts[label].update(text)
        self.totals = {name: counts.total() for name, counts in self.counts.items()}
        self.vocabulary = len(set().union(*self.counts.values()))
        self.without: tuple[int, ...] = ()
        self.less: dict[str, Counter[str]] = {}

    def label(self, text: Sequence[str], gone: set[str], without: Sequence[int]) -> str:
        """The likeliest label of a text without the words `gone`, learnt without the rows at `without`."""
        if self.without != tuple(without):
            self.without = tuple(without)
            self.less = {name: Counter() for name in self.names}
            for i in without:
                self.less[self.labels[i]].update(self.words[i])
        best, most = "", -math.inf
        for name in self.names:
            counts, less = self.counts[name], self.less[name]
            size = self.totals[name] - less.total() + self.vocabulary
            score = sum(math.log((counts[word] - less[word] + 1) / size) for word in text if word not in gone)
            if score > most:
                best, most = name, score
        return best


def read(text: str) -> list[str]:
    """The words of a question that are looked at, in lower case."""
    words = TOKEN.findall(text.lower())
    return words if len(words) <= HEAD + TAIL else [*words[:HEAD], *words[-TAIL:]]


def grams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """The n-grams of a text."""
    return zip(*(words[i:] for i in range(n)), strict=False)


def tail(hits: int, of: int, share: float) -> float:
    """The chance of at least `hits` among `of` when each has the chance `share` (binomial)."""
    if share >= 1:
        return 1.0
    logs = (
        math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1) + k * math.log(share) + (of - k) * math.log1p(-share)
        for k in range(hits, of + 1)
    )
    return min(1.0, sum(map(math.exp, logs)))


def reduced(suspects: Sequence[Suspect]) -> list[Suspect]:
    """One suspect for each set of rows: of phrases in the same rows, the longest says most."""
    best: dict[tuple[int, ...], Suspect] = {}
    for suspect in suspects:
        known = best.get(suspect.tied)
        if known is None or len(suspect.phrase) > len(known.phrase):
            best[suspect.tied] = suspect
    return sorted(best.values(), key=lambda s: (s.p, -len(s.tied), s.phrase))


def listed(suspects: Sequence[Suspect]) -> list[dict[str, Any]]:
    """The surest suspects as plain data."""
    return [
        {"phrase": s.phrase, "answer": s.answer[:80], "rows": len(s.places), "tied": len(s.tied), "p": float(f"{s.p:.2g}")}
        for s in suspects[:20]
    ]
