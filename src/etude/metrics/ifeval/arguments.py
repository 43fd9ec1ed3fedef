"""From the fields of an item to its instructions: ids checked, arguments of the right kind, nothing guessed.

The reference draws an argument at random where it is missing or 0; here a 0 is a 0, and a missing one is an error with its place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from etude.failures import nearest
from etude.metrics.ifeval.instructions import INSTRUCTIONS, Check
from etude.metrics.ifeval.languages import LANGUAGES
from etude.metrics.items import RowError, field_of
from etude.records import Prediction

RELATIONS = ("less than", "at least")


class Unfit(ValueError):
    """An argument is not what its instruction needs; the text says what is."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of an item: its id in the data set, and its arguments."""

    id: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def followed(self, answer: str) -> bool:
        """Whether an answer follows it; an empty one follows none."""
        return answer.strip() != "" and INSTRUCTIONS[self.id](answer, **self.arguments)


def count(value: Any) -> int:
    """A whole number of 0 and more; Parquet writes it as 3.0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or value < 0 or value != int(min(value, 1e15)):
        raise Unfit("must be a whole number, 0 or more")
    return int(value)


def position(value: Any) -> int:
    """A whole number of 1 and more."""
    if count(value) == 0:
        raise Unfit("must be a whole number from 1")
    return int(value)


def relation(value: Any) -> str:
    """`less than` or `at least`."""
    if value not in RELATIONS:
        raise Unfit(f"must be 'less than' or 'at least'{nearest(str(value), RELATIONS)}")
    return str(value)


def text(value: Any) -> str:
    """A text with something in it, without the space around it."""
    if not isinstance(value, str) or not value.strip():
        raise Unfit("must be a text that is not empty")
    return value.strip()


def texts(value: Any) -> tuple[str, ...]:
    """A list of texts, none of them empty."""
    if not isinstance(value, list | tuple) or not value or not all(isinstance(one, str) and one.strip() for one in value):
        raise Unfit("must be a list of texts, none of them empty")
    return tuple(value)


def letter(value: Any) -> str:
    """A single character."""
    if not isinstance(value, str) or len(value) != 1:
        raise Unfit("must be a single character")
    return value


def language(value: Any) -> str:
    """An ISO 639-1 code; both Chinese scripts (zh-cn, zh-tw) are zh."""
    code = str(value).lower().split("-")[0]
    if code not in LANGUAGES:
        raise Unfit(f"must be the code of a language that can be told apart{nearest(code, LANGUAGES)}")
    return code


ARGUMENTS: Mapping[str, Callable[[Any], Any]] = {
    "keywords": texts,
    "keyword": text,
    "frequency": count,
    "relation": relation,
    "forbidden_words": texts,
    "letter": letter,
    "let_frequency": count,
    "let_relation": relation,
    "language": language,
    "num_sentences": count,
    "num_words": count,
    "num_paragraphs": count,
    "nth_paragraph": position,
    "first_word": text,
    "num_placeholders": count,
    "postscript_marker": text,
    "num_bullets": count,
    "num_highlights": count,
    "section_spliter": text,
    "num_sections": count,
    "prompt_to_repeat": text,
    "end_phrase": text,
    "capital_frequency": count,
    "capital_relation": relation,
}
"""Key of an instruction's `kwargs` -> how its value is read."""


@cache
def wanted(check: Check) -> tuple[str, ...]:
    """The arguments of a check, by their keys in `kwargs`."""
    return tuple(key for key, one in inspect.signature(check).parameters.items() if one.kind is one.KEYWORD_ONLY)


def instructions(prediction: Prediction) -> tuple[Instruction, ...]:
    """The instructions of an item, from its fields `instruction_id_list` and `kwargs`.

    Raises RowError for a field that is missing or not a list, lists of different lengths or none, an unknown id, and arguments that
    are missing, unknown or unfit.
    """
    ids = listed(prediction, "instruction_id_list", "the ids of the instructions to check")
    given = listed(prediction, "kwargs", "an object of arguments for each instruction")
    if not ids:
        raise RowError(prediction.id, "field 'instruction_id_list' is empty; there is nothing to check")
    if len(ids) != len(given):
        raise RowError(
            prediction.id, f"'instruction_id_list' has {len(ids)} entries and 'kwargs' {len(given)}; each instruction needs its own"
        )
    return tuple(instruction(prediction.id, place, id, one) for place, (id, one) in enumerate(zip(ids, given, strict=True), 1))


def instruction(row: str, place: int, id: Any, given: Any) -> Instruction:
    """The `place`-th instruction of a row. Raises RowError."""
    if not isinstance(id, str) or id not in INSTRUCTIONS:
        raise RowError(row, f"instruction {place}: no instruction {id!r:.80}{nearest(str(id), INSTRUCTIONS)}")
    where = f"instruction {place} ({id})"
    if given is not None and not isinstance(given, Mapping):
        raise RowError(row, f"{where}: its 'kwargs' must be an object, not {given!r:.80}")
    said = {key: value for key, value in (given or {}).items() if value is not None}  # Parquet gives every row every key
    keys = wanted(INSTRUCTIONS[id])
    for key in said:
        if key not in keys:
            raise RowError(row, f"{where}: unknown argument {key!r}" + (nearest(str(key), keys) if keys else "; it takes none"))
    found = {}
    for key in keys:
        if key not in said:
            raise RowError(row, f"{where}: its 'kwargs' have no {key!r}; it needs {', '.join(keys)}")
        try:
            found[key] = ARGUMENTS[key](said[key])
        except Unfit as error:
            raise RowError(row, f"{where}: {key} {error}, not {said[key]!r:.80}") from error
    if found.get("nth_paragraph", 0) > found.get("num_paragraphs", 0):
        raise RowError(row, f"{where}: there is no paragraph {found['nth_paragraph']} of {found['num_paragraphs']}")
    return Instruction(id, found)


def listed(prediction: Prediction, key: str, what: str) -> list[Any]:
    """A field that is a list; raises RowError."""
    value = field_of(prediction, key, what)
    if not isinstance(value, list | tuple):
        raise RowError(prediction.id, f"field {key!r} must be a list ({what}), not {value!r:.80}")
    return list(value)
