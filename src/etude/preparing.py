"""From the recipe's sources to rows: read, refuse what is bad, split, put into words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from etude import journal, scoring, templates
from etude.catalog import Settings
from etude.failures import DataError, RecipeError
from etude.formats.training_turns import choose_trained
from etude.metrics import METRICS, Metric, needs, reads_outputs
from etude.mixing import Mixed, even_phrasings, mix, words_of
from etude.models import Sampling
from etude.recipe import Recipe
from etude.records import BadRow, Conversation, Fate, Origin, Record
from etude.scoring import Task
from etude.sources import Source
from etude.splitting import Parts, Predefined, leaks, refuse_leaks, split

PLAIN_METRICS = ("rougeL", "bleu", "chrf", "exact_match")
"""What is measured on a source without a template."""

CARRIED = (
    "prompt",
    "test",
    "entry_point",
    "test_list",
    "test_setup_code",
    "test_imports",
    "instruction_id_list",
    "kwargs",
    "category",
    "language",
    "turn_references",
)
"""Fields of a row that metrics read: programs' tests (HumanEval, MBPP), verifiable instructions (IFEval), a question's kind (MT-bench)."""

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Data:
    """The rows of every source after the split, and what became of the others."""

    parts: Mapping[str, Parts]
    bad: tuple[tuple[str, BadRow], ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)

    def counts(self) -> list[dict[str, Any]]:
        """Numbers a source, as the report shows them."""
        rows = []
        for name, part in self.parts.items():
            bad = sum(1 for source, _ in self.bad if source == name)
            used = len(part.train) + len(part.validation) + len(part.test)
            dropped = Counter(fate.reason for fate in part.fates)
            read = used + sum(dropped.values()) + bad
            sizes = {"train": len(part.train), "validation": len(part.validation), "test": len(part.test)}
            rows.append({"name": name, "read": read, "bad": bad, **sizes, "dropped": dict(dropped)})
        return rows


def inputs(recipe: Recipe) -> dict[str, str]:
    """Every input file of the recipe with its SHA-256, for the manifest and the digests."""
    found: dict[str, str] = {}
    for source in recipe.sources.values():
        for one in (source, *predefined(recipe, source).values()):
            found.update(one.inputs())
    return found


def predefined(recipe: Recipe, source: Source) -> dict[str, Source]:
    """The sources of predefined test and validation files: this source's settings at another path."""
    chosen = {}
    for part in ("test", "validation"):
        given = getattr(recipe.split, part)
        if isinstance(given, Predefined):
            if "path" not in type(source).model_fields:  # type: ignore[attr-defined]
                raise RecipeError(f"split.{part}.path: only sources with a path can have a {part} file")
            chosen[part] = with_settings(source, {"limit": None, **given.settings, "path": given.path}, f"split.{part}.settings")
    return chosen


def with_settings(source: Source, given: Mapping[str, Any], where: str) -> Source:
    """The source with other settings; raises RecipeError naming the one that is wrong."""
    kind: Any = type(source)
    try:
        found: Source = kind.model_validate({**source.model_dump(), **given})  # type: ignore[attr-defined]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RecipeError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return found


def read(recipe: Recipe) -> Data:
    """Read and split every source; raises DataError beyond `max_bad_rows`, naming the first bad rows."""
    parts, bad = {}, []
    for name, source in recipe.sources.items():
        rows, refused = separate(source, name)
        given: dict[str, list[Record]] = {}
        for part, other in predefined(recipe, source).items():
            given[part], more = separate(other, name)
            refused += more
        bad += [(name, row) for row in refused]
        if len(bad) > recipe.max_bad_rows:
            raise DataError(refusal(bad, recipe.max_bad_rows))
        if not rows:
            raise DataError(f"sources.{name}: no row is left to use{' (see `where`)' if getattr(source, 'where', None) else ''}")
        try:
            parts[name] = split(rows, recipe.split, **given)
        except DataError as error:
            raise DataError(f"sources.{name}: {error}") from error
    refuse_leaks(leaks(parts, group=recipe.split.group))
    return Data(parts, tuple(bad), inputs(recipe))


def separate(source: Source, name: str) -> tuple[list[Record], list[BadRow]]:
    """The good and the bad rows of one source."""
    good: list[Record] = []
    bad: list[BadRow] = []
    for row in source.read(name):
        good.append(row) if isinstance(row, Record) else bad.append(row)
    return good, bad


def refusal(bad: Sequence[tuple[str, BadRow]], most: int) -> str:
    """Why the run stops at bad rows."""
    shown = "\n".join(f"  {row.origin}: {row.reason}" for _, row in bad[:10])
    more = f"\n  ... and {len(bad) - 10} more" if len(bad) > 10 else ""
    return f"{len(bad)} rows cannot be used (max_bad_rows is {most}):\n{shown}{more}"


def template_of(recipe: Recipe, name: str) -> templates.Template | None:
    """The template that words a source's rows, or None for rows that are worded already."""
    if name in recipe.generate:
        strategy = recipe.generate[name]
        if own := getattr(strategy, "template", None):
            return templates.load(own)
        return template_of(recipe, strategy.rows) if strategy.rows and strategy.keeps_fields else None
    source = recipe.sources[name]
    return templates.load(source.template, getattr(source, "labels", {}).values()) if source.template else None


def asked(recipe: Recipe, data: Data, task: Task, shots: int | None = None) -> list[Conversation]:
    """A task's questions as every arm is asked them, after `shots` worked training rows (the task's own number by default).

    Raises RecipeError for worked rows where there is none.
    """
    count = task.few_shot if shots is None else shots
    train = data.parts[task.task].train
    if count and not train:
        raise RecipeError(f"score: {task.task!r} has no training row to show as an example; set few_shot to 0, or give training rows")
    template = template_of(recipe, task.task)
    chosen = templates.pick_exemplars(train, count, recipe.seed, template) if count else ()
    records = held_out(data, task)
    rows = worded(recipe, task.task, records, chosen, task.cot)
    return [replace(c, notes={**c.notes, **beside(record, template)}) for c, record in zip(rows, records, strict=True)]


def beside(record: Record, template: templates.Template | None) -> dict[str, Any]:
    """What scoring must know of a row besides its question and references: its `choices`, its further turns (`then`), and the `fields` that
    a metric of programs or of verifiable instructions reads."""
    found: dict[str, Any] = {}
    if template and template.options_field and record.fields.get(template.options_field):
        found["choices"] = list(templates.texts(record.fields[template.options_field]))
    if then := record.fields.get("then"):
        found["then"] = list(then)
    if kept := {name: record.fields[name] for name in CARRIED if name in record.fields}:
        found["fields"] = kept
    return found


def worded(
    recipe: Recipe, name: str, records: Sequence[Record], exemplars: Sequence[Record] = (), cot: bool | None = None
) -> list[Conversation]:
    """Rows of one source in words as they are scored: the phrasing by the recipe and the row's id, `exemplars` as earlier turns,
    with their reasoning or without (`cot`; None: as the recipe says)."""
    template, settings = template_of(recipe, name), recipe.wording.scored()
    if cot is not None:
        settings = settings.model_copy(update={"cot": float(cot)})
    chosen = [templates.wording(template, record, recipe.seed, settings) for record in records]
    return [templates.write(record, template, exemplars=exemplars, choices=one) for record, one in zip(records, chosen, strict=True)]


def drawn(recipe: Recipe, data: Data) -> Mixed:
    """The training rows as the mixture draws them, in its order."""
    used = {name: template_of(recipe, name) for name in data.parts}
    words = {name: words_of(recipe.mixture, name, recipe.wording) for name in data.parts}

    def reasoned(source: str, record: Record) -> bool:
        template = used[source]
        return template is not None and template.phrasings[templates.wording(template, record, recipe.seed, words[source]).phrasing].cot

    return mix({name: parts.train for name, parts in data.parts.items()}, recipe.mixture, recipe.seed, reasoned=reasoned)


def training(recipe: Recipe, data: Data, mixed: Mixed, count: templates.Count | None = None) -> list[Conversation]:
    """The drawn rows in words, in their order, with the turns that are trained settled. `count` gives the tokens of a text, for
    worked examples within a budget."""
    written: dict[str, Iterator[Conversation]] = {}
    for name, parts in data.parts.items():
        template, settings = template_of(recipe, name), words_of(recipe.mixture, name, recipe.wording)
        own = [one for one in mixed.order if one.source == name]
        choices = [templates.wording(template, one.record, recipe.seed, settings) for one in own]
        if recipe.mixture.even_phrasings and template:
            choices = even_phrasings(template, own, choices, settings, recipe.seed)
        shown = parts.train if settings.few_shot else ()
        given = [one.record for one in own]
        written[name] = templates.write_all(given, template, recipe.seed, settings, candidates=shown, count=count, choices=choices)
    found = []
    for one in mixed.order:
        conversation = choose_trained(next(written[one.source]), recipe.train_on)
        weight = {} if one.weight == 1 else {"weight": one.weight}
        found.append(replace(conversation, notes={**conversation.notes, "source": one.source, **weight}))
    return found


def validating(recipe: Recipe, data: Data) -> list[Conversation]:
    """The validation rows of all sources, worded as scored ones are."""
    rows = [(f"{name}, validation", c) for name, parts in data.parts.items() for c in worded(recipe, name, parts.validation)]
    return [choose_trained(replace(c, notes={**c.notes, "source": name}), recipe.train_on) for name, c in rows]


def held_out(data: Data, task: Task) -> list[Record]:
    """The rows a task asks, the smallest ids (hashes) first when there is a limit.

    Raises RecipeError when the task's split is empty.
    """
    records = list(getattr(data.parts[task.task], task.split))
    if not records:
        raise RecipeError(f"score: {task.task!r} has no {task.split} rows; set split.{task.split}")
    return sorted(records, key=lambda r: r.id)[: task.limit]


def metrics_of(recipe: Recipe, task: Task) -> tuple[Metric, ...]:
    """The task's metrics, primary first: as given, else what its template suggests; those that need a
    label set and have none get the template's."""
    template = template_of(recipe, task.task)
    names = template.metrics if template and template.metrics else PLAIN_METRICS
    chosen = task.metrics if task.metrics is not None else tuple(METRICS.find(name)() for name in names)
    labels = template.labels if template else ()
    return tuple(with_labels(metric, labels) for metric in chosen)


def needed(recipe: Recipe, task: Task) -> frozenset[str]:
    """Which log-probabilities the task's metrics read; with "outputs" where one reads answers (or there is no metric)."""
    metrics = metrics_of(recipe, task)
    found = {key for metric in metrics for key in needs(metric) if key in scoring.LOGPROBS}
    return frozenset(found | ({"outputs"} if not metrics or task.judge or any(reads_outputs(metric) for metric in metrics) else set()))


def labels_of(recipe: Recipe, data: Data, task: Task) -> list[str]:
    """The labels of a closed task: its template's, else those of its training rows."""
    template = template_of(recipe, task.task)
    if template and template.labels:
        return list(template.labels)
    return sorted({c.answer() for c in worded(recipe, task.task, data.parts[task.task].train)})


def with_labels(metric: Metric, labels: Sequence[str]) -> Metric:
    """The metric with the task's label set, where it takes one and has none."""
    if labels and isinstance(metric, Settings) and getattr(metric, "labels", None) == ():
        return metric.model_copy(update={"labels": tuple(labels)})
    return metric


def sampling_of(recipe: Recipe, task: Task) -> Sampling:
    """How the task's answers are drawn: as given, else greedily, as long as its template suggests."""
    if task.sampling is not None:
        return task.sampling
    template = template_of(recipe, task.task)
    return Sampling(max_new_tokens=template.max_new_tokens if template else 256)


def baselines_of(recipe: Recipe, task: Task) -> tuple[str, ...]:
    """The task's baselines: as given, else all that fit; raises RecipeError for one that cannot be."""
    template = template_of(recipe, task.task)
    labelled = bool(template and template.labels)
    for metric in task.metrics or ():
        if (k := getattr(metric, "k", 1)) > sampling_of(recipe, task).n:
            raise RecipeError(f"score: pass@{k} needs {k} answers a row; set sampling.n of {task.task!r} to {k} or more")
    if task.baselines is None:
        own = template.baselines if template else ()
        if recipe.split.test == "all":
            return tuple(name for name in own if name in ("copy", "lead"))
        return own or (("majority", "few_shot", "constrained") if labelled else ("few_shot",))
    for name in task.baselines:
        if name in ("majority", "constrained", "tfidf") and not labelled:
            raise RecipeError(f"score: baseline {name!r} needs a template with a label set, and {task.task!r} has none")
    return task.baselines


# ---- on disk ---------------------------------------------------------------------------------------


def write(data: Data, folder: Path) -> None:
    """Write {train,validation,test}.jsonl and dropped.jsonl into `folder`."""
    for part in PARTS:
        rows = (as_row(record) for parts in data.parts.values() for record in getattr(parts, part))
        journal.write_rows(folder / f"{part}.jsonl", rows)
    bad = [
        {"source": name, "path": row.origin.path, "line": row.origin.line, "reason": f"bad row: {row.reason}", "text": row.text[:500]}
        for name, row in data.bad
    ]
    left = [
        {**as_row(record), "reason": fate.reason, "of": fate.of}
        for parts in data.parts.values()
        for record, fate in zip(parts.dropped, parts.fates, strict=True)
    ]
    journal.write_rows(folder / "dropped.jsonl", [*bad, *left])


def as_row(record: Record) -> dict[str, Any]:
    """A Record as a JSON line."""
    origin = {"path": record.origin.path, "line": record.origin.line, "licence": record.origin.licence}
    return {"id": record.id, "source": record.source, "task": record.task, "fields": dict(record.fields), "origin": origin}


def stored(folder: Path, recipe: Recipe) -> Data:
    """The rows as `write` left them in `folder`."""
    found: dict[str, dict[str, list[Record]]] = {name: {"train": [], "validation": [], "test": []} for name in recipe.data_names()}
    for part in PARTS:
        for row in journal.read(folder / f"{part}.jsonl"):
            found[row["source"]][part].append(as_record(row))
    left: dict[str, list[tuple[Record, Fate]]] = {name: [] for name in recipe.data_names()}
    bad = []
    for row in journal.read(folder / "dropped.jsonl"):
        if "id" in row:
            left[row["source"]].append((as_record(row), Fate.drop(row["id"], row["reason"], row["of"])))
        else:
            bad.append((row["source"], BadRow(Origin(row["path"], row["line"]), row["reason"].removeprefix("bad row: "), row["text"])))
    parts = {
        name: Parts(
            tuple(rows["train"]),
            tuple(rows["validation"]),
            tuple(rows["test"]),
            tuple(record for record, _ in left[name]),
            tuple(fate for _, fate in left[name]),
        )
        for name, rows in found.items()
    }
    return Data(parts, tuple(bad), inputs(recipe))


def as_record(row: Mapping[str, Any]) -> Record:
    """A JSON line as the Record it was."""
    return Record(row["id"], row["fields"], Origin(**row["origin"]), row["source"], row["task"])


def grouped(records: Sequence[Record], field: str | None) -> int:
    """In how many groups test rows come; 0 where each stands for itself."""
    if field is None or any(record.fields.get(field) is None for record in records):
        return 0
    count = len({str(record.fields[field]) for record in records})
    return count if count < len(records) else 0
