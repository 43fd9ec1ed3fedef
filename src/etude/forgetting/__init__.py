"""What tuning cost: a fixed probe that the start model and the tuned one both take, whatever the recipe is about.

Bits a token on prose and on code that lie on the user's own machine (descriptions and modules of installed packages, so that
nothing is downloaded and nothing foreign is shipped), and a few small tasks written for this project. A tuned model that needs more
bits for ordinary text, or fails at what its start model could do, has forgotten something (McCloskey and Cohen 1989; for
instruction tuning Luo et al. 2023, arXiv 2308.08747).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata, resources
from itertools import islice
from pathlib import Path
from typing import Any

from etude import journal
from etude.models import Progress, Sampling, Scores
from etude.records import Conversation, Message
from etude.scoring import Answers

PACKAGES = ("accelerate", "jinja2", "numpy", "peft", "pydantic", "rich", "scipy", "tokenizers", "torch", "transformers", "typer")
"""Packages that etude needs anyway: their descriptions are prose, their modules code."""
PIECES = 24
"""Pieces of each kind: an interval of the difference about 1 % of the bits wide here, in a few seconds."""
CHARACTERS = (300, 700)
"""Least and most characters of a piece."""
SAMPLING = Sampling(max_new_tokens=24)
PROSE = re.compile(r"[A-Za-z][a-z]+(?:[ ,;:'\-]+[A-Za-z][a-z']*){8,}")
"""A stretch of nine words with nothing but spaces and commas between them."""


def prose() -> list[str]:
    """Paragraphs of the descriptions of installed packages; the same on every call on one machine."""
    return chosen(paragraph for name in PACKAGES for paragraph in re.split(r"\n\s*\n", described(name)) if is_prose(paragraph.strip()))


def is_prose(paragraph: str) -> bool:
    """Whether a paragraph is sentences: no list, heading, table or block of links."""
    return paragraph[:1].isalpha() and paragraph.count("http") < 2 and bool(PROSE.search(paragraph))


def code() -> list[str]:
    """Beginnings of functions and classes of installed packages; the same on every call on one machine."""
    return chosen(piece for name in PACKAGES for path in modules(name) for piece in definitions(path))


KINDS = {"prose": prose, "code": code}
"""Kinds of text that are read."""


def described(package: str) -> str:
    """A package's own description, "" where it is not installed or has none."""
    try:
        return metadata.metadata(package).get_payload() or ""  # type: ignore[attr-defined]
    except metadata.PackageNotFoundError:
        return ""


def modules(package: str) -> Iterator[Path]:
    """Up to forty modules of a package, in the order of their names' hashes."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return
    names = [file for file in files if file.suffix == ".py" and "test" not in str(file) and not file.name.startswith("_")]
    yield from (Path(str(file.locate())) for file in sorted(names, key=lambda file: journal.digest(str(file)))[:40])


def definitions(path: Path) -> Iterator[str]:
    """The first two functions or classes of a module, each as far as the next one."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    yield from islice((part for part in re.split(r"(?m)^(?=(?:def|class) )", text)[1:] if part.strip()), 2)


def chosen(texts: Iterable[str]) -> list[str]:
    """PIECES different texts of at least 300 characters, cut at a line's end before 700, by the order of their hashes."""
    low, high = CHARACTERS
    cut = {(text if len(text) <= high else text[:high].rsplit("\n", 1)[0]).strip() for text in texts if len(text.strip()) >= low}
    return sorted((text for text in cut if len(text) >= low), key=lambda text: journal.digest(text))[:PIECES]


def tasks() -> list[dict[str, Any]]:
    """The small tasks: `ask` and `right`, every right answer."""
    import yaml

    return list(yaml.safe_load(resources.files("etude.forgetting").joinpath("tasks.yaml").read_text(encoding="utf-8")))


def read(model: Scores, texts: Sequence[str], progress: Progress | None = None) -> list[dict[str, Any]]:
    """A row a text: `id`, and `token_logprobs` of its tokens (natural; its end of text left out). `model` must read plain text
    (`formats.documents`)."""
    rows = model.logprobs([Conversation(journal.digest(text)[:16], (Message("assistant", text),)) for text in texts], progress)
    found = zip(texts, rows, strict=True)
    return [{"id": journal.digest(text)[:16], "token_logprobs": [round(float(v), 5) for v in values[:-1]]} for text, values in found]


def answer(model: Answers, progress: Progress | None = None) -> list[dict[str, Any]]:
    """A row a small task: `id`, `question`, `output`, `right` (0 or 1)."""
    given = tasks()
    asked = [Conversation(journal.digest(task["ask"])[:16], (Message("user", task["ask"]),)) for task in given]
    found: list[dict[str, Any]] = [{} for _ in given]
    for place, answers in model.complete_each(asked, SAMPLING):
        said = answers[0].text
        found[place] = {
            "id": asked[place].id,
            "question": given[place]["ask"],
            "output": said,
            "right": int(is_right(said, given[place]["right"])),
        }
        if progress:
            progress(1)
    return found


def is_right(said: str, references: Sequence[str]) -> bool:
    """Whether the first line of an answer holds a reference as whole words; a reference in capitals must stand in capitals."""
    line = next((line for line in said.splitlines() if line.strip()), "")
    return any(holds(line if reference.isupper() and reference.isalpha() else line.lower(), reference) for reference in references)


@functools.lru_cache(maxsize=256)
def pattern(reference: str) -> re.Pattern[str]:
    """The whole words of a reference, whatever stands between them."""
    return re.compile(r"(?<!\w)" + r"\W+".join(map(re.escape, re.findall(r"\w+", reference))) + r"(?!\w)")


def holds(line: str, reference: str) -> bool:
    """Whether a line has the reference's words one after another."""
    return bool(pattern(reference if reference.isupper() and reference.isalpha() else reference.lower()).search(line))
