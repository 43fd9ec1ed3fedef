"""What an installed etude has: every file that is no module must be named in pyproject.toml, or a wheel lacks it."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from etude import shipped

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "etude"


def test_a_wheel_has_every_file() -> None:
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["etude"]
    files = [p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc", ".pyi")]
    missing = [path for path in files if not any(fnmatch(path, one) and path.count("/") == one.count("/") for one in named)]
    assert not missing
    assert [one for one in named if not list(PACKAGE.glob(one))] == [], "patterns that name nothing"


def test_a_start_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = tmp_path / "etude" / "recipes"
    recipes.mkdir(parents=True)
    (recipes / "quickstart.yaml").write_text("name: quickstart\n")
    monkeypatch.setattr(shipped, "files", lambda name: tmp_path / name)
    target = tmp_path / "here"
    target.mkdir()
    with pytest.raises(FileNotFoundError, match="schema"):
        shipped.start("mine", "quickstart", target)
    assert not list(target.iterdir())
