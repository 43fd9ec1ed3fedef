"""Rows of JSON Lines, and how one JSON value becomes a row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etude.failures import DataError
from etude.records import BadRow
from etude.sources.containers import Table
from etude.sources.encodings import text
from etude.sources.rows import SHOWN, Row, count
from etude.sources.where import kind_of

SPACE = b" \t\r\n"
"""White space between JSON values (RFC 8259)."""


class Repeated(ValueError):
    """A key stands twice in a JSON object (readers differ on which one counts)."""


def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of its pairs; raises Repeated when a key stands twice."""
    value = dict(items)
    if len(value) != len(items):
        raise Repeated("a key stands twice in the object")
    return value


once = json.JSONDecoder(object_pairs_hook=pairs).raw_decode
"""Text, position -> the value that starts there and the position after it. Kept, because making a decoder costs as
much as decoding a short row; noticing repeated keys costs a fifth of decoding."""


def read_lines(path: Path, table: Table) -> Iterator[Row | BadRow]:
    """Rows of JSON Lines; blank lines are passed over."""
    source = text(path, table)
    first, longest, origin = True, table.longest, table.origin
    for number, raw in lines(source.pieces, longest):
        line = raw.strip(SPACE)
        if not line:
            continue
        if first and line.startswith(b"["):
            raise DataError(f"{table.path}:{number}: this is one JSON list, not JSON Lines; set container: json")
        first = False
        if len(raw) > longest:
            yield table.bad(number, f"the row is longer than {longest:,} bytes", raw[: 4 * SHOWN].decode(errors="replace"))
            continue
        try:
            words = line.decode()
        except UnicodeDecodeError:
            words = line.decode("utf-8", source.errors)
            yield table.bad(number, source.undecodable(words), words)
            continue
        try:
            value, end = once(words, 0)
            if end != len(words):
                raise json.JSONDecodeError("Extra data", words, end)
        except (ValueError, RecursionError) as error:
            yield table.bad(number, unreadable(error, words), words)
            continue
        yield Row(origin(number), value) if isinstance(value, dict) else table.bad(number, no_row(value), words)


def lines(pieces: Iterator[bytes], longest: int) -> Iterator[tuple[int, bytes]]:
    """Numbered lines without their line feeds; of an overlong one the first `longest` + 1 bytes and no more."""
    number, held, size = 0, list[bytes](), 0
    for piece in pieces:
        first, *others = piece.split(b"\n")
        if size <= longest:
            held.append(first[: longest + 1 - size])
            size += len(first)
        if not others:
            continue
        number += 1
        yield number, b"".join(held)
        last = others.pop()
        for line in others:
            number += 1
            yield number, line
        held, size = [last[: longest + 1]], len(last)
    if size:
        yield number + 1, b"".join(held)


def no_row(value: Any) -> str:
    """Why a JSON value is no row."""
    return f"{kind_of(value)}, not an object"


def unreadable(error: Exception, words: str = "") -> str:
    """Why JSON could not be read, in one clause."""
    if isinstance(error, RecursionError):
        return "not JSON that can be read: nested too deeply"
    if isinstance(error, Repeated):
        return str(error)
    if zeros := words.count("\0"):
        return f"not JSON (the row holds {count(zeros, 'zero byte')}; was the disk full or the machine stopped while it was written?)"
    where = f" at character {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
    return f"not JSON ({str(getattr(error, 'msg', error)).removesuffix(' at')}{where})"
