"""Turns of a chat as rows of a data set: what was accepted or mended is trained on, what was rejected stands apart."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from etude import journal
from etude.failures import RecipeError
from etude.manifest import now
from etude.records import Message


class Rows:
    """The file that rows are added to, and the one beside it for rejected answers. Nothing is written before the first row."""

    def __init__(self, path: Path) -> None:
        if path.suffix != ".jsonl":
            raise RecipeError(f"--save {path}: rows are written as JSON Lines; name a .jsonl file")
        if path.is_dir() or not path.parent.is_dir():
            raise RecipeError(f"--save {path}: " + ("it is a folder" if path.is_dir() else f"there is no folder {path.parent}"))
        self.path = path
        self.rejects = path.with_suffix(".rejected.jsonl")

    def keep(self, messages: Sequence[Message], trained: Collection[int], **facts: Any) -> Path:
        """Add a conversation that ends with its answer; only the messages at `trained` are to be trained."""
        turns: list[dict[str, Any]] = []
        for place, message in enumerate(messages):
            turns.append({"role": message.role, "content": message.content})
            if message.role == "assistant":
                turns[-1]["trained"] = place in trained
        return self._add(self.path, {"messages": turns, **facts})

    def reject(self, messages: Sequence[Message], answer: str, **facts: Any) -> Path:
        """Note an answer that was no good, with the question it was given to."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return self._add(self.rejects, {"messages": turns, "rejected": answer, **facts})

    def _add(self, path: Path, row: Mapping[str, Any]) -> Path:
        end_last_line(path)
        with journal.Journal(path) as rows:
            rows.append({**row, "saved": now()})
        return path


def end_last_line(path: Path) -> None:
    """Give the last row of a file that another program wrote its line end, without which a journal takes it for torn."""
    if not path.is_file() or path.stat().st_size == 0:
        return
    with open(path, "rb+") as file:
        last = file.read().rsplit(b"\n", 1)[-1]
        if last:
            try:
                json.loads(last)
            except ValueError:
                raise RecipeError(f"{path}: its last line is not JSON, so it is no file of rows; nothing was written to it") from None
            file.write(b"\n")
