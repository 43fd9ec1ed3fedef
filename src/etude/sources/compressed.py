"""The bytes of a file, a piece at a time, unpacked where it is compressed (gzip, Zstandard).

What a file starts with says how it is compressed, not its name; a name that promises a compression the bytes
do not have is an error. A stream that ends too early yields what came before and then fails: never silence.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from etude.failures import DataError
from etude.sources.containers import COMPRESSIONS

PIECE = 256 * 2**10
"""Bytes read, and at most unpacked by gzip, at once."""
PORTIONS = (256, 16 * 2**10)
"""Fewest and most bytes of Zstandard unpacked at once. Its decoder gives all they hold together, so that fewer are
taken where they hold much."""
GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
SKIPPED = b"\x2a\x4d\x18"
"""The last three bytes of the mark of a frame to pass over, with which some Zstandard files begin."""


def pieces(path: Path, name: str) -> Iterator[bytes]:
    """The file's bytes, unpacked, in pieces that are never empty; `name` is the path as the user wrote it.

    Raises DataError for a damaged or cut-off stream (after the pieces before the damage), for a name that ends
    in .gz or .zst while the bytes are something else, and where the package for .zst is missing.
    """
    packing, suffix = packed(path), path.suffix.lower()
    if suffix in COMPRESSIONS and packing != COMPRESSIONS[suffix]:
        raise DataError(f"{name} is named {suffix}, but its bytes are {packing or 'not compressed'}; name it by what it is")
    with open(path, "rb") as file:
        if packing == "gzip":
            yield from gzip_pieces(file, name)
        elif packing:
            yield from zstd_pieces(file, name)
        else:
            while piece := file.read(PIECE):
                yield piece


def packed(path: Path) -> str:
    """How a file is compressed, by its first bytes: "gzip", "Zstandard" or ""."""
    with open(path, "rb") as file:
        start = file.read(4)
    if start.startswith(GZIP):
        return "gzip"
    return "Zstandard" if start == ZSTD or (start[1:] == SKIPPED and 0x50 <= start[0] <= 0x5F) else ""


def gzip_pieces(file: IO[bytes], name: str) -> Iterator[bytes]:
    """A gzip file of one or more members (RFC 1952); zero bytes may stand after the last."""
    member: Any = None
    unpacked = 0
    while data := file.read(PIECE):
        while data:
            if member is None:
                data = data.lstrip(b"\0")
                member = zlib.decompressobj(wbits=31) if data else None
                continue
            piece, member, data = inflated(member, data, name, unpacked)
            unpacked += len(piece)
            if piece:
                yield piece
    while member is not None:  # what the last call had no room for
        piece, rest, _ = inflated(member, b"", name, unpacked)
        if rest is not None and not piece:
            raise cut_off(name, "gzip", unpacked)
        member, unpacked = rest, unpacked + len(piece)
        if piece:
            yield piece


def inflated(member: Any, data: bytes, name: str, unpacked: int) -> tuple[bytes, Any, bytes]:
    """The next piece, the member to go on with (None at its end) and the input not used yet."""
    try:
        piece = member.decompress(data, PIECE)
    except zlib.error as error:
        raise damaged(name, "gzip", unpacked, error) from error
    return (piece, None, member.unused_data) if member.eof else (piece, member, member.unconsumed_tail)


def zstd_pieces(file: IO[bytes], name: str) -> Iterator[bytes]:
    """A Zstandard file of one or more frames (RFC 8878)."""
    try:
        import zstandard
    except ImportError as error:
        raise DataError(f"{name}: reading .zst needs the package zstandard; install it with `pip install zstandard`") from error
    # Some published corpora are packed with `zstd --long=31`, a window of 2 GiB.
    maker: Any = zstandard.ZstdDecompressor(max_window_size=2**31)
    frame, begun, unpacked, portion = maker.decompressobj(), False, 0, PORTIONS[0]
    while data := file.read(portion):
        while data:
            try:
                piece = frame.decompress(data)
            except zstandard.ZstdError as error:
                raise damaged(name, "Zstandard", unpacked, error) from error
            begun, data, unpacked = True, b"", unpacked + len(piece)
            portion = max(PORTIONS[0], portion // 2) if len(piece) > PIECE // 2 else min(PORTIONS[1], portion * 2)
            if frame.eof:
                frame, begun, data = maker.decompressobj(), False, frame.unused_data
            if piece:
                yield piece
    if begun:
        raise cut_off(name, "Zstandard", unpacked)


def damaged(name: str, kind: str, unpacked: int, error: Exception) -> DataError:
    """What to say of bytes that are not what a compressed stream has there."""
    return DataError(f"{name}: the {kind} data is damaged after {unpacked:,} unpacked bytes ({error}); fetch the file again")


def cut_off(name: str, kind: str, unpacked: int) -> DataError:
    """What to say of a stream without its end."""
    return DataError(f"{name}: the {kind} data is cut off after {unpacked:,} unpacked bytes; fetch the file again")
