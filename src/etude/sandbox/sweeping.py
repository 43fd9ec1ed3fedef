"""Folders that a hostile program wrote in: how much is there, and away with it, however deep or unreadable it is."""

from __future__ import annotations

import contextlib
import os
import stat


def measure(folder: str, most_files: int) -> tuple[int, int]:
    """(bytes, entries) below a folder, links not followed; stops counting beyond `most_files`. What cannot be listed (a path beyond
    what the system takes) counts as one entry too many."""
    size = entries = 0
    waiting = [folder]
    while waiting and entries <= most_files:
        try:
            with os.scandir(waiting.pop()) as found:
                for entry in found:
                    entries += 1
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entries > most_files:
                        break
        except FileNotFoundError:  # it went away while we looked
            continue
        except OSError:
            return size, most_files + 1
    return size, entries


def sweep(folder: str) -> None:
    """Remove a folder and all in it. Folders in folders are first moved up, so that neither the depth of a tree nor the length of
    its paths matters; modes are mended on the way. No link is followed. A folder that is not there is fine."""
    if not os.path.isdir(folder) or os.path.islink(folder):
        return
    number, prefix = 0, f".swept-{os.urandom(8).hex()}"  # which nobody could have guessed and taken
    os.chmod(folder, 0o700)
    while True:
        with os.scandir(folder) as found:
            names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
        if not names:
            break
        for name, is_folder in names:
            path = os.path.join(folder, name)
            if not is_folder:
                os.unlink(path)
                continue
            os.chmod(path, 0o700)
            with os.scandir(path) as found:
                inner = [(entry.name, stat.S_ISDIR(entry.stat(follow_symlinks=False).st_mode)) for entry in found]
            for below, deeper in inner:
                if deeper:
                    number += 1
                    with contextlib.suppress(OSError):
                        os.chmod(os.path.join(path, below), 0o700)
                    os.rename(os.path.join(path, below), os.path.join(folder, f"{prefix}-{number}"))
                else:
                    os.unlink(os.path.join(path, below))
            os.rmdir(path)
    os.rmdir(folder)
