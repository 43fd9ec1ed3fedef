"""A model on this machine as LLM and Scores: loaded from disk, or live in the middle of its training.

Nothing of the model is changed by being asked: modes, gradients and random numbers are as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from etude import packing, pairs, seeds, virtual_tokens
from etude.encoding import Encoder, Lengths, Limit, examples
from etude.failures import CheckFailed, DataError, RecipeError
from etude.formats import ChatFormat, FormatSettings
from etude.formats.borders import only_last_trained
from etude.formats.jinja import Auto
from etude.formats.text_to_text import bind_for
from etude.models import Answer, Progress, Sampling, weights
from etude.records import IGNORED, Conversation, Encoded, Fate, Message

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from etude.models.decoding import Drawn, Ended

PACK_TOKENS = 1024
"""Tokens of one forward pass of `logprobs`; on CPUs 512 and 2,048 were slower."""


class Local:
    """A transformers model, its tokenizer and its chat format, as LLM and Scores.

    `batch_rows` and `batch_tokens` bound what is decoded together: answers, and prompt tokens plus new
    tokens with padding. They cost memory (keys and values of `batch_tokens` tokens) and change no
    answer but by rounding.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        form: ChatFormat,
        *,
        batch_tokens: int = 16384,
        batch_rows: int = 128,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.form = form
        self.batch_tokens = batch_tokens
        self.batch_rows = batch_rows
        self.paired = pairs.is_paired(model)
        self.encoder = Encoder.of(tokenizer, self.paired)
        self._documents: bool | None = None

    @staticmethod
    def from_folder(folder: Path, form: FormatSettings | None = None) -> Local:
        """The model in a folder as transformers saves it, with its own chat template unless `form` says otherwise.

        Raises DataError or RecipeError where the folder holds no usable model.
        """
        model, tokenizer = weights.load(folder)
        settings: Any = form or Auto()
        return Local(model, tokenizer, bind_for(settings, tokenizer, pairs.is_paired(model)))

    def complete(
        self, conversations: Sequence[Conversation], sampling: Sampling, progress: Progress | None = None
    ) -> list[tuple[Answer, ...]]:
        """`sampling.n` answers for each conversation's question, in the order given; raises as `complete_each`."""
        answers: dict[int, tuple[Answer, ...]] = {}
        for index, found in self.complete_each(conversations, sampling):
            answers[index] = found
            if progress:
                progress(1)
        return [answers[index] for index in range(len(conversations))]

    def complete_each(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[tuple[int, tuple[Answer, ...]]]:
        """(index of the conversation, its answers) as they finish, in any order.

        Raises DataError, before anything is computed, for prompts that leave no room for an answer;
        RecipeError for more answers than beams; NonFinite for logits that are not a number.
        """
        prompts = [self.encoder.ids(self.form.prompt(conversation.question())) for conversation in conversations]
        self._check_lengths(conversations, prompts, sampling)
        if sampling.num_beams > 1:
            yield from self._searched(conversations, prompts, sampling)
            return
        # one greedy answer is all of them; each sampled one is computed on its own stream of random numbers
        copies = sampling.n if sampling.temperature > 0 else 1
        jobs = [(row, sample) for row in by_length(prompts) for sample in range(copies)]
        found: dict[int, dict[int, Answer]] = {}
        for row, sample, drawn in self._decoded(conversations, prompts, jobs, sampling):
            answers = found.setdefault(row, {})
            answers[sample] = self.answer(drawn, sampling)
            if len(answers) == copies:
                del found[row]
                yield row, tuple(answers[i % copies] for i in range(sampling.n))

    def _decoded(
        self, conversations: Sequence[Conversation], prompts: Sequence[Sequence[int]], jobs: Sequence[tuple[int, int]], sampling: Sampling
    ) -> Iterator[tuple[int, int, Drawn]]:
        from etude.models import decoding, sequences

        def uniforms(index: int) -> np.random.Generator | None:
            row, sample = jobs[index]
            return seeds.stream(sampling.seed, conversations[row].id, sample) if sampling.temperature > 0 else None

        asked = [prompts[row] for row, _ in jobs]
        bounds = {"rows": self.batch_rows, "tokens": self.batch_tokens}
        decode = sequences.decode if self.paired else decoding.decode
        for drawn in decode(self.model, asked, uniforms, sampling, self.stops(), self.ended(sampling), **bounds):
            yield *jobs[drawn.index], drawn

    def _searched(
        self, conversations: Sequence[Conversation], prompts: Sequence[Sequence[int]], sampling: Sampling
    ) -> Iterator[tuple[int, tuple[Answer, ...]]]:
        from etude.models.beams import beams

        if sampling.n > sampling.num_beams:
            raise RecipeError(f"n={sampling.n} answers need at least as many beams; num_beams is {sampling.num_beams}")
        # sampled beams draw from one stream a call, so each conversation has a call of its own
        alone = sampling.temperature > 0
        jobs = [(row, 0) for row in by_length(prompts)]
        for batch in [[job] for job in jobs] if alone else self._batches(jobs, prompts, sampling):
            rows = [row for row, _ in batch]
            seed = seeds.number(sampling.seed, conversations[rows[0]].id, 0)
            asked = [prompts[row] for row in rows]
            found = beams(self.model, self.tokenizer, asked, sampling, self.stops(), self.ended(sampling), seed)
            for row, drawn in zip(rows, found, strict=True):
                yield row, tuple(self.answer(one, sampling) for one in drawn)

    def _batches(
        self, jobs: Sequence[tuple[int, int]], prompts: Sequence[Sequence[int]], sampling: Sampling
    ) -> Iterator[list[tuple[int, int]]]:
        """Jobs (row, sample), longest prompts first, in batches within both bounds (at least one job each)."""
        batch: list[tuple[int, int]] = []
        for row, sample in jobs:
            longest = len(prompts[batch[0][0]]) if batch else 0
            rows = (len(batch) + 1) * sampling.num_beams
            if batch and (rows > self.batch_rows or rows * (longest + sampling.max_new_tokens) > self.batch_tokens):
                yield batch
                batch = []
            batch.append((row, sample))
        if batch:
            yield batch

    def _check_lengths(self, conversations: Sequence[Conversation], prompts: Sequence[Sequence[int]], sampling: Sampling) -> None:
        context = self.context()
        for conversation, prompt in zip(conversations, prompts, strict=True):
            where = f"{conversation.origin or 'row'} ({conversation.id})"
            if not prompt:
                raise DataError(f"{where}: the prompt has no tokens; a model cannot answer nothing")
            if context and self.paired and max(len(prompt), sampling.max_new_tokens) > context:
                raise DataError(
                    f"{where}: the source has {len(prompt)} tokens and an answer up to {sampling.max_new_tokens}; the model reads and "
                    f"writes at most {context} each; shorten the row or lower max_new_tokens"
                )
            if context and not self.paired and len(prompt) + sampling.max_new_tokens > context:
                raise DataError(
                    f"{where}: the prompt has {len(prompt)} tokens, and with {sampling.max_new_tokens} new ones exceeds "
                    f"the model's context of {context}; shorten the row or lower max_new_tokens"
                )

    def answer(self, drawn: Drawn, sampling: Sampling) -> Answer:
        """The answer in words: without its end of turn, up to the first stop text."""
        ids = drawn.ids[:-1] if drawn.finish == "stop" and drawn.ids[-1] in self.stops() else drawn.ids
        return Answer(sampling.before_stop(self.encoder.text(ids)), drawn.finish, len(drawn.ids), drawn.near_ties)

    def ended(self, sampling: Sampling) -> Ended | None:
        """Whether an answer's ids end with one of the sampling's stop texts; None where there are none."""
        if not sampling.stop:
            return None
        # A token that is text is at least one byte, so a stop text that the last token completes lies within
        # this many tokens; the few more keep a character cut in half, or a dropped first space, outside of it.
        window = max(len(text.encode()) for text in sampling.stop) + 8

        def ended(ids: Sequence[int]) -> bool:
            tail = self.encoder.text(ids[-window:])
            return sampling.before_stop(tail) != tail and sampling.before_stop(whole := self.encoder.text(ids)) != whole

        return ended

    def stops(self) -> frozenset[int]:
        """Ids that end an answer: the format's ends of turn, the tokenizer's, and those of the model's generation config."""
        own = getattr(self.model, "generation_config", None)
        ends = getattr(own, "eos_token_id", None)
        listed = list(ends) if isinstance(ends, (list, tuple)) else [ends]
        named = [self.encoder.added.get(text, self.encoder.added.get(text.strip())) for text in self.form.stops()]
        return frozenset(int(i) for i in [*listed, *named, self.tokenizer.eos_token_id] if i is not None)

    def context(self) -> int | None:
        """Most tokens of a row (an encoder-decoder's source, and its target) the model can read, virtual ones not counted, or None
        where its config does not say, as T5's, whose positions are relative."""
        text = self.model.config.get_text_config()
        most = getattr(text, "max_position_embeddings", None)
        return int(most) - virtual_tokens.count(self.model) - virtual_tokens.in_source(self.model) if most else None

    def logprobs(self, conversations: Sequence[Conversation], progress: Progress | None = None) -> list[np.ndarray]:
        """For each conversation, the natural log-probability of each trained token, float32 (trained tokens,).

        Nothing is cut: raises DataError for a row longer than the model's context, or without an answer.
        """
        rows: list[Encoded] = []
        owners: list[int] = []
        context = self.context()
        limit: Limit = Lengths(context, context) if self.paired else context
        for index, conversation in enumerate(conversations):
            for row in examples(self.encoder, self.form, conversation, limit, "refuse"):
                rows.append(readable(row, conversation))
                owners.append(index)
        found: list[np.ndarray] = [np.zeros(0, np.float32) for _ in rows]
        waiting = np.bincount(owners, minlength=len(conversations)) if owners else np.zeros(0, int)
        packs: Any = pairs.batches(rows, PACK_TOKENS, pairs.start_id(self.model)) if self.paired else packing.pack(rows, PACK_TOKENS)
        for pack in packs:
            values = self._scored(pack)
            for row in dict.fromkeys(pack.rows.tolist()):
                found[row] = values[pack.rows == row]
                waiting[owners[row]] -= 1
                if progress and waiting[owners[row]] == 0:
                    progress(1)
        parts: list[list[np.ndarray]] = [[] for _ in conversations]
        for owner, values in zip(owners, found, strict=True):
            parts[owner].append(values)
        return [np.concatenate(part) for part in parts]

    def choose(
        self, conversations: Sequence[Conversation], choices: Sequence[str], progress: Progress | None = None
    ) -> list[tuple[int, np.ndarray]]:
        """For each conversation's question: the index of the likeliest of `choices` (the first of equals), and
        each choice's log-probability, float32 (choices,): the sum over its tokens and its end of turn.

        Raises DataError for a row longer than the model's context.
        """
        if not choices:
            raise RecipeError("there is nothing to choose from: no labels were given")
        found = []
        for conversation in conversations:
            question = conversation.question()
            prompt = self.encoder.ids(self.form.prompt(question))
            answers = [self._continuation(question, prompt, choice) for choice in choices]
            owners = np.repeat(np.arange(len(answers)), [len(answer) for answer in answers])
            scored = self._continued(prompt, answers) if self.paired else self._scored(packing.branches(prompt, answers))
            sums = np.bincount(owners, weights=scored, minlength=len(choices)).astype(np.float32)
            found.append((int(sums.argmax()), sums))
            if progress:
                progress(1)
        return found

    def _continued(self, source: Sequence[int], answers: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probabilities of all tokens of several answers to one source, float32 (tokens,)."""
        from etude.models import decoding, sequences

        with decoding.still(self.model):
            logits = sequences.continuation_logits(self.model, source, answers)
        return log_probabilities(logits, np.concatenate([np.array(answer, np.int64) for answer in answers]))

    def _continuation(self, question: Conversation, prompt: Sequence[int], choice: str) -> list[int]:
        """The tokens of `choice` and its end of turn behind the prompt."""
        answered = replace(question, messages=(*question.messages, Message("assistant", choice)))
        segments = only_last_trained(self.form.render(answered))
        where = str(question.origin or question.id)
        context = self.context()
        limit: Limit = Lengths(context, context) if self.paired else context
        row = readable(self.encoder.encode(question.id, segments, limit, "refuse", where), question)
        trained = np.flatnonzero(row.labels != IGNORED)
        if row.ids[: trained[0]].tolist() != list(prompt):
            raise CheckFailed(f"{where}: the answer {choice!r} is not written behind the prompt as it is asked (format {self.form.name})")
        return [int(i) for i in row.ids[trained[0] : trained[-1] + 1]]

    def _scored(self, pack: packing.Pack | pairs.Pairs) -> np.ndarray:
        """Log-probabilities of the pack's targets, float32 (targets,), in one pass where the model honours
        document attention and in one pass a document where it does not; an encoder-decoder's pairs in one pass."""
        from etude import attention
        from etude.models import decoding

        with decoding.still(self.model):
            if isinstance(pack, pairs.Pairs):
                return log_probabilities(attention.target_logits(self.model, pack), pack.targets)
            if self.honours_documents():
                try:
                    with attention.enable(self.model):
                        return log_probabilities(attention.target_logits(self.model, pack), pack.targets)
                except ValueError:  # a feature that is met at this length only, such as a sliding window
                    self._documents = False
            values = np.zeros(len(pack.targets), np.float32)
            for one, places in apart(pack):
                values[places] = log_probabilities(attention.target_logits(self.model, one), one.targets)
        return values

    def honours_documents(self) -> bool:
        """Whether packed documents behind a shared prefix score as they do alone: measured once, on three short ones."""
        if self._documents is None:
            from etude import attention

            size = self.model.get_input_embeddings().weight.shape[0]
            tokens = [3 * i % size for i in range(20)]
            together = packing.branches(tokens[:8], [tokens[8:11], tokens[11:15], tokens[15:]])
            self._documents = attention.honours_documents(self.model, together, [one for one, _ in apart(together)]) == ""
        return self._documents


def apart(pack: packing.Pack) -> Iterator[tuple[packing.Pack, np.ndarray]]:
    """Each document of a pack as a pack of its own, the prefix in front, and the places of its targets.

    Every document must have a target; documents then come in the order of their rows' first targets.
    """
    for row, (first, end) in zip(dict.fromkeys(pack.rows.tolist()), pack.bounds, strict=True):
        places = np.flatnonzero(pack.rows == row)
        tokens = np.r_[0 : pack.prefix, first:end]
        sources = np.searchsorted(tokens, pack.sources[places])
        bounds = ((0, len(tokens)),)
        yield packing.Pack(pack.ids[tokens], pack.positions[tokens], 0, bounds, sources, pack.targets[places], pack.rows[places]), places


def log_probabilities(logits: torch.Tensor, targets: np.ndarray, rows: int = 128) -> np.ndarray:
    """Log-softmax of `logits` (targets, vocabulary) in float32 at `targets`, a few rows at a time so
    that no second copy of the logits is made; float32 (targets,)."""
    import torch

    wanted = torch.from_numpy(targets).to(logits.device)[:, None]
    values = np.zeros(len(targets), np.float32)
    for first in range(0, len(targets), rows):
        part = logits[first : first + rows].float()
        chosen = part.gather(1, wanted[first : first + rows]).squeeze(1)
        values[first : first + rows] = (chosen - part.logsumexp(1)).cpu().numpy()
    return values


def by_length(prompts: Sequence[Sequence[int]]) -> list[int]:
    """Indices of the prompts, longest first; then by their ids, so that equal starts meet."""
    return sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), tuple(prompts[i]), i))


def readable(row: Encoded | Fate, conversation: Conversation) -> Encoded:
    """The row; raises DataError where encoding dropped it."""
    if isinstance(row, Fate):
        raise DataError(f"{conversation.origin or conversation.id}: cannot be scored: {row.reason}")
    return row
