"""How likely given answers are to a model behind HTTP: the prompt's own log-probabilities, as a completions endpoint echoes them.

vLLM does; OpenAI's chat models, Ollama and llama.cpp's server do not, and are refused by what they reply.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etude.failures import DataError, RecipeError, ServerGaveUp
from etude.models import Progress
from etude.models.servers.budgets import Usage
from etude.records import IGNORED, Conversation, Encoded, Fate

if TYPE_CHECKING:
    import numpy as np

    from etude.models.servers.asking import HttpLLM


def logprobs(llm: HttpLLM, conversations: Sequence[Conversation], progress: Progress | None = None) -> list[np.ndarray]:
    """For each conversation, the log-probability of each trained token, float32. Rows go out as token ids, so that the server
    reads exactly the tokens that are scored here."""
    import numpy as np

    from etude.encoding import examples

    own = llm.settings
    if own.endpoint != "completions" or not own.tokenizer:
        raise RecipeError(
            f"{llm.where()}: log-probabilities of given answers need `endpoint: completions` and the `tokenizer` of the model, at a "
            "server that echoes its prompt with them (vLLM); or name a local model"
        )
    assert llm.form is not None
    encoder, form = llm.form
    rows: list[Encoded] = []
    owners: list[int] = []
    for index, conversation in enumerate(conversations):
        for row in examples(encoder, form, conversation, None, "refuse"):
            if isinstance(row, Fate):
                raise DataError(f"{conversation.origin or conversation.id}: cannot be scored: {row.reason}")
            rows.append(row)
            owners.append(index)
    found: list[np.ndarray] = [np.zeros(0, np.float32)] * len(rows)
    waiting = np.bincount(owners, minlength=len(conversations)) if owners else np.zeros(0, int)
    for place, values in llm.run([functools.partial(scored, llm, row.ids.tolist()) for row in rows]):
        found[place] = np.array(values, np.float32)[rows[place].labels != IGNORED]
        waiting[owners[place]] -= 1
        if progress and waiting[owners[place]] == 0:
            progress(1)
        if llm.told:
            llm.told(llm.facts())
    parts: list[list[np.ndarray]] = [[] for _ in conversations]
    for owner, values in zip(owners, found, strict=True):
        parts[owner].append(values)
    return [np.concatenate(part) if part else np.zeros(0, np.float32) for part in parts]


async def scored(llm: HttpLLM, ids: list[int]) -> list[float]:
    """The log-probability of each token given those before it (0 for the first). One token is generated behind them and
    passed over, since some servers refuse to generate none."""
    own = llm.settings
    body: dict[str, Any] = {"model": own.model, "prompt": ids, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1, **own.extra}
    refusal = ""
    for _ in range(own.asks):
        sent = await llm.send("completions", {k: v for k, v in body.items() if v is not None}, Usage(len(ids) + 1, 1))
        if sent.status != 200:
            refusal = f"it says {sent.status or sent.code}: {sent.error}"
            if sent.status in (0, 408, 409, 429) or sent.status >= 500:
                raise ServerGaveUp(f"{llm.where()} gave no log-probabilities in {own.attempts} attempts: {sent.error}")
            break
        values = echoed(sent.reply, len(ids))
        if values is not None:
            return values
        refusal = "its reply holds none for the prompt"
    raise RecipeError(f"{llm.where()} does not give the log-probabilities of its prompt ({refusal}); vLLM does; or name a local model")


def echoed(reply: Any, tokens: int) -> list[float] | None:
    """The log-probabilities of the prompt's tokens in a reply, None where they are not there."""
    try:
        values = reply["choices"][0]["logprobs"]["token_logprobs"]
    except (KeyError, IndexError, TypeError):
        return None
    if isinstance(reply, Mapping) and isinstance(values, list) and tokens <= len(values) <= tokens + 1:
        wanted = values[1:tokens]
        if all(isinstance(value, int | float) for value in wanted):
            return [0.0, *map(float, wanted)]
    return None
