"""Answers that servers gave, kept by what was asked: a folder of append-only journals, each with one writer.

Every process that adds answers does so in a file of its own, and reads all that were there when it opened the folder. So any number
may share it, a kill costs at most the line that was being written, and nothing waits for a lock. Only answers are kept: the
request is in the key (a SHA-256), and no header or key of an account ever comes here.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Sequence
from pathlib import Path

from etude import journal
from etude.models import Answer


class AnswersCache:
    """Key -> answers. What is known is an index of places in files, so memory holds no texts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places: dict[str, tuple[Path, int, int]] = {}
        self.own: journal.Journal | None = None
        self.end = 0
        for path in sorted(folder.glob("*.jsonl")) if folder.is_dir() else []:
            self.index(path)

    def index(self, path: Path) -> None:
        """Take up a file. A line that cannot be read (another process is at it) is passed over: it is asked once more."""
        start = 0
        with open(path, "rb") as file:
            for data in file:
                if data.endswith(b"\n"):
                    with contextlib.suppress(ValueError, KeyError, TypeError):
                        self.places[json.loads(data)["key"]] = (path, start, len(data))
                start += len(data)

    def __contains__(self, key: str) -> bool:
        return key in self.places

    def __len__(self) -> int:
        return len(self.places)

    def get(self, key: str) -> tuple[Answer, ...] | None:
        """The answers kept under a key, None where there are none that can be read."""
        if key not in self.places:
            return None
        path, start, size = self.places[key]
        try:
            with open(path, "rb") as file:
                file.seek(start)
                line = json.loads(file.read(size))
            if line["key"] == key:
                return tuple(Answer(one["text"], one["finish"], one["tokens"]) for one in line["answers"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def put(self, key: str, answers: Sequence[Answer], model: str = "") -> None:
        """Keep answers; failed ones are refused, for they are none."""
        if any(answer.failure for answer in answers):
            raise ValueError("a failed answer is not kept")
        if self.own is None:
            self.own = journal.Journal(self.folder / f"answers-{uuid.uuid4().hex}.jsonl")
        row = {"key": key, "model": model, "answers": [{"text": a.text, "finish": a.finish, "tokens": a.tokens} for a in answers]}
        self.own.append(row)
        size = len(journal.line(row))
        self.places[key] = (self.own.path, self.end, size)
        self.end += size

    def close(self) -> None:
        """Close the file of this process."""
        if self.own:
            self.own.close()
            self.own = None
            self.end = 0
