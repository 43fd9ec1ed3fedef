"""A configuration of another tool -> a commented recipe: `etude import-config`.

Every key of the file is accounted for: it has a line in the recipe, or a comment says why it has none,
or it asks for what etude does anyway. Where the file is silent and the tool's default differs from
etude's, the recipe says the tool's. A configuration of something else than supervised tuning is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etude import journal, recipe
from etude.failures import Failure, RecipeError, nearest
from etude.importing import axolotl, llama_factory, naturalcc, trl
from etude.importing.pages import page
from etude.importing.rules import Given, Left, Put, Same, Tool, slug
from etude.sources.tables import find

TOOLS: dict[str, Tool] = {
    "llama-factory": llama_factory.TOOL,
    "axolotl": axolotl.TOOL,
    "trl": trl.TOOL,
    "naturalcc": naturalcc.TOOL,
}
"""What `--tool` can name."""

RIVALS = {"tune.rows_per_step": "tune.tokens_per_step"}
"""A place that no default fills when its rival is set."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a configuration. `text`: the recipe, with its comments. `mapped`: key -> places of
    the recipe; `left`: key -> why it is not carried over; `same`: key -> why it needs no line; `added`:
    places the tool's defaults filled; `missing`: data files that are not where the recipe looks for them."""

    tool: str
    why: str
    text: str
    recipe: recipe.Recipe
    mapped: Mapping[str, tuple[str, ...]]
    left: Mapping[str, str]
    same: Mapping[str, str]
    added: tuple[str, ...]
    missing: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything but the recipe itself, as plain data."""
        return {
            "tool": self.tool,
            "why": self.why,
            "mapped": {key: list(places) for key, places in self.mapped.items()},
            "not_carried_over": dict(self.left),
            "as_etude_does": dict(self.same),
            "defaults": list(self.added),
            "missing_files": list(self.missing),
            "recipe": self.recipe.dump(),
        }


@dataclass(slots=True)
class Draft:
    """A recipe in the making: values by dotted place, a remark for each, and what became of each key."""

    values: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    mapped: dict[str, tuple[str, ...]] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)

    def put(self, key: str, item: Put, given: Given) -> None:
        """Set a place; raises RecipeError when another key has set it to something else."""
        if item.place in self.values and self.values[item.place] != item.value:
            other = next(name for name, places in self.mapped.items() if item.place in places)
            raise given.wrong(key, f"{item.value!r} goes to {item.place}, which {other!r} has set to {self.values[item.place]!r}")
        self.values[item.place] = item.value
        if item.comment:
            self.comments[item.place] = item.comment
        self.mapped[key] = (*self.mapped.get(key, ()), item.place)


def import_config(path: Path, tool: str | None = None) -> Imported:
    """The recipe that says what the configuration said.

    `tool`: a name of TOOLS; None: recognised by its keys. Raises RecipeError naming file, line and key for
    a file that is no configuration, of a tool that cannot be told, of another stage than supervised tuning,
    or with a value no version of the tool knows.
    """
    given = read(path)
    name, why = chosen(given, tool)
    kind = TOOLS[name]
    kind.refuse(given)
    draft = Draft()
    for key in given.keys:
        take(draft, kind, given, key)
    for item in kind.defaults(given):
        if not any(place in (item.place, RIVALS.get(item.place)) or place.startswith(f"{item.place}.") for place in draft.values):
            draft.values[item.place] = item.value
            draft.added.append(item.place)
            if item.comment:
                draft.comments[item.place] = item.comment
    complete(draft, given)
    text = page(draft.values, draft.comments, draft.left, draft.same, given, kind.name)
    built = recipe.build(recipe.parse(text, "the recipe"), f"the recipe made of {path}", text)
    return Imported(name, why, text, built, draft.mapped, draft.left, draft.same, tuple(draft.added), tuple(absent(built)))


def read(path: Path) -> Given:
    """The keys of a YAML or JSON file; a `hyperparameters:` section counts as if it stood at the top."""
    if not path.is_file():
        beside = [p.name for p in path.parent.glob("*") if p.suffix in (".yaml", ".yml", ".json")] if path.parent.is_dir() else []
        raise RecipeError(f"{path}: no such configuration{nearest(path.name, beside)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text ({error})") from error
    keys = recipe.parse(text, str(path))
    if {"sources", "model"} <= set(keys):
        raise RecipeError(f"{path}: this is a recipe of etude's already: etude run {path}")
    for section in naturalcc.SECTIONS:
        if isinstance(keys.get(section), Mapping):
            keys = {**{k: v for k, v in keys.items() if k != section}, **keys[section]}
    return Given({str(key): value for key, value in keys.items()}, path, text)


def chosen(given: Given, tool: str | None) -> tuple[str, str]:
    """The tool, and why it is thought to be that one."""
    if tool is not None:
        if tool not in TOOLS:
            raise RecipeError(f"--tool: no tool is called {tool!r}{nearest(tool, TOOLS)}")
        return tool, "--tool"
    hits = {name: [key for key in given.keys if key in kind.signs] for name, kind in TOOLS.items()}
    best = max(hits, key=lambda name: (len(hits[name]), -list(TOOLS).index(name)))
    rivals = [name for name in hits if len(hits[name]) == len(hits[best])]
    if not hits[best] or len(rivals) > 1:
        said = f"{', '.join(rivals)} would fit alike" if hits[best] else "none of its keys is typical of one"
        raise RecipeError(f"{given.path}: which tool's configuration this is cannot be told ({said}); say --tool {'|'.join(TOOLS)}")
    return best, f"its keys {', '.join(hits[best][:5])}"


def take(draft: Draft, tool: Tool, given: Given, key: str) -> None:
    """Work out one key."""
    if given.keys[key] is None:
        draft.same[key] = "not set"
        return
    if key not in tool.keys:
        hint = nearest(key, tool.keys)
        draft.left[key] = f"no key of {tool.name} that etude knows{hint if 'did you mean' in hint else ''}"
        return
    for outcome in tool.keys[key](given, key):
        if isinstance(outcome, Put):
            draft.put(key, outcome, given)
        elif isinstance(outcome, Left):
            draft.left[key] = f"{draft.left[key]}; {outcome.why}" if key in draft.left else outcome.why
        else:
            draft.same[key] = outcome.why


def complete(draft: Draft, given: Given) -> None:
    """What a recipe needs and no key gave: a name, and test rows to prove the effect on."""
    draft.values.setdefault("name", slug(given.path.stem))
    if not any(place.startswith("split.test") for place in draft.values):
        draft.values["split.test"] = 0.1
        draft.comments["split.test"] = "etude's: held out to prove the effect; 0 trains on every row"
    if draft.values.get("tune.method.type") == "full":
        for place in [p for p in draft.values if p.startswith("tune.method.") and p != "tune.method.type"]:
            draft.values.pop(place)


def absent(built: recipe.Recipe) -> Iterator[str]:
    """The data files the recipe names that are not there now."""
    for source in built.sources.values():
        place = getattr(source, "path", None)
        if isinstance(place, str) and "://" not in place and not any(char in place for char in "*?["):
            try:
                find(place)
            except Failure:
                if not Path(place).expanduser().is_dir():
                    yield place
    for part in (built.split.validation, built.split.test):
        place = getattr(part, "path", None)
        if place and not Path(place).expanduser().exists():
            yield str(place)


def save(done: Imported, out: Path, force: bool = False) -> None:
    """Write the recipe; raises RecipeError for a file that is there already, unless `force`."""
    if out.exists() and not force:
        raise RecipeError(f"{out} is there already; --force replaces it")
    journal.write_text(out, done.text)


def summary(done: Imported, out: Path | None) -> str:
    """What was mapped and what was not, for a terminal."""
    tool = TOOLS[done.tool].name
    lines = [f"a configuration of {tool} ({done.why}): {len(done.mapped)} keys mapped, {len(done.left)} not carried over, "
             f"{len(done.same)} need no line, {len(done.added)} defaults of {tool} written down"]  # fmt: skip
    lines += [f"  not carried over: {key} - {why}" for key, why in done.left.items()]
    lines += [f"  not there yet: {path}" for path in done.missing]
    return "\n".join([*lines, f"next: etude preview {out}"] if out else lines)


__all__ = ["TOOLS", "Imported", "Same", "import_config", "save", "summary"]
