"""`etude judge`: files of answers before a judge, of a run or of any tool.

The files are those of `etude score --predictions`, each line with its `question` as well; `turns` and `then` for several turns,
`category` and `references` where the judge shall see a right answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from etude import grading, journal, judged_runs, judging
from etude.failures import CheckFailed, DataError, RecipeError, nearest
from etude.judging.agreement import Agreement, agreement
from etude.models import LLMS, LLMSettings
from etude.models.opening import Opened
from etude.scoring import Judge
from etude.screen import Watch, counting

VOTES = ("A", "B", "tie")


def referee(
    first: Path,
    second: Path | None,
    llm: str,
    given: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
    votes: Path | None = None,
    watch: Watch,
) -> dict[str, Any]:
    """Judge one file of answers, or two against each other; returns `Judgement.as_json`, with `votes` where there are any.

    `llm`: see `llm_of`; `given`: settings of `scoring.Judge` as text; `folder`: where verdicts and replies are kept (by default
    `<first>.judged`); `votes`: people's choices (`read_votes`). Raises RecipeError for settings, DataError for files that cannot be judged,
    and CheckFailed where the judge is disqualified, with the same facts.
    """
    name, model = llm_of(llm)
    settings = settings_of(name, {"mode": "pairwise" if second else "single", **(given or {})})
    if settings.mode == "pairwise" and second is None:
        raise RecipeError("mode=pairwise needs two files of answers; one is graded with mode=single")
    if votes is not None and settings.mode != "pairwise":
        raise RecipeError("--votes are about pairs; the mode is single")
    files = [first, *([second] if second else [])]
    names = arm_names(files)
    items = judging.items_of({arm: rows(path) for arm, path in zip(names, files, strict=True)}, settings)
    chosen = read_votes(votes, {item.id for item in items}) if votes else {}
    place = folder or first.with_name(f"{first.name.removesuffix('.gz').removesuffix('.jsonl')}.judged")
    warnings = judging.own_taste(judged_runs.known_as(model), {arm: made_by(path) for arm, path in zip(names, files, strict=True)})
    identity = journal.digest(LLM.dump_python(model, mode="json"))
    with (
        journal.locked(place),
        Opened({name: model}, place / "llm") as llms,
        counting(watch, f"judge: {name}", judging.questions(items, settings), "questions") as progress,
        judging.Asking(
            llms(name),
            identity,
            place / "replies.jsonl",
            how=settings.reply,
            attempts=settings.attempts,
            sampling=settings.sampling,
            told=progress,
        ) as ask,
    ):
        found = judging.judge(items, settings, ask, names, warnings)
        told = llms.facts()
    judging.save(found, place, "judge")
    facts = {**found.as_json(), "folder": str(place), **({"server": told[name]} if name in told else {})}
    if chosen and not found.disqualified:
        facts["votes"] = with_votes(found, chosen).as_json()
    if found.disqualified:
        raise CheckFailed(disqualified_text(facts), facts)
    return facts


LLM: TypeAdapter[Any] = TypeAdapter(Annotated[LLMSettings, LLMS])


def llm_of(text: str) -> tuple[str, Any]:
    """Name and settings of the LLM that a text means: a YAML file with its settings (`type: http`, ...) or with `llms:` of a recipe (one of
    several as FILE#NAME), else a model on this machine as `model:` of a recipe names it. Raises RecipeError."""
    from etude import recipe as recipes

    path, _, wanted = text.partition("#")
    if Path(path).suffix.lower() not in (".yaml", ".yml", ".json"):
        return text, known({"type": "local", "model": text}, text)
    place = Path(path)
    if not place.is_file():
        raise RecipeError(f"--llm {text}: there is no file {path}")
    raw = recipes.parse(place.read_text(encoding="utf-8-sig"), path)
    if "llms" not in raw:
        if wanted:
            raise RecipeError(f"--llm {text}: {path} has no llms:")
        return place.stem, known(raw, path)
    named = raw["llms"] if isinstance(raw["llms"], Mapping) else {}
    if not wanted and len(named) == 1:
        wanted = next(iter(named))
    if wanted not in named:
        hint = nearest(wanted, named) if wanted else f"; say which: {', '.join(f'{path}#{name}' for name in named)}"
        raise RecipeError(f"--llm {text}: {path} has {len(named)} llms{hint}")
    return wanted, known(named[wanted], f"{path}#{wanted}")


def known(raw: Any, where: str) -> Any:
    """Settings of an LLM; raises RecipeError with the place of a fault."""
    try:
        return LLM.validate_python(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise RecipeError(f"--llm {where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def settings_of(llm: str, given: Mapping[str, str]) -> Judge:
    """A judge's settings, given as text; raises RecipeError for what there is not."""
    import yaml

    read: dict[str, Any] = {}
    for key, text in given.items():
        value = yaml.safe_load(text)
        read[key] = text if key in ("rubric", "mode", "references", "reply") else value
        if key == "reference_categories" and isinstance(value, str):
            read[key] = [part.strip() for part in value.split(",")]
    try:
        return Judge(llm=llm, **read)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RecipeError(f"--set {'.'.join(map(str, first['loc']))}: {str(first['msg']).removeprefix('Value error, ')}") from error


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of answers; raises DataError, with file and line, for what cannot be judged."""
    found, lines = grading.read(path, references=False)
    for row in found:
        if not isinstance(row.fields.get("question"), str):
            raise DataError(f"{path}:{lines[row.id]}: 'question' is not there; a judge must know what was asked")
    return [{**row.fields, "id": row.id, "outputs": list(row.outputs), "references": list(row.references)} for row in found]


def arm_names(files: Sequence[Path]) -> tuple[str, ...]:
    """Short names that differ: the file's stem, or its whole path."""
    stems = [path.name.removesuffix(".gz").removesuffix(".jsonl") for path in files]
    if len(files) == 2 and files[0].resolve() == files[1].resolve():
        raise RecipeError(f"{files[0]} cannot be judged against itself")
    return tuple(stems) if len(set(stems)) == len(stems) else tuple(map(str, files))


def made_by(path: Path) -> tuple[str, ...]:
    """What the model of a run's predictions is known by; nothing for other files."""
    manifest = path.resolve().parent.parent / "manifest.json"
    if path.resolve().parent.name != "predictions" or not manifest.is_file():
        return ()
    model = json.loads(manifest.read_text(encoding="utf-8"))["model"]
    return (str(model["name"]), str(model.get("digest", "")))


def read_votes(path: Path, ids: set[str]) -> dict[str, str]:
    """People's choices: JSON Lines of `id` and `vote` (A: the first file's answer, B: the second's, or tie). Raises DataError."""
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    found: dict[str, str] = {}
    for number, row in enumerate(journal.read(path), 1):
        id, vote = str(row.get("id", "")), row.get("vote")
        if vote not in VOTES:
            raise DataError(f"{path}:{number}: 'vote' must be A, B or tie, not {vote!r:.40}")
        if id not in ids:
            raise DataError(f"{path}:{number}: the id {id!r} is not judged here{nearest(id, list(ids)[:1000])}")
        found[id] = vote
    return found


def with_votes(found: judging.Judgement, chosen: Mapping[str, str]) -> Agreement:
    """The judge's verdicts against people's: an item of several turns is won by more than half of its turns' points."""
    own = judging.values("pairwise", found.verdicts)
    said = ["A" if own[id] > 0.5 else "B" if own[id] < 0.5 else "tie" for id in chosen]
    return agreement(said, list(chosen.values()))


# ---- in words --------------------------------------------------------------------------------------


def disqualified_text(facts: Mapping[str, Any]) -> str:
    """Why there is no verdict."""
    return f"the judge {facts['llm']!r} is disqualified, and no score is given: " + "; ".join(facts["disqualified"])


def as_text(facts: Mapping[str, Any]) -> str:
    """What a judge found, for a terminal."""
    key, attacks, scores = facts["standing"]["key"], facts["standing"]["attacks"], facts["scores"]
    lines = [
        f"judge {facts['llm']} ({facts['reply']}): answer key {key['agreement']:.2f} {span(key['interval'])}, "
        f"{sum(map(len, attacks['moved'].values()))} of {attacks['planted']} planted attacks move it"
    ]
    if facts["mode"] == "pairwise":
        lines.append(f"{facts['arms'][0]} against {facts['arms'][1]}: win rate {scores['win_rate']:.3f} {span(scores['interval'])} over "
                     f"{facts['items']:,} items: {scores['wins']} wins, {scores['ties']} ties, {scores['losses']} losses")  # fmt: skip
        orders, level = scores["orders"], scores.get("length_controlled")
        lines.append(
            f"  orders: {orders['asked']} pairs asked twice, {orders['disagree']} disagree and are ties "
            f"({orders['for_a']} for A both times, {orders['for_b']} for B)"
        )
        if level:
            said = (
                f"{level['win_rate']:.3f} {span(level['interval'])}" if level["win_rate"] is not None else f"cannot be told: {level['why']}"
            )
            lines.append(f"  at equal lengths: {said}")
    else:
        for arm, one in scores["arms"].items():
            lost = f"; {one['unreadable']} unreadable count as 1, at most {one['at_most']:.2f}" if one["unreadable"] else ""
            lines.append(f"{arm}: mean grade {one['mean']:.2f} {span(one['interval'])} over {facts['items']:,} items{lost}")
    lines += [f"  {name.removeprefix('by_')}: " + ", ".join(f"{k} {v:.2f}" for k, v in groups.items()) for name, groups in grouped(scores)]
    if "verdict" in scores:
        lines.append(f"  {scores['verdict']}")
    if facts["unreadable"]["questions"]:
        lost = facts["unreadable"]
        lines.append(f"  {lost['questions']} of {lost['of']} replies cannot be read; each counts as {lost['as']}")
    if votes := facts.get("votes"):
        kappa = f", kappa {votes['kappa']:.2f}" if votes["kappa"] is not None else ""
        lines.append(f"  people agree on {votes['share']:.2f} {span(votes['interval'])} of {votes['items']} items{kappa}")
    lines += [f"  warning: {text}" for text in facts["warnings"]]
    asked = f"{facts['asked']:,} questions asked now, {facts['from_journal']:,} known before"
    return "\n".join([*lines, asked + (f"; verdicts: {facts['folder']}" if "folder" in facts else "")])


def grouped(scores: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float]]]:
    """The means by turn and category, of a single arm or a pair."""
    where = scores if "arms" not in scores else next(iter(scores["arms"].values())) if len(scores["arms"]) == 1 else {}
    return [(name, where[name]) for name in ("by_turn", "by_category") if name in where]


def span(ends: Sequence[float]) -> str:
    """An interval."""
    return f"[{ends[0]:.3f}, {ends[1]:.3f}]"
