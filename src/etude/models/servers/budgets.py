"""What an LLM may cost, and what it has cost: requests, tokens and money, counted before they are spent.

A request reserves the most it can take before it is sent, and gives back what it did not use; so requests in flight cannot
carry the sum over the bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from etude import journal
from etude.catalog import Settings
from etude.failures import Stopped


class Prices(Settings):
    """What a million tokens cost. Providers change prices, so etude knows none by heart."""

    input: Annotated[float, Field(ge=0)]
    """Price of a million prompt tokens."""
    output: Annotated[float, Field(ge=0)]
    """Price of a million tokens answered (reasoning included)."""
    cached_input: Annotated[float, Field(ge=0)] | None = None
    """Price of a million prompt tokens that the server had read before; the price of the others unless given."""
    currency: str = "USD"
    """What the prices are in; only shown."""


class Budget(Settings):
    """Hard bounds. One that is reached ends the run with exit code 75; raise it and run again to go on."""

    requests: Annotated[int, Field(ge=1)] | None = None
    """Most requests, those asked again included."""
    tokens: Annotated[int, Field(ge=1)] | None = None
    """Most tokens, of prompts and answers."""
    money: Annotated[float, Field(gt=0)] | None = None
    """Most money, in the currency of the prices."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request: its prompt, how many of those were cached, and its answers."""

    input: int = 0
    output: int = 0
    cached: int = 0


def read_usage(reply: Mapping[str, Any]) -> Usage | None:
    """What a reply's `usage` says, None where it says nothing that can be counted."""
    usage = reply.get("usage")
    if not isinstance(usage, Mapping):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
    found = (usage.get("prompt_tokens"), usage.get("completion_tokens", 0), cached or 0)
    if not all(isinstance(value, int) and value >= 0 for value in found):
        return None
    return Usage(found[0], found[1], min(found[2], found[0]))  # type: ignore[arg-type, type-var]


class Spending:
    """Counts what requests take, and refuses one that could pass a bound. `ledger`: a journal of what was spent, so that
    a run that goes on counts from where it stopped."""

    def __init__(self, budget: Budget, prices: Prices | None, ledger: Path | None = None) -> None:
        self.budget = budget
        self.prices = prices
        self.requests = self.input = self.output = self.cached = self.assumed = 0
        self.held = Usage()
        self.open = 0
        self.waiting: list[asyncio.Future[None]] = []
        if ledger and ledger.exists():
            for line in journal.read(ledger):
                self.count(Usage(line["input"], line["output"], line["cached"]), line["assumed"])
        self.requests_before = self.requests
        self.journal = journal.Journal(ledger) if ledger else None

    def cost(self, more: Usage = Usage()) -> float | None:
        """Money spent, and for `more` tokens; None without prices."""
        if not self.prices:
            return None
        read = self.prices.input if self.prices.cached_input is None else self.prices.cached_input
        fresh = self.input - self.cached + more.input - more.cached
        cached = self.cached + more.cached
        return (fresh * self.prices.input + cached * read + (self.output + more.output) * self.prices.output) / 1e6

    def refusal(self, most: Usage) -> str:
        """Which bound a request that may take `most` could pass, with all that is open; "" for none."""
        more = Usage(self.held.input + most.input, self.held.output + most.output)
        tokens = self.input + self.output + more.input + more.output
        bound = self.budget
        if bound.requests is not None and self.requests + self.open + 1 > bound.requests:
            return f"requests: {self.requests:,} of {bound.requests:,} are used"
        if bound.tokens is not None and tokens > bound.tokens:
            return f"tokens: {self.input + self.output:,} of {bound.tokens:,} are used, and the next request may take {sum_of(most):,}"
        cost = self.cost(more)
        if bound.money is not None and cost is not None and cost > bound.money * (1 + 1e-9):
            unit = self.prices.currency if self.prices else ""
            return f"money: {self.cost() or 0:.4f} of {bound.money:g} {unit} are spent, and the next request may pass that"
        return ""

    async def reserve(self, most: Usage) -> None:
        """Set aside the most a request may take. Waits for open ones where their end may make room; raises Stopped where not."""
        while why := self.refusal(most):
            if not self.open:
                raise Stopped(f"the budget of {why}; what was answered is kept: raise the budget and run again to go on")
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting.append(turn)
            await turn
        self.open += 1
        self.held = Usage(self.held.input + most.input, self.held.output + most.output)

    def settle(self, most: Usage, used: Usage | None) -> None:
        """A request that set `most` aside has ended and took `used`. None: nobody knows (it was cut off after it was sent, or
        the reply did not say), and then all that was set aside counts as taken."""
        self.open -= 1
        self.held = Usage(self.held.input - most.input, self.held.output - most.output)
        assumed = sum_of(most) if used is None else 0
        found = most if used is None else used
        self.count(found, assumed)
        if self.journal:
            self.journal.append({"input": found.input, "output": found.output, "cached": found.cached, "assumed": assumed})
        waiting, self.waiting = self.waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)

    def count(self, used: Usage, assumed: int) -> None:
        """Add one request."""
        self.requests += 1
        self.input += used.input
        self.output += used.output
        self.cached += used.cached
        self.assumed += assumed

    def facts(self) -> dict[str, Any]:
        """For the manifest. A cost without prices is "unknown", never 0."""
        cost = self.cost()
        tokens = {"input": self.input, "output": self.output, "cached_input": self.cached}
        if self.assumed:
            tokens["assumed"] = self.assumed  # of the above: set aside by requests that never said what they took
        found: dict[str, Any] = {"requests": self.requests, "tokens": tokens, "cost": "unknown" if cost is None else round(cost, 6)}
        if self.prices:
            found["currency"] = self.prices.currency
            found["prices"] = self.prices.model_dump(exclude_none=True)
        if self.requests_before:
            found["requests_before"] = self.requests_before
        if bounds := self.budget.model_dump(exclude_none=True):
            found["budget"] = bounds
        return found

    def close(self) -> None:
        """Close the ledger."""
        if self.journal:
            self.journal.close()


def sum_of(usage: Usage) -> int:
    """Tokens read and written."""
    return usage.input + usage.output
