"""The user's own documents and code as texts: a walk over a folder that says what it passed over, and why.

Files come in sorted order and are named relative to the folder, so the rows made of them say nothing about the machine.
"""

from __future__ import annotations

import codecs
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from etude import journal
from etude.failures import DataError, nearest

KINDS = {
    ".txt": "text", ".text": "text", ".md": "markdown", ".markdown": "markdown", ".rst": "rst",
    ".py": "python", ".js": "javascript", ".mjs": "javascript", ".cjs": "javascript", ".jsx": "javascript", ".ts": "typescript",
    ".tsx": "typescript", ".java": "java", ".kt": "kotlin", ".go": "go", ".rs": "rust", ".c": "c", ".h": "c", ".cc": "cpp", ".cpp": "cpp",
    ".cxx": "cpp", ".hpp": "cpp", ".cs": "csharp", ".php": "php", ".swift": "swift", ".sh": "shell", ".bash": "shell", ".sql": "sql",
}  # fmt: skip
"""Extensions that are read, and what stands in such a file."""
PROSE = frozenset({"text", "markdown", "rst"})
"""What is no code."""
VENDORED = frozenset(
    ["node_modules", "bower_components", "vendor", "third_party", "site-packages", "dist-packages", "venv", "virtualenv", "env",
     "__pycache__", "dist", "build", "target"]
)  # fmt: skip
"""Folders of other people's work, or of what a program wrote."""
MOST_BYTES = 1_000_000
"""Larger files are passed over as huge: they are data or were written by a program."""
LONGEST_LINE = 2000
"""Code with a longer line (characters) is minified, or carries data."""
MEAN_LINE = 200
"""Code whose lines that are not empty are longer on average is minified."""
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, slots=True)
class Document:
    """A file's text with "\\n" as its line ends; `path` is relative to the folder that was named; `kind` one of KINDS."""

    path: str
    text: str
    kind: str


@dataclass(slots=True)
class Documents:
    """What a walk found: the documents, what was passed over by reason, and the paths of the files that should have been readable."""

    found: list[Document] = field(default_factory=list)
    passed: Counter[str] = field(default_factory=Counter)
    faulty: list[tuple[str, str]] = field(default_factory=list)

    def counts(self) -> str:
        """What was passed over in words, "" for nothing."""
        return ", ".join(f"{count} {reason}" for reason, count in sorted(self.passed.items()))

    def digest(self) -> str:
        """SHA-256 (hex) of the paths and texts that were found."""
        return journal.digest([[one.path, journal.digest(one.text)] for one in self.found])


class Unreadable(Exception):
    """A file that cannot be used; the text is the reason, one of a few words."""


def read(place: str) -> Documents:
    """The documents of a folder, or the one file.

    Passed over, and counted: hidden files and folders, links, folders of VENDORED, other kinds of files, and files that are empty,
    binary (a NUL in them), huge, minified, not UTF-8 (or UTF-16 with its mark), or that the system does not let us read. Raises
    DataError for a path that does not exist, a single file that cannot be used, and a folder in which nothing can.
    """
    root = Path(place).expanduser()
    documents = Documents()
    if root.is_dir():
        for path, name in walked(root, documents.passed):
            try:
                documents.found.append(document(path, name))
            except Unreadable as error:
                documents.passed[str(error)] += 1
                documents.faulty.append((name, str(error)))
        if not documents.found:
            there = documents.counts() or "nothing"
            raise DataError(f"documents: {place} holds no text or code to start from; in it: {there} (read are {', '.join(sorted(KINDS))})")
        return documents
    if not root.exists():
        hint = nearest(root.name, os.listdir(root.parent)) if root.parent.is_dir() else f"; nor does its folder {root.parent}"
        raise DataError(f"documents: {place} does not exist{hint if 'did you mean' in hint or 'nor does' in hint else ''}")
    if root.suffix.lower() not in KINDS:
        raise DataError(f"documents: {place} is of no kind that is read here; there is {', '.join(sorted(KINDS))}")
    try:
        documents.found.append(document(root, root.name))
    except Unreadable as error:
        raise DataError(f"documents: {place} is {error}; a text or code file in UTF-8 is needed") from error
    return documents


def walked(root: Path, passed: Counter[str]) -> Iterator[tuple[Path, str]]:
    """Files of a known kind below a folder, in sorted order, each with its name relative to it; the others are counted."""

    def refused(error: OSError) -> None:
        passed["unreadable"] += 1

    for folder, inside, names in os.walk(root, onerror=refused):
        kept = []
        for name in sorted(inside):
            if reason := folder_passed(Path(folder) / name):
                passed[reason] += 1
            else:
                kept.append(name)
        inside[:] = kept
        for name in sorted(names):
            path = Path(folder) / name
            if reason := file_passed(path):
                passed[reason] += 1
            else:
                yield path, path.relative_to(root).as_posix()


def folder_passed(path: Path) -> str:
    """Why a folder is not looked into, "" where it is. Links could lead round in a circle."""
    if path.name.startswith("."):
        return "hidden"
    if path.is_symlink():
        return "link"
    return "vendored" if path.name.lower() in VENDORED or path.name.lower().endswith(".egg-info") else ""


def file_passed(path: Path) -> str:
    """Why a file is not opened, "" where it is."""
    if path.name.startswith("."):
        return "hidden"
    if path.is_symlink():
        return "link"
    if path.suffix.lower() not in KINDS or not path.is_file():
        return "other kind"
    return "minified" if ".min." in path.name.lower() else ""


def document(path: Path, name: str) -> Document:
    """The text of a file; raises Unreadable with the reason."""
    try:
        if not path.is_file():
            raise Unreadable("not a regular file")
        size = path.stat().st_size
        data = path.read_bytes() if size <= MOST_BYTES else b""
    except OSError as error:
        raise Unreadable("unreadable") from error
    if size > MOST_BYTES:
        raise Unreadable("huge")
    encoding = next((encoding for mark, encoding in MARKS if data.startswith(mark)), "utf-8")
    if encoding != "utf-16" and b"\0" in data:
        raise Unreadable("binary")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise Unreadable("undecodable") from error
    if "\0" in text:
        raise Unreadable("binary")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise Unreadable("empty")
    kind = KINDS[path.suffix.lower()]
    if kind not in PROSE and minified(text):
        raise Unreadable("minified")
    return Document(name, text, kind)


def minified(text: str) -> bool:
    """Whether code is written for machines only."""
    lines = [line for line in text.split("\n") if line.strip()]
    return max(map(len, lines)) > LONGEST_LINE or sum(map(len, lines)) > MEAN_LINE * len(lines)
