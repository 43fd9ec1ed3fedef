"""How much of the wording is the reference's: ROUGE on 0-1, BLEU and chrF on 0-100.

ROUGE equals Google's `rouge-score` 0.1.2 (F1, best reference by F1); BLEU and chrF are sacrebleu's
own (Post 2018), kept as its sufficient statistics a segment.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from etude.catalog import Settings
from etude.failures import RecipeError
from etude.metrics.items import averaged, described, mean, valued
from etude.records import Prediction
from etude.similarity import numbered, rouge_l, rouge_l_sum, rouge_n, words

if TYPE_CHECKING:
    import numpy as np
    from sacrebleu.metrics import BLEU, CHRF

Similarity = Callable[[str, str], float]
"""F1 of a reference and an output, 0 to 1."""


def needs(package: str, key: str, install: str) -> None:
    """Raise RecipeError where an optional package that the setting `key` needs is not installed."""
    if importlib.util.find_spec(package) is None:
        raise RecipeError(f"{key} needs the package {package!r}, which is not installed; pip install '{install}', or leave {key} out")


def check_stemmer(wanted: bool) -> bool:
    """Refuse `stemmer: true` at once where it could not be done later."""
    if wanted:
        needs("nltk", "stemmer: true", "nltk")
    return wanted


Stemmer = Annotated[bool, AfterValidator(check_stemmer)]


@functools.cache
def porter() -> Callable[[str], str]:
    """The Porter stemmer as rouge-score uses it (nltk's, with its extensions)."""
    needs("nltk", "stemmer: true", "nltk")
    stem: Callable[[str], str] = importlib.import_module("nltk.stem.porter").PorterStemmer().stem
    return functools.lru_cache(maxsize=65536)(stem)


def best(predictions: Sequence[Prediction], similarity: Similarity) -> np.ndarray:
    """Rows (value, 1): each output against its most similar reference."""
    return valued(predictions, lambda output, references: max(similarity(reference, output) for reference in references))


def on_tokens(stemmer: bool, similarity: Callable[[list[int], list[int]], float]) -> Similarity:
    """A similarity of texts from one of token numbers."""
    stem = porter() if stemmer else None

    def compare(reference: str, output: str) -> float:
        known: dict[str, int] = {}
        return similarity(numbered(words(reference, stem), known), numbered(words(output, stem), known))

    return compare


def on_sentences(stemmer: bool) -> Similarity:
    """ROUGE-Lsum of texts whose sentences are lines."""
    stem = porter() if stemmer else None

    def compare(reference: str, output: str) -> float:
        known: dict[str, int] = {}
        ours, theirs = ([numbered(words(line, stem), known) for line in text.split("\n")] for text in (output, reference))
        return rouge_l_sum(theirs, ours)

    return compare


def rouge_signature(name: str, stemmer: bool, predictions: Sequence[Prediction]) -> str:
    """The signature of a ROUGE."""
    return described(name, {"score": "f1", "refs": "best", "stem": stemmer, "tok": "a-z0-9", "as": "rouge-score-0.1.2"}, predictions)


class Rouge1(Settings):
    """Mean F1 of words in common (ROUGE-1)."""

    scale: ClassVar[float] = 1.0

    stemmer: Stemmer = False
    """Compare Porter stems instead of words (needs nltk)."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): the item's F1, and 1."""
        return best(predictions, on_tokens(self.stemmer, lambda reference, output: rouge_n(reference, output, 1)))

    def score(self, totals: np.ndarray) -> float:
        """Mean F1, 0 to 1, from summed statistics, shape (2,)."""
        return mean(totals)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        return rouge_signature("rouge1", self.stemmer, predictions)


class Rouge2(Settings):
    """Mean F1 of pairs of neighbouring words in common (ROUGE-2)."""

    scale: ClassVar[float] = 1.0

    stemmer: Stemmer = False
    """Compare Porter stems instead of words (needs nltk)."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): the item's F1, and 1."""
        return best(predictions, on_tokens(self.stemmer, lambda reference, output: rouge_n(reference, output, 2)))

    def score(self, totals: np.ndarray) -> float:
        """Mean F1, 0 to 1, from summed statistics, shape (2,)."""
        return mean(totals)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        return rouge_signature("rouge2", self.stemmer, predictions)


class RougeL(Settings):
    """Mean F1 of the longest common subsequence of words (ROUGE-L)."""

    scale: ClassVar[float] = 1.0

    stemmer: Stemmer = False
    """Compare Porter stems instead of words (needs nltk)."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): the item's F1, and 1."""
        return best(predictions, on_tokens(self.stemmer, rouge_l))

    def score(self, totals: np.ndarray) -> float:
        """Mean F1, 0 to 1, from summed statistics, shape (2,)."""
        return mean(totals)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        return rouge_signature("rougeL", self.stemmer, predictions)


class RougeLsum(Settings):
    """Mean F1 of the longest common subsequences line by line (ROUGE-Lsum, for summaries)."""

    scale: ClassVar[float] = 1.0

    stemmer: Stemmer = False
    """Compare Porter stems instead of words (needs nltk)."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): the item's F1, and 1."""
        return best(predictions, on_sentences(self.stemmer))

    def score(self, totals: np.ndarray) -> float:
        """Mean F1, 0 to 1, from summed statistics, shape (2,)."""
        return mean(totals)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        return rouge_signature("rougeLsum", self.stemmer, predictions)


EXTRA_TOKENIZERS = {
    "ja-mecab": ("MeCab", "sacrebleu[ja]"),
    "ko-mecab": ("mecab_ko", "sacrebleu[ko]"),
    "flores101": ("sentencepiece", "sentencepiece"),
    "flores200": ("sentencepiece", "sentencepiece"),
}
"""sacrebleu's tokenizers that need more than sacrebleu: the package and how to install it."""


def check_tokenizer(name: str) -> str:
    """Refuse at once a tokenizer whose package is missing."""
    if name in EXTRA_TOKENIZERS:
        package, install = EXTRA_TOKENIZERS[name]
        needs(package, f"tokenize: {name}", install)
    return name


def sacrebleu_signature(engine: BLEU | CHRF, name: str, predictions: Sequence[Prediction]) -> str:
    """sacrebleu's own signature after the metric's name; without predictions, nrefs is left out."""
    counts = {len(prediction.references) for prediction in predictions}
    engine.num_refs = counts.pop() if len(counts) == 1 else -1
    parts = str(engine.get_signature()).split("|")
    return "|".join([name, *(part for part in parts if predictions or not part.startswith("nrefs:"))])


class Bleu(Settings):
    """Corpus BLEU (Papineni et al. 2002) as sacrebleu computes it; its settings and their names are sacrebleu's."""

    scale: ClassVar[float] = 100.0

    tokenize: Annotated[
        Literal["13a", "intl", "char", "zh", "none", "ja-mecab", "ko-mecab", "flores101", "flores200"], AfterValidator(check_tokenizer)
    ] = "13a"
    """How segments become words; 13a is the one of published numbers."""
    smooth_method: Literal["exp", "floor", "add-k", "none"] = "exp"
    """What an n-gram length without a match counts as (Chen and Cherry 2014)."""
    smooth_value: float | None = None
    """The number of `floor` (0.1 if not given) and `add-k` (1)."""
    lowercase: bool = False
    """Compare without regard to case."""
    effective_order: bool = False
    """Leave out n-gram lengths that no output reaches (for single sentences)."""
    max_ngram_order: Annotated[int, Field(ge=1)] = 4
    """The longest n-grams that count."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2 + 2 * max_ngram_order): words of the output, words of the
        closest reference, matches of each n-gram length, n-grams of each length."""
        engine = self.engine(smooth_method="none")

        def one(output: str, references: tuple[str, ...]) -> Sequence[float]:
            found = engine.corpus_score([output], [[reference] for reference in references])
            return [found.sys_len, found.ref_len, *found.counts, *found.totals]

        return averaged(predictions, 2 + 2 * self.max_ngram_order, one)

    def score(self, totals: np.ndarray) -> float:
        """BLEU, 0 to 100, from summed statistics. With several outputs an item the lengths are
        means; the brevity penalty then takes them to the nearest word."""
        from sacrebleu.metrics import BLEU

        sums, order = totals.tolist(), self.max_ngram_order
        return float(
            BLEU.compute_bleu(
                correct=sums[2 : 2 + order],
                total=sums[2 + order :],
                sys_len=round(sums[0]),
                ref_len=round(sums[1]),
                smooth_method=self.smooth_method,
                smooth_value=self.smooth_value,
                effective_order=self.effective_order,
                max_ngram_order=order,
            ).score
        )

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """sacrebleu's signature."""
        return sacrebleu_signature(self.engine(self.smooth_method), "bleu", predictions)

    def engine(self, smooth_method: str) -> BLEU:
        """sacrebleu's metric with these settings."""
        from sacrebleu.metrics import BLEU

        return BLEU(
            lowercase=self.lowercase,
            force=True,
            tokenize=self.tokenize,
            smooth_method=smooth_method,
            smooth_value=self.smooth_value,
            max_ngram_order=self.max_ngram_order,
            effective_order=self.effective_order,
        )


class Chrf(Settings):
    """Corpus chrF (Popović 2015) as sacrebleu computes it; its settings and their names are sacrebleu's."""

    scale: ClassVar[float] = 100.0

    char_order: Annotated[int, Field(ge=1)] = 6
    """The longest character n-grams that count."""
    word_order: Annotated[int, Field(ge=0)] = 0
    """The longest word n-grams that count; 2 is chrF++."""
    beta: Annotated[int, Field(ge=1)] = 2
    """How much more recall counts than precision."""
    lowercase: bool = False
    """Compare without regard to case."""
    whitespace: bool = False
    """White space counts as characters."""
    eps_smoothing: bool = False
    """Smooth as chrF++.py, Moses and NLTK do."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 3 * (char_order + word_order)): for each n-gram length those
        of the output, of the best reference, and of both."""
        engine = self.engine()

        # sacrebleu offers these numbers under no public name; its own paired tests use this method.
        def one(output: str, references: tuple[str, ...]) -> Sequence[float]:
            return engine._extract_corpus_statistics([output], [[reference] for reference in references])[0]  # type: ignore[no-any-return]

        return averaged(predictions, 3 * (self.char_order + self.word_order), one)

    def score(self, totals: np.ndarray) -> float:
        """chrF, 0 to 100, from summed statistics."""
        return float(self.engine()._compute_score_from_stats(totals.tolist()).score)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """sacrebleu's signature."""
        return sacrebleu_signature(self.engine(), "chrf", predictions)

    def engine(self) -> CHRF:
        """sacrebleu's metric with these settings."""
        from sacrebleu.metrics import CHRF

        return CHRF(
            char_order=self.char_order,
            word_order=self.word_order,
            beta=self.beta,
            lowercase=self.lowercase,
            whitespace=self.whitespace,
            eps_smoothing=self.eps_smoothing,
        )
