"""The keys that every source of files has, with their descriptions, declared once."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from etude.sources.tables import Container, Encoding
from etude.sources.where import Expression
from etude.templates import TemplateName

DataPath = Annotated[
    str,
    Field(description="The file: .json, .jsonl, .csv, .tsv, .parquet, .arrow, also .gz and .zst; a folder, a glob, or hf://owner/name."),
]
Where = Annotated[
    Expression | None, Field(description="Take only rows for which this is true, e.g. `lang == 'en'`; any key of the row can be named.")
]
Limit = Annotated[int | None, Field(gt=0, description="Take the first rows that pass `where`, at most this many.")]
Keep = Annotated[
    tuple[str, ...], Field(description="Further keys of the rows that become fields (and so count in the row's id), e.g. to group by.")
]
FileKind = Annotated[Container | None, Field(description="What kind of file it is, where the extension does not say so.")]
FileEncoding = Annotated[Encoding, Field(description="The text encoding of the file; a byte-order mark is understood.")]
Licence = Annotated[str, Field(description="The licence of the data, for the manifest.")]
Task = Annotated[str | None, Field(description="The name of the task; None: the template's task, else the name of this source.")]
Worded = Annotated[None, Field(description="None: the rows are worded already.")]
Phrased = Annotated[TemplateName | None, Field(description="A task template to word the rows with; None: the rows are worded already.")]
Column = Annotated[str | None, Field(min_length=1)]
"""The annotation of a setting that names a key of the rows."""
