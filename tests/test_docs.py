"""README and docs are true: their recipes load, their commands exist, their links lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from etude import catalog, recipe, shipped, studies
from etude.cli import app
from etude.studies import designing, searching

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")])


def fences(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def commands() -> list[tuple[str, list[str]]]:
    """Every `etude ...` line of every shell block."""
    found = []
    for path in PAGES:
        for block in fences(path, "(?:bash|sh|console|)"):
            for line in block.splitlines():
                text = line.strip().removeprefix("$ ").removeprefix(".venv/bin/")
                if text.startswith("etude ") and "|" not in text:
                    found.append((path.name, shlex.split(text, comments=True)[1:]))
    return found


def test_commands_exist():
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert commands(), "the README shows commands"
    for page, words in commands():
        assert words[0] in known or words[0].startswith("--"), f"{page}: etude {' '.join(words)}"


def test_every_command_is_told():
    told = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in app.registered_commands:
        assert f"etude {command.name or command.callback.__name__}" in told


def test_recipes_in_the_docs_load():
    catalog.NOTES.clear()
    blocks = [(path, block) for path in PAGES for block in fences(path, "yaml")]
    assert blocks
    for path, block in blocks:
        raw = recipe.parse(block, str(path))
        if "arms" in raw:
            study = studies.Study.model_validate(raw)
            for arm in study.arms:
                studies.recipe_of(study, Path(), arm, "s0", {})
        else:
            recipe.build(raw, str(path), block)
    catalog.NOTES.clear()


@pytest.mark.parametrize("path", sorted(shipped.recipe_path("quickstart").parent.glob("studies/*.yaml")), ids=lambda path: path.stem)
def test_shipped_studies_load_arm_by_arm(path):
    catalog.NOTES.clear()
    study, where = studies.load(path)
    assert path.stem == study.name
    assert searching.equal_budget(study) >= 1
    for arm in study.arms:
        for more in searching.candidates(study, arm):
            chosen = studies.recipe_of(study, where, arm, "s0", more)
            assert designing.primary_of(study, chosen)
    catalog.NOTES.clear()


def test_shipped_recipes_named_in_commands_exist():
    for page, words in commands():
        for word in words:
            if word.startswith("recipes/"):
                assert shipped.recipe_path(str(Path(word).relative_to("recipes").with_suffix(""))).is_file(), f"{page}: {word}"


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:")):
            assert (path.parent / target).exists(), f"{path.name} -> {target}"


def test_python_blocks_run(tmp_path, monkeypatch, model_folder):
    """Each Python block runs with a tiny model in the place of the default one."""
    from etude import journal

    monkeypatch.chdir(tmp_path)
    rows = [{"instruction": f"Name number {i}.", "input": "", "output": f"the number {i % 7}"} for i in range(60)]
    journal.write_rows(tmp_path / "rows.jsonl", rows)
    blocks = [block for path in PAGES for block in fences(path, "python")]
    assert blocks
    for block in blocks:
        exec(compile(block.replace("smollm2-135m-instruct", str(model_folder("llama"))), "docs", "exec"), {"__name__": "docs"})


def test_dependencies_are_all_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    for requirement in project["dependencies"]:
        name = re.split(r"[<>=!\[]", requirement)[0]
        assert re.search(rf"\b{re.escape(name)}\b", page), f"docs/dependencies.md does not say why {name}"


def test_public_names_are_there():
    import etude

    assert etude.__all__ == sorted(etude.__all__)
    for name in etude.__all__:
        assert getattr(etude, name)
    with pytest.raises(AttributeError):
        etude.nothing  # noqa: B018


def make(place: Path, python: str, *targets: str):
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, place)
    return subprocess.run(["make", f"PYTHON={python}", *targets], cwd=place, capture_output=True, text=True)


def test_make_says_how_to_mend_a_python_without_ensurepip(tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\nexit 0\n')
    python.chmod(0o755)
    done = make(tmp_path, str(python), "quickstart")
    assert done.returncode == 2
    assert "python3-venv" in done.stdout + done.stderr
    assert not (tmp_path / ".venv").exists()


def test_make_says_when_there_is_no_python(tmp_path):
    done = make(tmp_path, "", "test")
    assert done.returncode == 2
    assert "Python 3.11 or newer" in done.stdout + done.stderr


def test_constraints_are_plain_versions():
    """A path or address of the machine that froze them would break every other one."""
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line), line
