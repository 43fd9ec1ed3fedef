"""What each stage's output depends on, as a SHA-256: a stage done for the same digest, here or in another run, is not done again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from etude import curating, journal, preparing
from etude.models import answering
from etude.models.weights import Weights, is_encoder_decoder
from etude.recipe import Recipe, llms_of
from etude.steps import LOSS

VERSION = {"data": 2, "generated": 1, "curated": 1, "encoded": 1, "start": 2, "baselines": 1, "tune": 4, "tuned": 2, "judged": 1}
"""Raised for a stage when its code changes its output, so that older output is not reused."""


def of(stage: str, recipe: Recipe, sections: Sequence[str], inputs: object) -> str:
    """A stage's version, its sections of the recipe, its inputs."""
    values = recipe.dump()
    return journal.digest([stage, VERSION[stage], {s: values[s] for s in sections}, inputs])


def data(recipe: Recipe) -> str:
    """Rows read and split: the sources' settings and every file's content."""
    return of("data", recipe, ("sources", "split", "max_bad_rows"), preparing.inputs(recipe))


def answering_as(recipe: Recipe, name: str, start: Weights) -> str:
    """What decides an LLM's answers: the start model's weights, or the settings that name a model and what it is sent."""
    if name in recipe.llms:
        return journal.digest(answering(recipe.dump()["llms"][name]))
    return journal.digest([start.digest, recipe.format.model_dump(mode="json")])  # type: ignore[attr-defined]


def generated(recipe: Recipe, start: Weights, read: str) -> str:
    """Rows that models made."""
    models = {name: answering_as(recipe, name, start) for strategy in recipe.generate.values() for name in llms_of(strategy)}
    files = [strategy.inputs() for strategy in recipe.generate.values() if hasattr(strategy, "inputs")]
    return of("generated", recipe, ("generate", "seed"), [read, templates_of(recipe), models, files])


def curated(recipe: Recipe, start: Weights, read: str) -> str:
    """Rows rewritten and checked; the model only where a check asks it or counts its tokens."""
    model = start.digest if any(curating.asks(check) or curating.counts_tokens(check) for check in recipe.curate) else ""
    asking = any(curating.asks(check) for check in recipe.curate)
    llms = {name: answering_as(recipe, name, start) for name in recipe.llms} if asking else {}
    return of("curated", recipe, ("rewrite", "rewrite_evaluation", "curate"), [read, templates_of(recipe), model, llms])


def encoded(recipe: Recipe, start: Weights, curated: str) -> str:
    """Rows as token ids."""
    tune = recipe.tune
    limits = [tune.max_tokens, tune.truncation, *([tune.max_target_tokens] if is_encoder_decoder(start.folder) else [])]
    return of("encoded", recipe, ("seed", "wording", "train_on", "mixture"), [words_of(recipe, start), curated, limits])


def asked(recipe: Recipe, start: Weights, read: str) -> list[Any]:
    """What every arm is asked: rows, words and decoding, but not the metrics."""
    return [words_of(recipe, start), asking(recipe), read, recipe.dump()["rewrite"] if recipe.rewrite_evaluation else []]


def start(recipe: Recipe, asked: object) -> str:
    """The start model's answers."""
    return of("start", recipe, ("probes", "seed", "wording", "forgetting"), [asked, shown(recipe)])


def baselines(recipe: Recipe, asked: object, curated: str) -> str:
    """The baselines' answers. Of training rows only they know: another curation asks the start model nothing again."""
    chosen = [[list(preparing.baselines_of(recipe, task)), task.shots] for task in recipe.tasks()]
    return of("baselines", recipe, ("seed", "wording"), [asked, curated, chosen])


def tune(recipe: Recipe, encoded: str) -> str:
    """The tuned weights. What training asks on the way counts where it decides which step is best; where its numbers are sent does not."""
    section = {key: value for key, value in recipe.dump()["tune"].items() if key not in ("trackers", "seed")}
    watched = asking(recipe) if recipe.tune.best_by != LOSS else []
    return of("tune", recipe, (), [encoded, section, watched, recipe.training_seed()])


def tuned(recipe: Recipe, asked: object, tune: str) -> str:
    """The tuned model's answers."""
    return of("tuned", recipe, ("probes", "forgetting"), [tune, asked])


def judged(recipe: Recipe, start: Weights, tuned: str) -> str:
    """The judges' verdicts. `tuned`: the digest of the tuned model's answers, which stands for the start model's, too."""
    judges = [(task.task, task.split, task.judge) for task in recipe.tasks() if task.judge is not None]
    told = [[name, split, judge.model_dump(mode="json"), answering_as(recipe, judge.llm, start)] for name, split, judge in judges]
    return of("judged", recipe, (), [tuned, told])


def asking(recipe: Recipe) -> list[Any]:
    """What the answers to the tasks depend on: of the metrics only which log-probabilities they need."""
    return [
        [
            task.model_dump(mode="json", exclude={"metrics", "judge", "baselines", "shots"}),
            preparing.sampling_of(recipe, task).model_dump(mode="json"),
            sorted(preparing.needed(recipe, task)),
        ]
        for task in recipe.tasks()
    ]


def shown(recipe: Recipe) -> Any:
    """What decides which training rows stand as examples before the questions, where any do."""
    values = recipe.dump()
    return [values["curate"], values["rewrite"]] if any(task.few_shot for task in recipe.tasks()) else []


def words_of(recipe: Recipe, start: Weights) -> list[Any]:
    """What a row's words and markup depend on besides the row."""
    return [start.digest, templates_of(recipe), recipe.format.model_dump(mode="json")]  # type: ignore[attr-defined]


def templates_of(recipe: Recipe) -> list[Any]:
    """The templates in use, as data."""
    found = [preparing.template_of(recipe, name) for name in recipe.data_names()]
    return [template.model_dump(mode="json") for template in found if template]
