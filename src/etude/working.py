"""What every stage of a run is handed: the recipe, its folder, the start model, and who is told."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude import formats, runs
from etude.encoding import Encoder
from etude.formats.documents import with_documents
from etude.formats.text_to_text import bind_for
from etude.models import weights
from etude.models.local import Local
from etude.recipe import Recipe
from etude.screen import Watch
from etude.sharding import HERE, Launch
from etude.sources.plain_text import PlainText
from etude.tunings import Tuning

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


@dataclass
class Student:
    """The start model: tokenizer, format and weights, each loaded when first needed."""

    weights: weights.Weights
    recipe: Recipe
    tuning: tuple[Tuning, Path] | None = None
    """For a model that another run tuned: how, and its folder."""

    @functools.cached_property
    def loaded(self) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
        """Model and tokenizer from disk."""
        model, tokenizer = weights.load(self.weights.folder)
        if self.tuning is None:
            return model, tokenizer
        method, folder = self.tuning
        return method.load(model, folder).eval(), tokenizer

    @functools.cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer, which most work needs without the weights."""
        return vars(self)["loaded"][1] if "loaded" in vars(self) else weights.load_tokenizer(self.weights.folder)

    @functools.cached_property
    def form(self) -> formats.ChatFormat:
        """The recipe's format for this tokenizer."""
        form = bind_for(self.recipe.format, self.tokenizer, weights.is_encoder_decoder(self.weights.folder))
        plain = any(isinstance(source, PlainText) for source in self.recipe.sources.values())
        return with_documents(form, self.tokenizer) if plain else form

    @functools.cached_property
    def encoder(self) -> Encoder:
        """Segments to ids for this tokenizer."""
        return Encoder.of(self.tokenizer, weights.is_encoder_decoder(self.weights.folder))

    def count(self, text: str) -> int:
        """Tokens of a text, without markup."""
        return self.encoder.count(text)

    def answering(self, model: PreTrainedModel | None = None) -> Local:
        """The model (the start model by default) as an LLM."""
        return Local(model if model is not None else self.loaded[0], self.tokenizer, self.form)


@dataclass(frozen=True)
class Work:
    """What every stage is handed: the recipe, its folder, the start model, and who is told."""

    recipe: Recipe
    folder: Path
    student: Student
    watch: Watch
    launch: Launch = HERE
    """How the tune stage is done."""

    def stage(self, name: str, digest: str, outputs: Sequence[str], do: Callable[[], Mapping[str, Any]]) -> runs.Done:
        """Do a stage unless it is done here or in a neighbouring run; say which."""
        done = runs.finished(self.folder, name, digest)
        if done:
            self.watch.say(f"{name}: done before ({done.seconds:.1f} s{f', in {done.reused_from}' if done.reused_from else ''}), reused")
            return done
        done = runs.borrow(self.folder, name, digest)
        if done:
            self.watch.say(f"{name}: taken over from {done.reused_from} ({done.seconds:.1f} s there)")
            return done
        self.watch.say(f"{name} ...")
        runs.begin(self.folder, name, digest, outputs)
        began = time.monotonic()
        facts = do()
        done = runs.finish(self.folder, name, digest, time.monotonic() - began, outputs, facts)
        self.watch.say(f"{name}: {done.seconds:.1f} s")
        return done
