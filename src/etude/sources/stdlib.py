"""Functions of the user's own Python standard library: real data that needs no download.

A row is a function or method with a docstring whose first paragraph has 15 to 160 characters and
whose source without the docstring (decorators, signature and body, dedented) has 60 to 900. Two
tasks: write the docstring, or finish the code at a TODO mark. The field `file` is there to split by.
The library is licensed PSF-2.0, and most language models have read it in pretraining.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from etude import seeds
from etude.catalog import Settings, note
from etude.failures import DataError
from etude.records import BadRow, Origin, Record, identify
from etude.sources.functions import Function, finish, functions
from etude.sources.where import Expression, Unfit, parse
from etude.templates import TemplateName

SKIPPED = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib-dynload", "_bundled"})
"""Folders that are tests, or not the library's."""
FIELDS = ("code", "completion", "docstring", "file", "module", "name")


class Stdlib(Settings):
    """Functions of this Python's standard library, with docstrings; needs no file."""

    task: Literal["docstring", "complete"] = "docstring"
    """`docstring`: write the one-line docstring of a function. `complete`: finish it at a TODO mark."""
    template: TemplateName | None = Field(default_factory=lambda data: data.get("task", "docstring"), json_schema_extra={"default": None})
    """The template that words the rows; by default the built-in one of the task's name."""
    where: Expression | None = None
    """Take only rows for which this is true, e.g. `len(code) < 400`; names are code, docstring, name, module, file."""
    limit: Annotated[int, Field(gt=0)] | None = None
    """Take this many of the rows that pass `where`, spread over all files: those whose ids hash lowest."""
    licence: str = "PSF-2.0"
    """The licence of the data, for the manifest."""

    def read(self, name: str) -> Iterator[Record | BadRow]:
        """Every row in order of file and line. Takes a few seconds: the whole library is parsed.

        Raises DataError where this Python came without its library's source, RecipeError for an unknown field.
        """
        where = parse(self.where) if self.where else None
        if where:
            where.check(FIELDS if self.task == "complete" else set(FIELDS) - {"completion"})
        kept: list[Record | BadRow] = []
        for origin, fields in self.rows():
            try:
                if where and not where.passes(fields):
                    continue
            except Unfit as error:
                kept.append(BadRow(origin, str(error), fields["name"]))
                continue
            kept.append(Record(identify(fields), fields, origin, name, self.task))
        if not kept:
            which = f"passes where `{self.where}`" if self.where else "fits"
            raise DataError(f"sources.{name}: no function of the standard library in {library()} {which}")
        good = [row for row in kept if isinstance(row, Record)]
        if self.limit is not None and self.limit < len(good):
            order = sorted(good, key=lambda row: (seeds.number(0, "limit", row.id), str(row.origin)))
            chosen = {id(row) for row in order[: self.limit]}
            kept = [row for row in kept if isinstance(row, BadRow) or id(row) in chosen]
        yield from kept

    def inputs(self) -> dict[str, str]:
        """The library's name and version -> SHA-256 of the paths and contents of its files."""
        total = hashlib.sha256()
        root = library()
        for path in files(root):
            total.update(f"{path.relative_to(root).as_posix()}\0".encode())
            total.update(hashlib.sha256(path.read_bytes()).digest())
        return {f"python {platform.python_version()} standard library": total.hexdigest()}

    def rows(self) -> Iterator[tuple[Origin, dict[str, Any]]]:
        """Origin and fields of every function that fits, in order of file and line."""
        root = library()
        for path in files(root):
            file = path.relative_to(root).as_posix()
            module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            try:
                found = functions(path.read_bytes())
            except (SyntaxError, ValueError, RecursionError) as error:
                note(f"standard library: {file} cannot be parsed and is passed over ({error})")
                continue
            for function in found:
                fields = self.fields(function, module)
                if fields:
                    yield Origin(file, function.line, self.licence), {**fields, "file": file}

    def fields(self, function: Function, module: str) -> dict[str, Any]:
        """The fields of one function, or none where it has no middle to cut."""
        about = {"docstring": function.docstring, "name": function.name, "module": module}
        if self.task == "docstring":
            return {"code": function.code, **about}
        cut = finish(function.code, f"{module}:{function.name}")
        return {"code": cut[0], "completion": cut[1], **about} if cut else {}


def library() -> Path:
    """The folder of the standard library's source; raises DataError where there is none."""
    root = Path(sysconfig.get_paths()["stdlib"])
    if not (root / "ast.py").is_file():
        raise DataError(f"this Python came without the source of its standard library ({root} has no ast.py); give sources a file instead")
    return root


def files(root: Path) -> Iterator[Path]:
    """Python files of the library in sorted order, without tests and installed packages."""
    for folder, inside, names in os.walk(root):
        inside[:] = sorted(name for name in inside if name not in SKIPPED and not name.startswith("config-"))
        yield from (Path(folder) / name for name in sorted(names) if name.endswith(".py"))
