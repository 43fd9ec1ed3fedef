"""What to do when a server does not answer: which failures pass, how long to wait, how many requests at a time.

Pure rules and one counter; clock, sleep and chance come in from outside, so that tests wait for nothing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal

QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_credits"})
"""Error codes that mean an empty account: waiting does not fill it. The first three are OpenAI's."""
FILTERED = frozenset({"content_filter", "content_policy_violation"})
"""Error codes of a prompt that was refused: OpenAI's and Azure's."""
FIRST_WAIT = 0.5
"""Seconds that the first wait is shorter than; each next bound is twice the one before."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance. `sleep` takes seconds; `chance` gives a number in [0, 1)."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random


def verdict(status: int, code: str = "") -> Literal["again", "fatal", "refused", "rejected"]:
    """What a status (0: no reply at all) and the error's code mean: ask again; for all requests in vain; this prompt was refused;
    this request cannot be served (it is too long, say), though others may be."""
    if code in QUOTA or status in (401, 402, 403, 404) or 300 <= status < 400:
        return "fatal"
    if status in (0, 408, 409, 429) or status >= 500:
        return "again"
    return "refused" if code in FILTERED else "rejected"


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a reply asks to wait, or None: `retry-after-ms` (OpenAI's), `Retry-After` in seconds or as an HTTP date
    (RFC 9110, 10.2.3) against the wall clock `now`. What cannot be read is no wish; a past date is 0."""
    try:
        if given := headers.get("retry-after-ms"):
            return max(0.0, float(given) / 1000)
    except ValueError:
        pass
    given = headers.get("retry-after") or ""
    try:
        seconds = float(given)
        return seconds if 0 <= seconds < float("inf") else None
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def backoff(attempt: int, chance: float, longest: float) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 0): exponential with full jitter, a uniform draw between 0 and
    the bound, so that clients that failed together do not come back together (M. Brooker, AWS Architecture Blog, 2015)."""
    return chance * min(longest, FIRST_WAIT * 2.0 ** min(attempt, 60))


class Limit:
    """How many requests may be open at a time: at most `most`, half as many after a 429, and about one more a round of
    successes (additive increase, multiplicative decrease, as TCP does). Also holds all of them back while the server said to wait.

    Of requests that were open together only the first 429 halves: the others say the same thing once more.
    """

    def __init__(self, most: int, clock: Clock) -> None:
        self.most = most
        self.clock = clock
        self.limit = float(most)
        self.lowest = most
        self.running = 0
        self.sent = 0
        self.halved = 0
        self.not_before = float("-inf")
        self.waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> int:
        """Wait until a request may be sent; its ticket."""
        while True:
            pause = self.not_before - self.clock.monotonic()
            if pause > 0:
                await self.clock.sleep(pause)
            elif self.running < int(self.limit):
                break
            else:
                turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self.waiting.append(turn)
                try:
                    await turn
                except asyncio.CancelledError:
                    self.wake()
                    raise
        self.running += 1
        self.sent += 1
        return self.sent

    def leave(self, ticket: int, outcome: Literal["well", "crowded", "otherwise"]) -> None:
        """The request of a ticket has ended."""
        self.running -= 1
        if outcome == "crowded" and ticket > self.halved:
            self.limit = max(1.0, self.limit / 2)
            self.lowest = min(self.lowest, int(self.limit))
            self.halved = self.sent
        elif outcome == "well":
            self.limit = min(float(self.most), self.limit + 1 / self.limit)
        self.wake()

    def hold(self, seconds: float) -> None:
        """Send nothing for so long."""
        self.not_before = max(self.not_before, self.clock.monotonic() + seconds)

    def wake(self) -> None:
        """Let as many wait no longer as there is room for."""
        room = int(self.limit) - self.running
        while room > 0 and self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                room -= 1
