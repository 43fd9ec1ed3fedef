"""A row written down in words: the one way in mixing, scoring and previewing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from etude.failures import DataError, RecipeError
from etude.records import Conversation, Message, Record
from etude.templates.choices import FRAMES, Choices, Wording, rationale_of, wording
from etude.templates.exemplars import Count, asked, draw, gather
from etude.templates.filling import fill
from etude.templates.options import STYLES, position, texts
from etude.templates.reasoning import stated
from etude.templates.rows import worded
from etude.templates.template import Phrasing, Template


def write(
    record: Record, template: Template | None, *, phrasing: int = 0, exemplars: Sequence[Record] = (), choices: Choices | None = None
) -> Conversation:
    """A row in words. `exemplars` become earlier turns in the same phrasing, or worked examples inside the
    message; the row itself, or one with the same input, is never one. `choices` (of `wording`) say more
    than `phrasing` does, and take its place.

    Without a template the row must be worded already: `messages`, or Alpaca's fields. Raises DataError
    naming the row's place for a field that does not exist or messages of another shape.
    """
    chosen = choices or Choices(phrasing)
    own, facts = exchange(record, template, chosen)
    opening = own[:1] if own and own[0].role == "system" else ()
    shown = others(record, exemplars, template) if exemplars else ()
    if shown:
        turns = [tuple(m for m in exchange(example, template, chosen)[0] if m.role != "system") for example in shown]
        own = inlined(own, turns, shown, chosen) if chosen.inline else (*opening, *(m for t in turns for m in t), *own[len(opening) :])
        facts["shots"] = len(shown)
    notes = {"template": template.name, "phrasing": chosen.phrasing, **facts} if template else facts
    tools = tuple(record.fields.get("tools") or ()) if template is None else ()
    if references := right_answers(record, template, chosen):
        notes = {**notes, "references": references}
    return Conversation(record.id, own, record.origin, record.task or (template.task if template else ""), notes, tools)


def right_answers(record: Record, template: Template | None, chosen: Choices) -> list[str]:
    """Every right answer in words, where the row's field `references` holds several: scoring compares with all
    of them. A template words each in place of the field that holds the answer."""
    given = record.fields.get("references") or ()
    if template is not None:
        field = template.answered
        rows = [replace(record, fields={**record.fields, field: one}) for one in given]
        given = [exchange(row, template, chosen)[0][-1].content for row in rows]
    different = list(dict.fromkeys(given))
    return different if len(different) > 1 else []


def write_all(
    records: Sequence[Record],
    template: Template | None,
    seed: int,
    settings: Wording,
    *,
    candidates: Sequence[Record] = (),
    count: Count | None = None,
    choices: Sequence[Choices] | None = None,
) -> Iterator[Conversation]:
    """The rows in words as the settings say, in their order. `candidates` are the kept training rows that
    may be shown as worked examples; `count` (tokens of a text) is needed for a budget of tokens; `choices` are the
    rows' own where they have been made. A row for which no example is left is written without one."""
    pool = gather(candidates, template, seed) if settings.few_shot else None
    if settings.few_shot and settings.shots.most_tokens and count is None:
        raise ValueError("shots.most_tokens needs `count`, which gives the tokens of a text")
    for place, record in enumerate(records):
        chosen = choices[place] if choices is not None else wording(template, record, seed, settings)
        if not pool or not chosen.few_shot:
            yield write(record, template, choices=chosen)
            continue
        reasoned = template is not None and template.phrasings[chosen.phrasing].cot
        drawn = draw(pool, record, settings.shots.tried(), reasoned)
        if count and settings.shots.most_tokens:
            drawn = fitting(record, drawn, template, chosen, settings.shots.most_tokens, count)
        yield write(record, template, exemplars=drawn, choices=chosen)


def fitting(
    record: Record, exemplars: Sequence[Record], template: Template | None, chosen: Choices, most: int, count: Count
) -> tuple[Record, ...]:
    """The exemplars, in their order, that fit a budget of `most` tokens together with the row itself."""
    left = most - sum(count(message.words()) for message in exchange(record, template, chosen)[0])
    kept = []
    for exemplar in exemplars:
        cost = sum(count(message.words()) for message in exchange(exemplar, template, chosen)[0] if message.role != "system")
        if cost <= left:
            kept.append(exemplar)
            left -= cost
    return tuple(kept)


def others(record: Record, exemplars: Sequence[Record], template: Template | None) -> tuple[Record, ...]:
    """The exemplars without the row itself and without rows of the same input."""
    own = asked(record, template)
    return tuple(one for one in exemplars if one.id != record.id and asked(one, template) != own)


def exchange(record: Record, template: Template | None, chosen: Choices) -> tuple[tuple[Message, ...], dict[str, Any]]:
    """The messages of one row, and what to note of them."""
    if template is None:
        return worded(record), {}
    if not 0 <= chosen.phrasing < len(template.phrasings):
        raise RecipeError(
            f"template {template.name!r} has {len(template.phrasings)} phrasings, numbered from 0; there is no {chosen.phrasing}"
        )
    words = template.phrasings[chosen.phrasing]
    values: dict[str, Any] = {"labels": template.labels, **dict.fromkeys(template.optional), **record.fields}
    facts: dict[str, Any] = {}
    reasoning = ""
    if template.rationale:
        reasoning, parted = rationale_of(record, template)
        values.update(parted)
        if words.cot and not reasoning:
            raise DataError(
                f"{record.origin}: phrasing {chosen.phrasing} of template {template.name!r} writes the reasoning, "
                f"and the row has none in field {template.rationale!r}"
            )
    options, place = options_of(record, template, values)
    instruction = fill(words.instruction, values, record, template.name)
    material = fill(words.input, values, record, template.name)
    if options and (template.switch(chosen.phrasing) == "shown" or (template.switch(chosen.phrasing) == "mixed" and chosen.listed)):
        style = STYLES[chosen.style]
        by_letter = chosen.by_letter and style.marked and place is not None
        listing = style.write(options, by_letter)
        facts["listed"] = True
        if place is None:  # the same labels for every row: they stay in what rows share
            instruction = f"{instruction}\n\n{listing}"
        else:
            material = f"{material}\n\n{listing}" if material else listing
            if by_letter:
                values[str(template.answer_field)] = style.letter(place)
                facts["by_letter"] = True
    answer = fill(words.answer, values, record, template.name)
    if words.cot:
        answer = stated(reasoning, answer)
    facts |= kinds(words)
    return (Message("user", instruction, material), Message("assistant", answer)), facts


def kinds(words: Phrasing) -> dict[str, Any]:
    """What to note of a phrasing."""
    return {key: True for key in ("inverts", "cot") if getattr(words, key)}


def options_of(record: Record, template: Template, values: dict[str, Any]) -> tuple[tuple[str, ...], int | None]:
    """A row's options, and the position of the right one where they are the row's own; the values then
    hold the options as texts, and the right one's text as the answer. Raises DataError naming the row."""
    if template.options_field is None or template.answer_field is None:
        return template.labels, None
    given = values.get(template.options_field)
    if given is None or template.answer_field not in values:
        return (), None
    try:
        options = texts(given)
        place = position(values[template.answer_field], options, given)
    except ValueError as error:
        raise DataError(f"{record.origin}: {template.options_field}: {error}") from error
    values[template.options_field] = options
    values[template.answer_field] = options[place]
    return options, place


def inlined(
    own: tuple[Message, ...], examples: Sequence[tuple[Message, ...]], rows: Sequence[Record], chosen: Choices
) -> tuple[Message, ...]:
    """The row's messages with worked examples inside its last question: the instruction once where all
    share it, then question and answer of each example, then the question.

    Raises DataError naming an example of more than one question and answer.
    """
    for turns, row in zip(examples, rows, strict=True):
        if [m.role for m in turns] != ["user", "assistant"]:
            raise DataError(
                f"{row.origin}: a worked example inside one message has one question and one answer; this row has {len(turns)} turns "
                f"(shots: {{style: turns}} takes it)"
            )
    question = next(i for i in reversed(range(len(own))) if own[i].role == "user")
    asking = own[question]
    users = [asking, *(turns[0] for turns in examples)]
    shared = all(user.content == asking.content and user.context for user in users)
    before, after = FRAMES[chosen.frame]

    def framed(user: Message) -> str:
        text = user.context if shared else user.words()
        return text if text.rstrip().endswith(":") else f"{before}{text}{after}"

    parts = [*(f"{framed(turns[0])} {turns[1].words()}" for turns in examples), framed(asking)]
    text = chosen.separator.join(parts)
    message = replace(asking, context=text) if shared else replace(asking, content=text, context="")
    return (*own[:question], message, *own[question + 1 :])
