"""Where rows come from. A Source yields a Record for each good row and a BadRow, with the reason,
for each that cannot become a Conversation: it never drops one in silence and never stops at one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from etude.catalog import Catalog
from etude.records import BadRow, Record


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
        "alpaca": "etude.sources.alpaca:Alpaca",
        "messages": "etude.sources.messages:Messages",
        "sharegpt": "etude.sources.messages:ShareGPT",
        "prompt_completion": "etude.sources.prompt_completion:PromptCompletion",
        "questions": "etude.sources.questions:Questions",
        "inputs_targets": "etude.sources.inputs_targets:InputsTargets",
        "natural_instructions": "etude.sources.natural_instructions:NaturalInstructions",
        "instances": "etude.sources.instances:Instances",
        "oasst": "etude.sources.oasst:Oasst",
        "squad": "etude.sources.squad:Squad",
        "code_tasks": "etude.sources.code_tasks:CodeTasks",
        "text": "etude.sources.plain_text:PlainText",
        "columns": "etude.sources.columns:Columns",
        "seed_tasks": "etude.sources.seed_tasks:SeedTasks",
        "stdlib": "etude.sources.stdlib:Stdlib",
        "execution_traces": "etude.sources.execution_traces:ExecutionTraces",
        "dataset_info": "etude.sources.auto:DatasetInfo",
        "auto": "etude.sources.auto:Auto",
    },
    default="auto",
)
