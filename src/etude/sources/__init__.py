"""Where rows come from. A Source yields a Record for each good row and a BadRow, with the reason,
for each that cannot become a Conversation: it never drops one in silence and never stops at one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from etude.catalog import Catalog
from etude.records import BadRow, Record
from etude.sources.alpaca import Alpaca
from etude.sources.auto import Auto, DatasetInfo
from etude.sources.code_tasks import CodeTasks
from etude.sources.columns import Columns
from etude.sources.inputs_targets import InputsTargets
from etude.sources.messages import Messages, ShareGPT
from etude.sources.natural_instructions import NaturalInstructions
from etude.sources.oasst import Oasst
from etude.sources.plain_text import PlainText
from etude.sources.prompt_completion import PromptCompletion
from etude.sources.sniffing import sniff
from etude.sources.squad import Squad
from etude.sources.stdlib import Stdlib

__all__ = ["SOURCES", "Source", "sniff"]


class Source(Protocol):
    """A data set as a recipe names it; a frozen settings class."""

    template: str | None
    """Name of the task template that words the rows, or None for rows that are worded already."""

    def read(self, name: str) -> Iterator[Record | BadRow]:
        """Every row in file order; `name` is the recipe's name of this source.

        Raises DataError for a file that is missing, empty or not of this kind at all.
        """
        ...

    def inputs(self) -> dict[str, str]:
        """Path (or module) -> SHA-256 of every input, for the manifest and the stage digest."""
        ...


SOURCES = Catalog(
    "source",
    {
        "alpaca": Alpaca,
        "messages": Messages,
        "sharegpt": ShareGPT,
        "prompt_completion": PromptCompletion,
        "inputs_targets": InputsTargets,
        "natural_instructions": NaturalInstructions,
        "oasst": Oasst,
        "squad": Squad,
        "code_tasks": CodeTasks,
        "text": PlainText,
        "columns": Columns,
        "stdlib": Stdlib,
        "dataset_info": DatasetInfo,
        "auto": Auto,
    },
    default="auto",
)
