"""How much of the wording is the reference's: BLEU, chrF (with words: chrF++) and TER, on 0-100.

All three are sacrebleu's own (Post 2018), kept as its sufficient statistics a segment; their settings have sacrebleu's
names and meanings.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from etude.catalog import Settings, note
from etude.failures import RecipeError
from etude.metrics.items import averaged
from etude.records import Prediction

if TYPE_CHECKING:
    import numpy as np
    from sacrebleu.metrics import BLEU, CHRF, TER


def needs(package: str, key: str, install: str) -> None:
    """Raise RecipeError where an optional package that the setting `key` needs is not installed."""
    if importlib.util.find_spec(package) is None:
        raise RecipeError(f"{key} needs the package {package!r}, which is not installed; pip install '{install}', or leave {key} out")


EXTRA_TOKENIZERS = {
    "ja-mecab": ("MeCab", "sacrebleu[ja]"),
    "ko-mecab": ("mecab_ko", "sacrebleu[ko]"),
    "spm": ("sentencepiece", "sentencepiece"),
    "flores101": ("sentencepiece", "sentencepiece"),
    "flores200": ("sentencepiece", "sentencepiece"),
}
"""sacrebleu's tokenizers that need more than sacrebleu: the package and how to install it."""


OF_LANGUAGE = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}
"""sacrebleu's default tokenizer of a target language; 13a of any other."""
TOKENIZED = 100
"""So many outputs that end in " ." look tokenized (sacrebleu's number)."""
Tokenizer = Literal["13a", "intl", "char", "zh", "none", "spm", "ja-mecab", "ko-mecab", "flores101", "flores200"]


def check_tokenizer(name: Tokenizer | None) -> Tokenizer | None:
    """Refuse at once a tokenizer whose package is missing."""
    if name in EXTRA_TOKENIZERS:
        package, install = EXTRA_TOKENIZERS[name]
        needs(package, f"tokenize: {name}", install)
    return name


def sacrebleu_signature(engine: BLEU | CHRF | TER, name: str, predictions: Sequence[Prediction]) -> str:
    """sacrebleu's own signature after the metric's name; without predictions, nrefs is left out."""
    counts = {len(prediction.references) for prediction in predictions}
    engine.num_refs = counts.pop() if len(counts) == 1 else -1
    parts = str(engine.get_signature()).split("|")
    return "|".join([name, *(part for part in parts if predictions or not part.startswith("nrefs:"))])


class Bleu(Settings):
    """Corpus BLEU (Papineni et al. 2002) as sacrebleu computes it; its settings and their names are sacrebleu's."""

    scale: ClassVar[float] = 100.0

    tokenize: Annotated[Tokenizer | None, AfterValidator(check_tokenizer)] = None
    """How segments become words; by default 13a, the one of published numbers, or what `trg_lang` asks for."""
    trg_lang: str = ""
    """Language of the references: zh, ja and ko have tokenizers of their own."""
    smooth_method: Literal["exp", "floor", "add-k", "none"] = "exp"
    """What an n-gram length without a match counts as (Chen and Cherry 2014)."""
    smooth_value: float | None = None
    """The number of `floor` (0.1 if not given) and `add-k` (1)."""
    lowercase: bool = False
    """Compare without regard to case."""
    force: bool = False
    """Say nothing of outputs that look tokenized (100 or more that end in " ."); the number is the same."""
    effective_order: bool = False
    """Leave out n-gram lengths that no output reaches (for single sentences)."""
    max_ngram_order: Annotated[int, Field(ge=1)] = 4
    """The longest n-grams that count."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2 + 2 * max_ngram_order): words of the output, words of the
        closest reference, matches of each n-gram length, n-grams of each length."""
        engine = self.engine(smooth_method="none")
        if not self.force and sum(output.endswith(" .") for p in predictions for output in p.outputs) >= TOKENIZED:
            note(f"{TOKENIZED} outputs or more end in ' .': BLEU expects detokenized text (say nothing of it with force=true)")

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
            tokenize=self.tokenize or OF_LANGUAGE.get(self.trg_lang, "13a"),
            trg_lang=self.trg_lang,
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


class Ter(Settings):
    """Corpus translation edit rate (Snover et al. 2006) as sacrebleu computes it: edits per 100 reference words; smaller is
    better, and it may pass 100."""

    scale: ClassVar[float] = 100.0
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    lower_is_better: ClassVar[bool] = True

    normalized: bool = False
    """Normalise characters as Tercom does, and part punctuation from words."""
    no_punct: bool = False
    """Leave out punctuation."""
    asian_support: bool = False
    """With `normalized` or `no_punct`: treat Chinese, Japanese and Korean characters too."""
    case_sensitive: bool = False
    """Upper and lower case differ."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 3): edits to the nearest reference, mean words of the references, and 1."""
        engine = self.engine()

        def one(output: str, references: tuple[str, ...]) -> Sequence[float]:
            return [*engine._extract_corpus_statistics([output], [[reference] for reference in references])[0], 1.0]

        return averaged(predictions, 3, one)

    def score(self, totals: np.ndarray) -> float:
        """TER from summed statistics; 0 is best."""
        return float(self.engine()._compute_score_from_stats(totals[:2].tolist()).score)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """sacrebleu's signature."""
        return sacrebleu_signature(self.engine(), "ter", predictions)

    def engine(self) -> TER:
        """sacrebleu's metric with these settings."""
        from sacrebleu.metrics import TER

        return TER(normalized=self.normalized, no_punct=self.no_punct, asian_support=self.asian_support, case_sensitive=self.case_sensitive)
