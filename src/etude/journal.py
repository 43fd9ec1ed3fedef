"""Everything that reaches the disk: append-only JSON Lines, whole files, staged folders, locks.

The promises: a journal line is there whole or not at all (a torn last line is cut off when the
journal is next opened); a whole file or folder appears under its name only when it is complete;
a lock dies with its process.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from etude.failures import DataError, Locked, NoSpace

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a full, read-only or over-quota disk into NoSpace with the path."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise NoSpace(f"cannot write {path}: {os.strerror(error.errno or 0)}; make room and run again") from error
        raise


def line(row: Mapping[str, Any]) -> bytes:
    """One JSON line. Lone surrogates are written as escapes, so any text survives."""
    try:
        return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


class Journal:
    """An append-only JSON Lines file with one writer. Opening cuts off a torn last line."""

    def __init__(self, path: Path, sync_every: int = 32) -> None:
        self.path = path
        self.sync_every = sync_every
        self.unsynced = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        with explained(path):
            self.file = open(path, "ab", buffering=0)
        mend(path)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row as one line in one call; fsync now and then."""
        with explained(self.path):
            data = memoryview(line(row))
            while data:
                data = data[self.file.write(data) or 0 :]
            self.unsynced += 1
            if self.unsynced >= self.sync_every:
                self.sync()

    def sync(self) -> None:
        """Make what was appended survive a power cut."""
        with explained(self.path):
            os.fsync(self.file.fileno())
        self.unsynced = 0

    def close(self) -> None:
        """Sync and close."""
        if not self.file.closed:
            self.sync()
            self.file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def mend(path: Path) -> int:
    """Cut a torn last line off a journal; returns the bytes removed."""
    with open(path, "rb+") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            file.truncate(end)
        return size - end


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a journal; a torn last line is passed over, any other bad line is a DataError."""
    with open(path, "rb") as file:
        for number, data in enumerate(file, 1):
            if not data.endswith(b"\n"):
                return
            try:
                yield json.loads(data)
            except ValueError as error:
                raise DataError(f"{path}:{number}: not JSON ({error}); the file was damaged after it was written") from error


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write a whole JSON Lines file at once, streamed to a temporary name; returns the rows written."""
    count = 0
    with replacing(path) as temporary, open(temporary, "wb") as file:
        for row in rows:
            file.write(line(row))
            count += 1
        file.flush()
        os.fsync(file.fileno())
    return count


def write_text(path: Path, text: str) -> None:
    """Write a whole text file at once."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write a whole JSON file at once."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that replaces it when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with explained(path):
            yield temporary
            os.replace(temporary, path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends well.

    What stood there before is removed only then; leftovers of killed writers are swept first.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{folder.name}.staged-"
    for stale in folder.parent.glob(f"{prefix}*"):
        owner = stale.name.removeprefix(prefix).split("-")[0]
        if owner == str(os.getpid()) or not alive(owner):
            shutil.rmtree(stale, ignore_errors=True)
    temporary = folder.parent / f"{prefix}{os.getpid()}"
    try:
        with explained(folder):
            temporary.mkdir()
            yield temporary
            for path in temporary.rglob("*"):
                if path.is_file():
                    with open(path, "rb") as file:
                        os.fsync(file.fileno())
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(temporary, folder)
            sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def alive(pid: str) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder/lock` for this process, or raise Locked naming who holds it.

    The lock is the kernel's and dies with its holder; the text in the file is only for messages.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / "lock", "a+", encoding="utf-8")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise Locked(f"{folder} is in use by {file.read().strip() or 'another process'}; wait for it or stop it") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}\n")
        file.flush()
        yield


def digest(value: Any) -> str:
    """SHA-256 (hex) of a JSON-like value in canonical form."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
