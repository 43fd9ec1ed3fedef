"""The tune section, and its pure functions: which rows a step holds, its learning rate, when it is evaluated, which step is best."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from etude import seeds
from etude.catalog import Settings, note
from etude.records import Encoded
from etude.tunings import TUNINGS, Tuning
from etude.tunings.lora import Lora

LOSS = "validation_loss"
"""The measure that decides which step is best, unless `tune.best_by` names a metric."""

LOWER = ("loss", "perplexity", "ter", "bits_per_token", "error")
"""A measure whose name ends so is better the lower it is."""

Tracker = Literal["tensorboard", "trackio", "wandb", "mlflow"]

VALUES: Mapping[str, Mapping[str, str]] = {
    "schedule": {
        "constant_with_warmup": "constant",
        "warmup_stable_decay": "wsd",
        "cosine_with_min_lr": "cosine",
        "cosine_warmup_with_min_lr": "cosine",
    },
    "optimizer": {
        "adamw_torch": "adamw",
        "adamw_torch_fused": "adamw",
        "adamw_hf": "adamw",
        "adamw_bnb_8bit": "adamw_8bit",
        "adamw8bit": "adamw_8bit",
    },
    "best_by": {"loss": LOSS, "eval_loss": LOSS},
}
"""What other tools call the values of these settings."""


class Tune(Settings):
    """How the model is tuned."""

    spellings: ClassVar[Mapping[str, str]] = {
        "lr": "learning_rate",
        "num_train_epochs": "epochs",
        "num_epochs": "epochs",
        "max_seq_length": "max_tokens",
        "max_source_length": "max_tokens",
        "max_input_length": "max_tokens",
        "max_target_length": "max_target_tokens",
        "max_length": "max_tokens",
        "cutoff_len": "max_tokens",
        "sequence_len": "max_tokens",
        "lr_scheduler_type": "schedule",
        "lr_scheduler": "schedule",
        "warmup_ratio": "warmup",
        "warmup_steps": "warmup",
        "min_lr": "min_learning_rate",
        "num_decay_steps": "decay",
        "optim": "optimizer",
        "adam_epsilon": "epsilon",
        "max_grad_norm": "clip",
        "gradient_clipping": "clip",
        "batch_size": "rows_per_step",
        "neftune_noise_alpha": "neftune_alpha",
        "noise_alpha": "neftune_alpha",
        "label_smoothing_factor": "label_smoothing",
        "use_gradient_checkpointing": "gradient_checkpointing",
        "activation_checkpointing": "gradient_checkpointing",
        "torch_compile": "compile",
        "metric_for_best_model": "best_by",
        "greater_is_better": "higher_is_better",
        "early_stopping_patience": "patience",
        "early_stopping_threshold": "least_gain",
        "save_total_limit": "keep_last",
        "report_to": "trackers",
        "logging_steps": "log_every",
        "save_steps": "save_every",
        "peft": "method",
        "finetuning_type": "method",
        "adapter": "method",
    }

    method: Annotated[Tuning, TUNINGS] = Lora()
    """Which weights learn."""
    seed: int | None = None
    """Seed of the order of rows, new weights, dropout and noise; by default the recipe's. Runs that differ in it alone share all
    that comes before training, and the start model's answers."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; by default the method's own."""
    epochs: Annotated[float, Field(gt=0)] = 1
    """Passes over the training rows; a fraction is allowed."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many optimizer steps; `epochs`, `max_steps` and `token_budget`: whichever is reached first ends the run."""
    token_budget: Annotated[int, Field(ge=1)] | None = None
    """Stop with the row that makes it this many tokens in all (counted unpacked, every epoch anew)."""
    tokens_per_step: Annotated[int, Field(ge=1)] = 4096
    """A step takes rows in order until it holds this many tokens (counted unpacked)."""
    rows_per_step: Annotated[int, Field(ge=1)] | None = None
    """A step takes this many rows instead."""
    max_tokens: Annotated[int, Field(ge=8)] = 1024
    """Longest row in tokens; of an encoder-decoder, longest source (FLAN's is 1,024 too; Wei et al. 2021)."""
    max_target_tokens: Annotated[int, Field(ge=1)] = 256
    """Longest answer of an encoder-decoder in tokens, its end included (FLAN's); a row with a longer one is dropped with a reason."""
    truncation: Literal["cut_middle", "cut_start", "cut_end", "drop", "refuse"] = "cut_middle"
    """What happens to a longer row: the middle of its prompt is cut, or its start or end; it is dropped with a reason, or the run
    is refused. Never is anything of an answer cut."""
    pack_tokens: Annotated[int, Field(ge=1)] = 1024
    """Tokens of one forward pass. Never changes the loss, only speed and memory."""
    share_prefix: bool | None = None
    """Compute tokens that rows share at the start once a pack. Exact only without dropout and noise, so by default it is
    on without them and off with them; `true` shares a prefix (and its dropped units, and its noise) even then."""
    schedule: Literal["cosine", "linear", "constant", "wsd", "inverse_sqrt"] = "cosine"
    """How the learning rate falls after the warm-up; `wsd` stays at the peak and falls in the last `decay` steps."""
    warmup: Annotated[float, Field(ge=0)] = 0.03
    """Steps of linear warm-up, or below 1 a share of all steps."""
    decay: Annotated[float, Field(gt=0)] = 0.2
    """`wsd`: steps of the fall at the end, or below 1 a share of all steps."""
    decay_shape: Literal["sqrt", "linear", "cosine"] = "sqrt"
    """`wsd`: how it falls; `sqrt` is 1 - sqrt(share done), which Haegele et al. 2024 (arXiv 2405.18392) found best, over 20 %
    of the steps."""
    min_learning_rate: Annotated[float, Field(ge=0)] = 0.0
    """What the learning rate falls to."""
    optimizer: Literal["adamw", "adafactor", "adamw_8bit"] = "adamw"
    """`adafactor` keeps a row and a column of second moments instead of a matrix (its step size is `learning_rate`, never
    its own); `adamw_8bit` (bitsandbytes) keeps both moments in 8 bit, on GPUs."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay."""
    undecayed: tuple[Literal["biases", "norms", "embeddings"], ...] = ("biases", "norms")
    """Weights that are not decayed, by the kind of their module; other vectors never are."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the two moments."""
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """AdamW's smallest divisor."""
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest norm of a step's gradient; null (or 0) does not clip."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each target's probability that is spread over the whole vocabulary; the validation loss is always without."""
    neftune_alpha: Annotated[float, Field(gt=0)] | None = None
    """NEFTune (Jain et al. 2023, arXiv 2310.05914): uniform noise of at most alpha / sqrt(length x width) on the embeddings, in
    training only, with each row's own length; the paper has 5, 10 and 15."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout inside the model itself, where its architecture has some; by default as its config says."""
    gradient_checkpointing: bool = False
    """Compute activations again on the way back instead of keeping them: the same loss, less memory, about a third more time."""
    compile: bool = False
    """torch.compile, on GPUs."""
    evaluate_every: Annotated[int, Field(ge=1)] | Literal["epoch", "never"] = "epoch"
    """When the validation loss is measured: every so many steps, after each epoch, or never."""
    metrics_every: Annotated[int, Field(ge=1)] | Literal["evaluation", "never"] = "never"
    """When the tasks' metrics are measured on answers that the model generates: every so many steps, with each validation
    loss, or never; and once before the first step."""
    metrics_rows: Annotated[int, Field(ge=1)] = 50
    """Validation rows of each task that are answered for that."""
    best_by: str = LOSS
    """What decides which step's weights are kept and when to stop early: the validation loss, or a metric as `<task>.<metric>`."""
    higher_is_better: bool | None = None
    """Whether more of it is better; by default no for losses, perplexity and error rates, else yes."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many measurements without a better one."""
    least_gain: Annotated[float, Field(ge=0)] = 0.0
    """A measurement must be better by more than this for patience to start anew."""
    save_every: Annotated[int, Field(ge=1)] | None = None
    """Write a checkpoint every so many steps, besides those at evaluations."""
    keep_last: Annotated[int, Field(ge=1)] = 1
    """Newest checkpoints that stay on disk, beside the best one."""
    log_every: Annotated[int, Field(ge=1)] = 1
    """Steps between lines of metrics.jsonl."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Arithmetic of the forward pass. On CPUs without fast bfloat16, float32 is the fastest; float16 is for GPUs."""
    trackers: dict[Tracker, dict[str, Any]] = Field(default_factory=dict)
    """Where the numbers of metrics.jsonl are also sent, by accelerate's trackers, with the settings of each (`wandb: {mode: offline}`);
    a list of names will do. Nothing is sent unless a name stands here."""

    @field_validator("schedule", "optimizer", "best_by", mode="before")
    @classmethod
    def known_elsewhere(cls, given: Any, info: Any) -> Any:
        """Other tools' names of schedules, optimizers and the loss."""
        modern = VALUES[info.field_name].get(given) if isinstance(given, str) else None
        if modern:
            note(f"{info.field_name}: {given!r} is called {modern!r} here")
        return modern or given

    @field_validator("clip", mode="before")
    @classmethod
    def zero_is_off(cls, given: Any) -> Any:
        """0 means no clipping in other tools."""
        return None if given in (0, 0.0) and given is not False else given

    @field_validator("trackers", mode="before")
    @classmethod
    def by_name(cls, given: Any) -> Any:
        """One name, a list of names, or names with settings; `none` as other tools write it."""
        if given is None or given == "none":
            return {}
        if given in ("all", ["all"]):
            raise ValueError("name the trackers: tensorboard, trackio, wandb, mlflow")
        names = [given] if isinstance(given, str) else given
        return {name: {} for name in names if name != "none"} if isinstance(names, list | tuple) else names

    @model_validator(mode="after")
    def fits_together(self) -> Self:
        """Refuse what cannot be meant."""
        peak = self.learning_rate or self.method.default_learning_rate
        if self.min_learning_rate > peak:
            raise ValueError(f"min_learning_rate {self.min_learning_rate:g} is above the learning rate {peak:g}")
        if self.patience and self.measures_at() == "never":
            raise ValueError(f"patience needs {self.best_by} to be measured, and it never is (evaluate_every, metrics_every)")
        for tracker, chosen in self.trackers.items():
            secret = next((key for key in chosen if any(word in key.lower() for word in ("key", "token", "password", "secret"))), None)
            if secret:
                raise ValueError(f"trackers.{tracker}.{secret}: a recipe holds no secrets; {tracker} reads it from the environment")
        return self

    def measures_at(self) -> int | str:
        """When what decides about the best step is measured: `evaluate_every`, or for a metric `metrics_every`."""
        if self.best_by == LOSS:
            return self.evaluate_every
        return self.evaluate_every if self.metrics_every in ("never", "evaluation") else self.metrics_every

    def higher(self) -> bool:
        """Whether more of `best_by` is better."""
        return not self.best_by.lower().endswith(LOWER) if self.higher_is_better is None else self.higher_is_better


def plan_steps(rows: Sequence[Encoded], tune: Tune, seed: int) -> list[list[int]]:
    """The rows of every step, as indices. A pure function of its arguments.

    Each epoch is a permutation of its own; a step may reach from one epoch into the next, so only
    the very last step can be smaller than the others.
    """
    wanted = math.ceil(len(rows) * tune.epochs)
    steps: list[list[int]] = []
    step: list[int] = []
    tokens = seen = 0
    for index in ordered(len(rows), wanted, seed):
        length = len(rows[index].ids)
        full = len(step) >= tune.rows_per_step if tune.rows_per_step else tokens + length > tune.tokens_per_step
        if step and full:
            steps.append(step)
            step, tokens = [], 0
            if tune.max_steps and len(steps) >= tune.max_steps:
                return steps
        step.append(index)
        tokens += length
        seen += length
        if tune.token_budget and seen >= tune.token_budget:
            break
    return [*steps, step] if step else steps


def ordered(count: int, wanted: int, seed: int) -> Iterator[int]:
    """`wanted` row indices, epoch after epoch, each epoch in an order of its own."""
    for epoch in range(math.ceil(wanted / max(count, 1))):
        for index in seeds.stream(seed, "order", epoch).permutation(count)[: wanted - epoch * count]:
            yield int(index)


def portion(given: float, steps: int) -> int:
    """Steps as given, or below 1 a share of all steps (rounded up)."""
    return math.ceil(given * steps) if given < 1 else int(given)


def rate(step: int, steps: int, tune: Tune) -> float:
    """The learning rate of a step (from 0): linear warm-up, then the schedule down to `min_learning_rate`.

    The shapes behind the warm-up are those of transformers' schedulers of the same names (`inverse_sqrt` without
    a warm-up has its timescale of 10,000 steps); the warm-up itself begins above 0, so that no step is lost.
    """
    peak = tune.learning_rate or tune.method.default_learning_rate
    low = tune.min_learning_rate
    warm = portion(tune.warmup, steps)
    if step < warm:
        return peak * (step + 1) / (warm + 1)
    done = (step - warm) / max(1, steps - warm)
    if tune.schedule == "cosine":
        return low + (peak - low) * 0.5 * (1 + math.cos(math.pi * done))
    if tune.schedule == "linear":
        return low + (peak - low) * (1 - done)
    if tune.schedule == "inverse_sqrt":
        scale = warm or 10_000
        return max(low, peak / math.sqrt((step - warm + scale) / scale))
    if tune.schedule == "wsd":
        falling = min(portion(tune.decay, steps), steps - warm)
        share = (step - (steps - falling)) / max(1, falling)
        return peak if share <= 0 else low + (peak - low) * left(share, tune.decay_shape)
    return peak


def left(share: float, shape: str) -> float:
    """What is left of the peak after a share of the fall, from 1 to 0."""
    if shape == "cosine":
        return 0.5 * (1 + math.cos(math.pi * share))
    return 1 - (math.sqrt(share) if shape == "sqrt" else share)


def evaluation_steps(steps: Sequence[Sequence[int]], rows: int, tune: Tune) -> set[int]:
    """The steps (from 1) after which the validation loss is measured; the last one always is."""
    if tune.evaluate_every == "never":
        return set()
    chosen = {len(steps)}
    if isinstance(tune.evaluate_every, int):
        return chosen | set(range(tune.evaluate_every, len(steps), tune.evaluate_every))
    seen, epoch = 0, 1
    for number, step in enumerate(steps, 1):
        seen += len(step)
        if seen >= epoch * rows:
            chosen.add(number)
            epoch = seen // rows + 1
    return chosen


def metrics_steps(steps: Sequence[Sequence[int]], rows: int, tune: Tune) -> set[int]:
    """The steps (from 1) after which metrics are measured on generated answers; the last one is, where any is."""
    every: int | str = tune.metrics_every
    if every == "never" and tune.best_by != LOSS:
        every = "evaluation"
    if every == "never":
        return set()
    return evaluation_steps(steps, rows, tune) if every == "evaluation" else {len(steps), *range(int(every), len(steps), int(every))}


@dataclass(frozen=True, slots=True)
class Best:
    """The best measurement so far (None: none yet), its step, and the measurements since that were not better."""

    value: float | None = None
    step: int = 0
    since: int = 0

    def after(self, value: float | None, step: int, tune: Tune) -> Best:
        """With one more measurement; one that is no number (None) is not better than anything."""
        if value is None:
            return Best(self.value, self.step, self.since + 1)
        gain = math.inf if self.value is None else (value - self.value) * (1 if tune.higher() else -1)
        since = 0 if gain > tune.least_gain else self.since + 1
        return Best(value, step, since) if gain > 0 else Best(self.value, self.step, since)
