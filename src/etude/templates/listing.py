"""What `etude templates` prints: which there are, and every phrasing of one filled with its example."""

from __future__ import annotations

from typing import Any

from etude.failures import RecipeError
from etude.records import Conversation, Origin, Record, identify
from etude.templates.choices import Choices
from etude.templates.template import Template, load, names
from etude.templates.writing import write


def listed() -> list[dict[str, Any]]:
    """Every built-in template in a few facts, sorted by name."""
    return [facts(load(name)) for name in names()]


def facts(template: Template) -> dict[str, Any]:
    """A template in a few facts; `inverted` and `cot` count phrasings."""
    return {
        "name": template.name,
        "task": template.task,
        "about": template.about,
        "fields": list(template.fields),
        "optional": list(template.optional),
        "phrasings": len(template.forward()),
        "inverted": len(template.phrasings) - len(template.forward()),
        "cot": sum(phrasing.cot for phrasing in template.phrasings),
        "labels": list(template.labels),
        "metrics": list(template.metrics),
    }


def example_of(template: Template) -> Record:
    """The template's example as a row; raises RecipeError where it has none."""
    if not template.example:
        raise RecipeError(f"template {template.name}: it has no `example:` to fill its phrasings with; give one value for each field")
    return Record(identify(template.example), template.example, Origin(f"example of {template.name}"), "", template.task)


def shown(name: str) -> dict[str, Any]:
    """One template with every phrasing filled; options that a phrasing leaves open are listed, each
    phrasing in another style. Raises RecipeError for an unknown name or a template without an example."""
    template = load(name)
    record = example_of(template)
    label = str(record.fields.get(template.label_field)) if template.label_field else ""
    if label and not template.labels:
        template = template.model_copy(update={"labels": (label, "...")})
    phrasings = []
    for number, phrasing in enumerate(template.phrasings):
        written = write(record, template, choices=Choices(number, style=number % 4))
        kinds = [word for word, is_so in (("inverts", phrasing.inverts), ("cot", phrasing.cot)) if is_so]
        switch = [f"options {template.switch(number)}"] if template.choices() and not phrasing.inverts else []
        phrasings.append({"number": number, "kinds": [*kinds, *switch], **told(written)})
    return {**facts(load(name)), "notes": dict(template.notes), "rename": dict(template.rename), "filled": phrasings}


def told(written: Conversation) -> dict[str, str]:
    """What is asked and answered."""
    return {"asked": written.messages[0].words(), "answer": written.answer()}


def as_text(found: list[dict[str, Any]] | dict[str, Any]) -> str:
    """For people to read."""
    if isinstance(found, dict):
        return one_as_text(found)
    lines = []
    for row in found:
        counts = f"{row['phrasings']} phrasings" + "".join(f", {row[key]} {key}" for key in ("inverted", "cot") if row[key])
        fields = ", ".join([*row["fields"], *(f"[{field}]" for field in row["optional"])])
        labels = f"\n  labels   {', '.join(row['labels'])}" if row["labels"] else ""
        lines.append(
            f"{row['name']}: {row['about']}\n  fields   {fields}{labels}\n  words    {counts}\n  metrics  {', '.join(row['metrics'])}"
        )
    return "\n".join([*lines, "\n[field]: optional. `etude templates NAME` shows a template's phrasings."])


def one_as_text(found: dict[str, Any]) -> str:
    """One template for people to read."""
    fields = [*found["fields"], *(f"[{field}]" for field in found["optional"])]
    width = max(map(len, fields))
    lines = [f"{found['name']}: {found['about']}", ""]
    lines += [f"  {field:{width}}  {found['notes'].get(field.strip('[]'), '')}".rstrip() for field in fields]
    if found["labels"]:
        lines += ["", f"labels: {', '.join(found['labels'])}"]
    lines += [f"metrics: {', '.join(found['metrics'])}"]
    for phrasing in found["filled"]:
        kinds = f" ({', '.join(phrasing['kinds'])})" if phrasing["kinds"] else ""
        asked = phrasing["asked"].replace("\n", "\n    ")
        answer = phrasing["answer"].replace("\n", "\n    ")
        lines += ["", f"phrasing {phrasing['number']}{kinds}", f"    {asked}", f"  > {answer}"]
    return "\n".join(lines)
