"""Rows of one JSON document: a list, or an object that holds the list under one of its keys.

The document is never in memory as a whole: a window of text moves over it, one element is decoded at a time,
and a value that is not wanted (another key's, or a row that is too long or too deep) is passed over by its
brackets and quotes alone.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etude.failures import DataError, nearest
from etude.records import BadRow
from etude.sources.containers import Table
from etude.sources.encodings import Text, text
from etude.sources.json_lines import no_row, once, unreadable
from etude.sources.rows import SHOWN, Row
from etude.sources.where import kind_of

SPACE = re.compile(r"[ \t\r\n]*")
TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}"]', re.DOTALL)
"""A whole string, a bracket, or the quote that opens a string the window does not hold whole."""
IN_STRING = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
SCALAR = re.compile(r"[^,\[\]{}\"\s]*")
NAMED = 8
"""Most keys that a message lists."""


class Window:
    """The text of a document around `position`, as much of it as is needed."""

    def __init__(self, source: Text) -> None:
        self.source = source
        self.parts = codecs.iterdecode(source.pieces, "utf-8", source.errors)
        self.text, self.position, self.broken = "", 0, False
        self.line, self.counted = 1, 0  # the line of the character at `counted`

    def more(self) -> bool:
        """Forget what lies before the position and read on, doubling what is held; False at the end."""
        self.here()
        held = self.text[self.position :]
        parts, size = [held], 0
        for words in self.parts:
            parts.append(words)
            size += len(words)
            if size > len(held):
                break
        self.text, self.position, self.counted = "".join(parts), 0, 0
        self.broken = bool(self.source.undecodable(self.text))
        return size > 0

    def here(self) -> int:
        """The line of the position."""
        self.line += self.text.count("\n", self.counted, self.position)
        self.counted = self.position
        return self.line

    def peek(self) -> str:
        """Move to the next character that is no white space, and return it; "" at the end."""
        while True:
            match = SPACE.match(self.text, self.position)
            self.position = match.end() if match else self.position
            if self.position < len(self.text):
                return self.text[self.position]
            if not self.more():
                return ""

    def take(self, character: str) -> bool:
        """Move past the next character if it is this one."""
        found = self.peek() == character
        self.position += found
        return found

    def passed(self, depth: int = 0) -> bool:
        """Move past one value without decoding it, whatever its size (or past the rest of one, `depth` brackets
        deep in it); False when the text ends before it does."""
        if depth == 0 and (char := self.peek()) not in ('"', "[", "{"):
            return bool(char) and self.rest(SCALAR)
        while True:
            match = TOKEN.search(self.text, self.position)
            self.position = match.end() if match else len(self.text)
            if match is None:
                if not self.more():
                    return False
                continue
            start = self.text[match.start()]
            if start != '"':
                depth += 1 if start in "[{" else -1
            elif match.end() - match.start() == 1 and not (self.rest(IN_STRING) and self.take('"')):
                return False
            if depth <= 0:
                return True

    def rest(self, pattern: re.Pattern[str]) -> bool:
        """Move past what the pattern matches; at the end of the window, also of what comes then. False when the
        text ends so."""
        while True:
            match = pattern.match(self.text, self.position)
            self.position = match.end() if match else self.position
            # A backslash that is the window's last character belongs to what comes.
            if self.position < len(self.text.removesuffix("\\")):
                return True
            if not self.more():
                return self.position < len(self.text)


def read_json(path: Path, table: Table) -> Iterator[Row | BadRow]:
    """Rows of one JSON list, or of the list under a key of one JSON object.

    Raises DataError for a file that holds neither, for an object of several lists of objects while `rows_key`
    names none, and for text that is not JSON (an element cannot be passed over when its end is unknown).
    """
    window = Window(text(path, table))
    start = window.peek()
    if start == "{":
        key = table.rows_key or only_list(window, table)
        yield from under(Window(text(path, table)), key, table)
    elif start == "[":
        if table.rows_key is not None:
            raise DataError(f"{table.path}: rows_key: {table.rows_key!r}, but the file is a plain list of rows; leave rows_key out")
        window.take("[")
        yield from elements(window, table)
        ended(window, table, "list")
    elif start:
        value = decoded(window, table)
        raise DataError(f"{table.path}: the file holds {kind_of(value)}, a list of rows is needed")


def elements(window: Window, table: Table) -> Iterator[Row | BadRow]:
    """The rows of a list whose opening bracket has been passed, to its closing one."""
    if window.take("]"):
        return
    while True:
        yield element(window, table)
        if window.text.startswith(",\n", window.position):
            window.position += 2
        elif window.take("]"):
            return
        elif not window.take(","):
            raise DataError(f"{table.path}:{window.here()}: not JSON (',' or ']' expected after an element); is the file cut off?")


def element(window: Window, table: Table) -> Row | BadRow:
    """The next element of a list as a row, or what is wrong with it; moves past it."""
    window.peek()
    line = window.here()
    try:
        value = decoded(window, table)
    except Passed as error:
        return table.bad(line, str(error), error.text)
    return Row(table.origin(line), value) if isinstance(value, dict) else table.bad(line, no_row(value), value)


class Passed(Exception):
    """A value that was passed over; the text says why, `text` is its beginning."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(why)
        self.text = text


def decoded(window: Window, table: Table) -> Any:
    """The value at the position; moves past it. Raises Passed for one that is too long or deep, holds bytes of
    another encoding or the same key twice, and DataError where the text is not JSON."""
    while True:
        words, start = window.text, window.position
        try:
            value, end = once(words, start)
        except json.JSONDecodeError as error:
            if len(words) - start > table.longest and unfinished(error, words):
                raise over(window, table, too_long(table)) from error
            if not unfinished(error, words) or not window.more():
                raise malformed(window, table, error, start) from error
        except (ValueError, RecursionError) as error:
            raise over(window, table, unreadable(error)) from error
        else:
            if end > len(words) - 3 and not isinstance(value, dict) and window.more():
                continue  # a number may go on: `1`, `1.`, `1e+`
            window.position += end - start
            if end - start > table.longest:
                raise Passed(too_long(table), words[start : start + SHOWN])
            if window.broken and (why := window.source.undecodable(words[start:end])):
                raise Passed(why, words[start : start + SHOWN])
            return value


def too_long(table: Table) -> str:
    """What to say of a row beyond the bound."""
    return f"the row is longer than {table.longest:,} characters"


def unfinished(error: json.JSONDecodeError, words: str) -> bool:
    """Whether the error may be only that the window ends within the value."""
    return error.msg.startswith("Unterminated") or error.pos > len(words) - 16


def malformed(window: Window, table: Table, error: json.JSONDecodeError, start: int) -> DataError:
    """What to say of text that is not JSON, with the line of the fault."""
    line = window.here() + error.doc.count("\n", start, error.pos)
    cut = "; is the file cut off?" if unfinished(error, error.doc) else ""
    what = f"{error.msg.removesuffix(' at')} at character {error.pos - start + 1} of the row"
    return DataError(f"{table.path}:{line}: not JSON ({what}); the list cannot be read past this{cut}")


def over(window: Window, table: Table, why: str) -> Passed:
    """Pass over the value at the position; raises DataError when the file ends in it."""
    line, start = window.here(), window.text[window.position : window.position + SHOWN]
    if not window.passed():
        raise DataError(f"{table.path}:{line}: not JSON (the file ends in the row that begins here); is the file cut off?")
    return Passed(why, start)


def under(window: Window, wanted: str, table: Table) -> Iterator[Row | BadRow]:
    """The rows of the list under a key of the document's object."""
    met = []
    for key in keys(window, table):
        met.append(key)
        if key != wanted:
            skip(window, table)
        elif window.take("["):
            yield from elements(window, table)
        else:
            raise DataError(f"{table.path}:{window.here()}: {wanted!r} is no list of rows")
    ended(window, table, "object")
    if wanted not in met:
        raise DataError(f"{table.path}: the object has no key {wanted!r}{nearest(wanted, met)} (rows_key)")


def only_list(window: Window, table: Table) -> str:
    """The key of the only list of objects in the document's object."""
    met, lists = [], []
    for key in keys(window, table):
        met.append(key)
        within = window.take("[")
        if within and window.peek() == "{":
            lists.append(key)
        skip(window, table, depth=int(within))
    ended(window, table, "object")
    if not lists:
        named = f" with the keys {', '.join(met[:NAMED])}" if met else ""
        raise DataError(f"{table.path}: the file holds an object{named}, a list of rows is needed")
    if len(lists) > 1:
        raise DataError(f"{table.path}: rows could be under {', '.join(lists[:NAMED])}; set rows_key: to one of them")
    return lists[0]


def keys(window: Window, table: Table) -> Iterator[str]:
    """The keys of the object at the position; at each, the position is that of its value, to be moved past."""
    window.take("{")
    met: set[str] = set()
    while not (not met and window.take("}")):
        key = decoded(window, table) if window.peek() == '"' else None
        if key is None or not window.take(":"):
            raise DataError(f"{table.path}:{window.here()}: not JSON (a key and ':' expected in the object); is the file cut off?")
        if key in met:
            raise DataError(f"{table.path}:{window.here()}: the key {key!r} stands twice in the object")
        met.add(key)
        window.peek()
        yield key
        if window.take("}"):
            return
        if not window.take(","):
            raise DataError(f"{table.path}:{window.here()}: not JSON (',' or '}}' expected in the object); is the file cut off?")


def skip(window: Window, table: Table, depth: int = 0) -> None:
    """Move past a value that is not wanted; raises DataError when the file ends in it."""
    line = window.here()
    if not window.passed(depth):
        raise DataError(f"{table.path}:{line}: not JSON (the file ends in the value that begins here); is the file cut off?")


def ended(window: Window, table: Table, what: str) -> None:
    """Raise DataError for anything but white space after the document."""
    if window.peek() == "{" and what == "object":
        raise DataError(f"{table.path}: this is JSON Lines, not one JSON document; set container: jsonl")
    if window.peek():
        raise DataError(f"{table.path}:{window.here()}: there is text after the end of the JSON {what}")
