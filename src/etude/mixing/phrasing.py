"""Where a mixture meets the wording: phrasings used equally often, and the shares of a preset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from etude import seeds
from etude.mixing.drawing import Drawn
from etude.mixing.settings import PRESETS, Mixture
from etude.templates import Choices, Template, Wording
from etude.templates.choices import phrasings_for


def even_phrasings(template: Template, draws: Sequence[Drawn], choices: Sequence[Choices], settings: Wording, seed: int) -> list[Choices]:
    """The choices of one source's draws (as `templates.wording` made them), with the phrasing set so that each one
    that fits is used equally often, to within one, among draws that fit the same phrasings.

    Everything else a row's lots decided stays as it is. Draws are sorted by a hash and cut into stretches of equal length,
    one a phrasing: rows added to the source change the phrasing of few others, and a row that is drawn again
    may be asked in another way. Unchanged where the wording uses first phrasings only.
    """
    if settings.phrasings == "first":
        return list(choices)
    fitting: dict[tuple[int, ...], list[int]] = {}
    for place, chosen in enumerate(choices):
        fitting.setdefault(same_kind(template, chosen, settings), []).append(place)
    out = list(choices)
    for numbers, places in fitting.items():
        lots = {p: (seeds.number(seed, "even", draws[p].source, draws[p].record.id, draws[p].repeat), draws[p].record.id) for p in places}
        turns = sorted(numbers, key=lambda number: seeds.number(seed, "even", template.name, number))
        for rank, p in enumerate(sorted(places, key=lots.__getitem__)):
            out[p] = replace(choices[p], phrasing=turns[rank * len(turns) // len(places)])
    return out


def same_kind(template: Template, chosen: Choices, settings: Wording) -> tuple[int, ...]:
    """The phrasings that would have fitted a row's lots as the chosen one did."""
    words = template.phrasings[chosen.phrasing]
    listed = chosen.listed if settings.options is not None else None
    return phrasings_for(template, inverted=words.inverts, cot=words.cot, listed=listed)


def words_of(mixture: Mixture, source: str, given: Wording) -> Wording:
    """A source's wording: as given, with the published shares of the mixture's preset where the recipe says nothing
    (a setting that the recipe names stays). FLAN 2022: half the rows few-shot, half of flan2021's and t0's with options,
    .3 inverted to 1 plain in cot and dialog."""
    words = (PRESETS[mixture.preset].words or {}).get(mixture.group_of(source), {}) if mixture.preset else {}
    unset = {key: share for key, share in words.items() if key not in given.model_fields_set}
    if mixture.preset == "flan2022" and "phrasings" not in given.model_fields_set:
        return given.model_copy(update={**unset, "phrasings": "all"})
    return given.model_copy(update=unset)
