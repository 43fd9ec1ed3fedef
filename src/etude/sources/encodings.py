"""Text out of bytes: which encoding a file has, and what becomes of bytes that are not of it.

Whatever the file's encoding, the readers see UTF-8, so that lines are split before they are decoded and a row
with a broken character is one bad row. A byte-order mark says what it says; without one, the setting does.
"""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from etude.failures import DataError, nearest
from etude.sources.compressed import pieces
from etude.sources.containers import Table
from etude.sources.rows import surrogate

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, which it starts with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
OTHERS = (
    (b"PAR1", "a Parquet file", "; set container: parquet"),
    (b"ARROW1", "an Arrow file", "; set container: arrow"),
    (b"PK\x03\x04", "a zip archive (or a spreadsheet)", "; unpack it"),
    (b"SQLite format 3", "a database", ""),
)
"""First bytes of files that are no text, what they are, and what to do."""


def known_encoding(name: str) -> str:
    """The same name, or a placed pydantic error when Python has no such encoding of text."""
    try:
        "".encode(name)
    except LookupError as error:
        hint = nearest(name, ["utf-8", "utf-16", "latin-1", "cp1252", "gb18030", "shift_jis", "ascii"])
        raise PydanticCustomError("encoding", "no text encoding is called '{name}'{hint}", {"name": name, "hint": hint}) from error
    return name


Encoding = Annotated[str, AfterValidator(known_encoding)]
"""The annotation of a settings field that names a text encoding."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text file as pieces of UTF-8 without a mark. `encoding` is the file's own. Bytes that are not of it are
    lone surrogates once a piece is decoded with `errors` (PEP 383), and stand nowhere else."""

    pieces: Iterator[bytes]
    encoding: str
    errors: str

    def undecodable(self, text: str) -> str:
        """Why a decoded text is not of the file's encoding, or ""."""
        if text.isascii() or not (char := surrogate(text)):
            return ""
        byte = f"byte 0x{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else f"U+{ord(char):04X} alone"
        hint = "to what it is" if self.encoding.startswith(("utf-16", "utf-32")) else ""
        what = "set encoding:" if hint else "if the file is latin-1 or cp1252, set encoding:"
        return f"{byte} is not {self.encoding}; {what}{hint and ' ' + hint}"


def text(path: Path, table: Table) -> Text:
    """The text of a file, unpacked; raises DataError for files of another kind and contradictory marks."""
    parts = pieces(path, table.path)
    start = b""
    while len(start) < 16 and (piece := next(parts, b"")):
        start += piece
    for magic, what, say in OTHERS:
        if start.startswith(magic):
            raise DataError(f"{table.path} is {what}, not {table.container or 'text'}{say}")
    encoding, mark = judged(start, table)
    rest = itertools.chain([start[mark:]] if start[mark:] else [], parts)
    if encoding == "utf-8":
        return Text(rest, table.encoding, "surrogateescape")
    return Text(transcoded(rest, encoding, table, mark), encoding, "surrogatepass")


def judged(start: bytes, table: Table) -> tuple[str, int]:
    """The encoding of a file that starts so, and the bytes of its mark."""
    declared = codecs.lookup(table.encoding).name.removesuffix("-sig")
    for mark, encoding in MARKS:
        if not start.startswith(mark):
            continue
        if declared != "utf-8" and not encoding.startswith(declared):
            raise DataError(f"{table.path} starts with the mark of {encoding}, not {table.encoding}; set encoding: {encoding}")
        return encoding, len(mark)
    zeros = "".join("0" if byte == 0 else "x" for byte in start[:4])
    wide = {"0x0x": "utf-16-be", "x0x0": "utf-16-le"}.get(zeros)
    if wide and declared == "utf-8":
        raise DataError(f"{table.path} looks like {wide} without its mark (every other byte is zero); set encoding: {wide}")
    return (wide if wide and declared == "utf-16" else declared), 0


def transcoded(parts: Iterator[bytes], encoding: str, table: Table, byte: int) -> Iterator[bytes]:
    """The same text, which begins at `byte` of the file, in UTF-8; raises DataError with line and byte for what
    cannot be marked and passed on."""
    wide = encoding.startswith(("utf-16", "utf-32"))
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass" if wide else "surrogateescape")
    line = 1
    for piece in itertools.chain(parts, [b""]):
        held = len(decoder.getstate()[0])
        try:
            done = decoder.decode(piece, final=not piece)
        except UnicodeError as error:
            at = getattr(error, "start", 0)
            before = getattr(error, "object", b"")[:at].decode(encoding, "ignore")
            where = f"{table.path}:{line + before.count(chr(10))}: byte {byte - held + at}"
            raise DataError(f"{where} is not {encoding} ({getattr(error, 'reason', error)}); set encoding: to what it is") from error
        line, byte = line + done.count("\n"), byte + len(piece)
        if done:
            yield done.encode("utf-8", "surrogatepass")
