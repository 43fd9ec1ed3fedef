"""Trivial answers beside every verdict: what a model has to beat to have learned anything.

Each takes the conversations asked and the training rows, and gives one answer a conversation. The few-shot and the
label-constrained start model are asked like any other arm and are not here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

from etude.failures import RecipeError
from etude.records import Conversation

Baseline = Literal["majority", "few_shot", "constrained", "copy", "lead", "tfidf"]

LEAD = 3
"""Sentences of the lead baseline: the usual one of news summarisation (Nallapati et al. 2017, arXiv 1611.04230)."""


def majority(asked: Sequence[Conversation], trained: Sequence[Conversation]) -> list[str]:
    """The most frequent answer of the training rows, the first in the alphabet of equals."""
    counts = Counter(conversation.answer() for conversation in trained)
    most = max(counts.values(), default=0)
    return [min((answer for answer, count in counts.items() if count == most), default="")] * len(asked)


def copy(asked: Sequence[Conversation], trained: Sequence[Conversation]) -> list[str]:
    """The material of the question (all of it where it has none apart), unchanged."""
    return [material(conversation) for conversation in asked]


def lead(asked: Sequence[Conversation], trained: Sequence[Conversation]) -> list[str]:
    """The first three sentences of the material; of a text with a line a turn (a dialogue), its first three lines."""
    found = []
    for conversation in asked:
        lines = [line for line in material(conversation).splitlines() if line.strip()]
        parts = lines if len(lines) > LEAD else sentences(" ".join(lines))
        found.append("\n".join(parts[:LEAD]) if parts is lines else " ".join(parts[:LEAD]))
    return found


def tfidf(asked: Sequence[Conversation], trained: Sequence[Conversation]) -> list[str]:
    """Logistic regression on TF-IDF of words and word pairs, trained on the training rows: scikit-learn's defaults but for the
    pairs, sublinear counts and 1,000 iterations. Raises RecipeError without the extra, or for fewer than two labels."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
    except ImportError as error:
        raise RecipeError("score: the baseline tfidf needs scikit-learn: pip install 'etude[baselines]'") from error
    labels = [conversation.answer() for conversation in trained]
    if len(set(labels)) < 2:
        raise RecipeError("score: the baseline tfidf needs training rows of at least two labels")
    model: Any = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=1000))
    model.fit([material(conversation) for conversation in trained], labels)
    return [str(label) for label in model.predict([material(conversation) for conversation in asked])] if asked else []


TRIVIAL: dict[str, Callable[[Sequence[Conversation], Sequence[Conversation]], list[str]]] = {
    "majority": majority,
    "copy": copy,
    "lead": lead,
    "tfidf": tfidf,
}
"""Baselines that ask no model."""


def material(conversation: Conversation) -> str:
    """What the last question is about, or all of it where nothing stands apart."""
    asked = [message for message in conversation.question().messages if message.role == "user"]
    return (asked[-1].context or asked[-1].content) if asked else ""


def sentences(text: str) -> list[str]:
    """A text cut after sentence ends; a heuristic (abbreviations end sentences too)."""
    return [part for part in re.split(r"(?<=[.!?…。！？])\s+", text.strip()) if part]
