"""What the words after `etude compare` name: arms, and the runs or files of each.

runs/a                     a run's tuned answers; one arm, called a
runs/a:start               another model's answers of that run: start, or a baseline
answers.jsonl              answers of any tool
tuned=runs/a,runs/a-2      several runs that differ in their training seed alone: one arm, called tuned
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from etude import runs
from etude.failures import RecipeError, nearest

TUNED = "tuned"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the answers of one run of an arm are: a file, or a run folder and whose answers of it; `text`: as it was given."""

    text: str
    path: Path
    whose: str = ""

    @property
    def is_run(self) -> bool:
        """Whether it is a run folder."""
        return bool(self.whose)


@dataclass(frozen=True, slots=True)
class Arm:
    """What is compared as one thing; `places`: one a training seed."""

    name: str
    places: tuple[Place, ...]


def arms_of(words: Sequence[str], root: Path) -> tuple[Arm, ...]:
    """The arms that the words name, in their order; `root`: where runs are looked for by name.

    Raises RecipeError for fewer than two, one name or place given twice, and what is neither a run nor a file.
    """
    if len(words) < 2:
        raise RecipeError("compare needs two arms or more: run folders, files of predictions, or NAME=RUN,RUN,... for several seeds")
    found = [arm_of(word, root) for word in words]
    short = [name or name_of(places[0]) for name, places in found]
    named = [
        Arm(name or (own if short.count(own) == 1 else places[0].text), places) for own, (name, places) in zip(short, found, strict=True)
    ]
    names = [arm.name for arm in named]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise RecipeError(f"two arms are called {twice!r}; give one another name: NAME={twice}")
    seen: dict[tuple[Path, str], str] = {}
    for arm in named:
        for place in arm.places:
            key = (place.path.resolve(), place.whose)
            if key in seen:
                raise RecipeError(
                    f"{place.text} is given twice, in {seen[key]!r} and in {arm.name!r}; a run stands for one seed of one arm"
                )
            seen[key] = arm.name
    return tuple(named)


def arm_of(word: str, root: Path) -> tuple[str, tuple[Place, ...]]:
    """One word's arm: the name it gives ("" for none) and its places."""
    if (alone := place_of(word, root)) is not None:
        return "", (alone,)
    name, sign, rest = word.partition("=")
    if not sign or "/" in name:
        if "," in word:
            raise RecipeError(f"{word!r}: several runs of one arm need a name: NAME={word}")
        raise missing(word, root)
    if not name or not rest:
        raise RecipeError(f"{word!r}: an arm is NAME=RUN or NAME=RUN,RUN,...")
    places = []
    for part in [rest] if place_of(rest, root) else rest.split(","):
        place = place_of(part, root) if part else None
        if place is None:
            raise missing(part, root)
        places.append(place)
    return name, tuple(places)


def place_of(text: str, root: Path) -> Place | None:
    """The run or file that a text names, as a path or by the run's name below `root`; None where it names none."""
    before, sign, whose = text.rpartition(":")
    for spec, answers in ((text, TUNED), (before, whose)) if sign and before and whose else ((text, TUNED),):
        for path in (Path(spec).expanduser(), root / spec):
            if (path / "recipe.resolved.yaml").is_file():
                return Place(text, path, answers)
    path = Path(text).expanduser()
    return Place(text, path) if path.is_file() else None


def name_of(place: Place) -> str:
    """What a lone place is called."""
    if not place.is_run:
        return place.path.name.partition(".")[0] or place.path.name
    return place.path.resolve().name if place.whose == TUNED else f"{place.path.resolve().name}:{place.whose}"


def missing(text: str, root: Path) -> RecipeError:
    """Why a text names nothing, with the nearest name there is."""
    path = Path(text)
    beside = [entry.name for entry in path.parent.iterdir() if entry.is_file()] if text and path.parent.is_dir() else []
    hint = nearest(path.name, [*(run.name for run in runs.all_runs(root)), *beside])
    return RecipeError(f"{text!r} is no run folder and no file of predictions{hint if 'did you mean' in hint else ''}")
