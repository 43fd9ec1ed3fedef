"""Rows of any table (CSV, TSV, JSON, JSON Lines, Parquet), its columns mapped to a template's fields.

The Record's fields are the template's fields and whatever else `columns` maps (a column to group by);
other columns are no part of the row or its id. Cells keep their type; labels become text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from etude.catalog import Settings
from etude.failures import RecipeError, nearest
from etude.records import BadRow, Record
from etude.sources.rows import Unusable, plain, records, spelled
from etude.sources.tables import Container, Encoding, Table, digests, opened
from etude.sources.where import Expression
from etude.templates import Template, TemplateName, digest, load


class Columns(Settings):
    """A table whose columns become the fields of a template."""

    path: str
    """A file (.csv, .tsv, .json, .jsonl, .parquet, .arrow; text also .gz or .zst), a folder of them, a glob such as
    `data/*.jsonl`, or `hf://owner/name@revision:split`."""
    template: TemplateName | None = None
    """The task template that words the rows: a built-in name or a .yaml file of your own."""
    columns: dict[str, str] = Field(default={})
    """Field -> column, e.g. `{text: Sentence, label: Sentiment}`; a template's field that is not listed
    is the column of the same name (an optional one, where there is such a column). Without a template and
    without this, every column is a field."""
    references: tuple[str, ...] = ()
    """Columns that hold right answers, where there are several; scoring compares with all of them."""
    labels: dict[str, str] = Field(default={})
    """Label in the file -> label of the template, e.g. `{0: negative, 1: neutral, 2: positive}`."""
    where: Expression | None = None
    """Take only rows for which this is true, e.g. `Sentence != ''`; names are columns, then fields."""
    limit: Annotated[int, Field(gt=0)] | None = None
    """Take the first rows that pass `where`, at most this many."""
    container: Container | None = None
    """What kind of file it is, where the extension does not say so."""
    rows_key: str | None = None
    """The key of a .json object that holds the list of rows; None: the only one that holds a list of objects."""
    encoding: Encoding = "utf-8"
    """The text encoding of the file; a byte-order mark is understood."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """What separates cells; None: a comma in CSV, a tab in TSV."""
    quote: Literal['"', "'", ""] = '"'
    """What encloses cells that hold separators or line ends; "": quotes are plain text."""
    header: tuple[str, ...] = ()
    """Column names of a CSV or TSV file that has no header line."""
    licence: str = ""
    """The licence of the data, for the manifest."""
    task: str | None = None
    """The name of the task; None: the template's task, else the name of this source."""

    @field_validator("labels", mode="before")
    @classmethod
    def spell_labels(cls, given: Any) -> Any:
        """YAML reads `0:` and `true:` as a number and a truth value; a label is their text."""
        return {spelled(key): value for key, value in given.items()} if isinstance(given, Mapping) else given

    def read(self, name: str) -> Iterator[Record | BadRow]:
        """Every row in file order. Raises DataError for an unusable file, RecipeError for unknown names."""
        template = load(self.template, self.labels.values()) if self.template else None
        rows, known = opened(
            Table(self.path, self.container, self.encoding, self.delimiter, self.quote, self.header, self.licence, self.rows_key),
        )
        mapping = self.mapping(name, template, known)
        self.check_labels(name, template)
        yield from records(
            rows,
            partial(self.build, mapping, template),
            lambda cells: {**{field: cells.get(column) for field, column in mapping.items()}, **cells},
            path=self.path,
            where=self.where,
            limit=self.limit,
            known=[*mapping, *known],
            source=name,
            task=self.task or (template.task if template else name),
        )

    def inputs(self) -> dict[str, str]:
        """Path -> SHA-256 of every file; and the template's, whose fields and labels shape the rows."""
        found = digests(self.path, self.container)
        return found | {f"template {self.template}": digest(load(self.template))} if self.template else found

    def mapping(self, name: str, template: Template | None, known: list[str]) -> dict[str, str]:
        """Field -> column, whole; raises RecipeError naming the columns there are."""
        fields = {field: field for field in template.fields} if template else {}
        if not fields and not self.columns:
            return {column: column for column in known}
        for field, column in (fields | self.columns).items():
            if column not in known:
                hint = nearest(column, known)
                there = f" (the columns are {', '.join(known)})" if "did you mean" in hint else ""
                if field in self.columns:
                    raise RecipeError(f"sources.{name}.columns.{field}: {self.path} has no column {column!r}{hint}{there}")
                say = f"columns: {{{field}: ...}} names the column to use; the columns are {', '.join(known)}"
                raise RecipeError(
                    f"sources.{name}: template {self.template!r} needs the field {field!r}, {self.path} has no such column; {say}"
                )
        further = {field: field for field in template.optional if field in known} if template else {}
        return further | fields | self.columns

    def check_labels(self, name: str, template: Template | None) -> None:
        """Raise RecipeError for a `labels` map that leads nowhere."""
        if not self.labels:
            return
        if template is None or template.label_field is None:
            raise RecipeError(
                f"sources.{name}.labels: {f'template {self.template!r}' if template else 'a source without a template'} has no label set"
            )
        for key, label in self.labels.items():
            if label not in template.labels:
                raise RecipeError(
                    f"sources.{name}.labels.{key}: {label!r} is no label of {self.template!r}{nearest(label, template.labels)}"
                )

    def build(self, mapping: Mapping[str, str], template: Template | None, cells: dict[str, Any]) -> dict[str, Any]:
        """The fields of one row; raises Unusable with the reason."""
        fields: dict[str, Any] = {}
        for field, column in mapping.items():
            if template and field in template.optional and cells.get(column) is None:
                continue
            if column not in cells:
                raise Unusable(f"there is no {column!r}{nearest(column, cells)}")
            fields[field] = plain(cells[column], f"column {column!r}")
        if self.references:
            for column in self.references:
                if column not in cells:
                    raise Unusable(f"there is no {column!r}{nearest(column, cells)}")
            texts = [str(cells[column]) for column in self.references if cells[column] not in (None, "")]
            fields["references"] = list(dict.fromkeys(texts))
        if template and template.label_field:
            fields[template.label_field] = self.label(fields[template.label_field], template)
        return fields

    def label(self, value: Any, template: Template) -> str:
        """A label of the template; raises Unusable for one it does not know."""
        text = spelled(value)
        label = self.labels.get(text, text)
        label = template.rename.get(label, label)
        if template.labels and label not in template.labels:
            raise Unusable(f"unknown label {text!r}{nearest(text, template.labels)}; `labels:` maps other spellings")
        return label
