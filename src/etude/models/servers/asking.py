"""An LLM behind HTTP at work: questions out, answers in, each counted."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from etude import journal
from etude.failures import ServerGaveUp
from etude.models import Answer, Progress, Sampling, Told
from etude.models.servers import replies, requests
from etude.models.servers.answers_cache import AnswersCache
from etude.models.servers.budgets import Spending, Usage, read_usage
from etude.models.servers.connecting import Connection, Sent, key_of
from etude.models.servers.looping import Loop
from etude.models.servers.requests import Item
from etude.models.servers.retrying import Clock, Limit, backoff, verdict
from etude.records import Conversation

if TYPE_CHECKING:
    import numpy as np

    from etude.encoding import Encoder
    from etude.formats import ChatFormat
    from etude.models.http import Http

SHOWN = 5
"""Examples kept of each reason."""
FEW = 10
"""Failed questions that never end a run by themselves, unless `most_failures` is 0."""
PATHS = {"chat": "/chat/completions", "completions": "/completions"}


class HttpLLM:
    """See `http.Http`. `facts()` says what it did and cost; `close()` it, or use it as a context.

    May be asked from several threads; what one asks, the shared limit, budget and cache count for all.
    """

    def __init__(self, settings: Http, folder: Path | None = None, told: Told | None = None, clock: Clock | None = None) -> None:
        key_of(settings)
        self.settings = settings
        self.told = told
        self.clock = clock or Clock()
        self.loop = Loop()
        self.limit = Limit(settings.concurrency, self.clock)
        self.spending = Spending(settings.budget, settings.prices, folder / "spent.jsonl" if folder else None)
        self.cache = AnswersCache(Path(settings.cache).expanduser()) if settings.cache else None
        self.connections: tuple[Connection, ...] = ()
        self.sent_to: Counter[str] = Counter()
        self.questions = self.answered = self.failures = self.from_cache = self.unnamed = 0
        self.again: Counter[str] = Counter()
        self.unusable: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.waited = 0.0
        self.replied = False

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
        """(index of the conversation, its `sampling.n` answers) as they come, in any order, each exactly once.

        A question without an answer is a failed one (`Answer.failure`). Raises ServerGaveUp where asking on is in vain (key, address,
        model name, empty account, a server that never answers, too many failures); Stopped for a budget, after what was in
        flight is handed over; RecipeError and DataError for what cannot be asked.
        """
        prompt = requests.writer(self.settings, self.form)
        items = [requests.item(self.settings, conversation, sampling, prompt) for conversation in conversations]
        groups = requests.grouped(items)
        self.questions += len(items)
        open_keys = []
        for key, places in groups.items():
            kept = self.cache.get(key) if self.cache is not None else None
            if kept is None or len(kept) != sampling.n:
                open_keys.append(key)
                continue
            self.from_cache += len(places)
            for place in places:
                self.answered += 1
                yield place, kept
        jobs = [functools.partial(self.answer, items[groups[key][0]], sampling) for key in open_keys]
        for number, answers in self.run(jobs):
            places = groups[open_keys[number]]
            self.note(answers, len(places))
            if self.cache is not None and not any(answer.failure for answer in answers):
                self.cache.put(open_keys[number], answers, self.settings.model)
            for place in places:
                yield place, answers
            if self.told:
                self.told(self.facts())
            self.check_failures()

    def logprobs(self, conversations: Sequence[Conversation], progress: Progress | None = None) -> list[np.ndarray]:
        """Natural log-probabilities of each conversation's trained tokens, float32 (trained tokens,), from a completions endpoint
        that echoes its prompt with them (vLLM). Raises RecipeError for one that does not, and as `complete_each`."""
        from etude.models.servers.echoing import logprobs

        return logprobs(self, conversations, progress)

    def run(self, jobs: Sequence[Callable[[], Awaitable[Any]]]) -> Iterator[tuple[int, Any]]:
        """Jobs on the loop, at most `concurrency` together."""
        if not jobs:
            return
        if not self.connections:
            places = [self.settings.model_copy(update={"base_url": place}) for place in (self.settings.base_url, *self.settings.also)]

            async def connect() -> tuple[Connection, ...]:
                return tuple(Connection(place) for place in places)

            self.connections = self.loop.call(connect())
        yield from self.loop.each(jobs, self.settings.concurrency)

    @functools.cached_property
    def form(self) -> tuple[Encoder, ChatFormat] | None:
        """How completions are written, None for plain words."""
        return requests.form_of(self.settings)

    async def answer(self, item: Item, sampling: Sampling) -> tuple[Answer, ...]:
        """All answers to one question, failed ones last."""
        found: list[Answer] = []
        step = sampling.n if self.settings.n_at_once else 1
        while len(found) < sampling.n:
            goal = len(found) + step
            reason = ""
            for ask in range(self.settings.asks):
                wanted = goal - len(found)
                sent = await self.send(self.settings.endpoint, item.request(self.settings, wanted, len(found), ask), item.most(wanted))
                if sent.status != 200:
                    kind = verdict(sent.status, sent.code)
                    reason = "server" if kind == "again" else kind
                    self.example(reason, sent.error)
                    break
                read = self.read(sent, wanted, sampling)
                found += read.answers
                if len(found) == goal:
                    break
                reason = read.reasons[0]
                self.unusable.update(read.reasons)
                self.example(reason, read.said)
            if len(found) < goal:
                return (*found, *[Answer.failed(reason)] * (sampling.n - len(found)))
        return tuple(found)

    def read(self, sent: Sent, wanted: int, sampling: Sampling) -> replies.Read:
        """A reply judged, and the model it names counted."""
        if sent.code == "malformed":
            return replies.Read(reasons=("malformed",) * wanted, said=sent.error)
        own = self.settings
        read = replies.read(sent.reply, wanted, own.model, own.answers_as, sampling, own.keep_cut)
        if read.model:
            self.models[read.model] += 1
        elif read.answers:
            self.unnamed += 1
        return read

    async def send(self, endpoint: Literal["chat", "completions"], body: Mapping[str, Any], most: Usage) -> Sent:
        """One request, sent again while that may help. What comes back has status 200, or is a failure of this request alone.

        Raises ServerGaveUp for what no request will get past, and where no request ever was answered; Stopped for a budget.
        """
        servers = ranked(self.connections, body)
        for attempt in range(self.settings.attempts):
            ticket = await self.limit.enter()
            outcome: Literal["well", "crowded", "otherwise"] = "otherwise"
            try:
                await self.spending.reserve(most)
                used: Usage | None = None
                try:
                    sent = await servers[attempt % len(servers)].post(PATHS[endpoint], body, self.clock.wall())
                    used = read_usage(sent.reply) if isinstance(sent.reply, Mapping) else None
                    if sent.status >= 300 or not sent.sent:
                        used = Usage()  # refused, or never arrived: nothing was computed
                finally:
                    self.spending.settle(most, used)
                outcome = "crowded" if sent.status == 429 else "well" if sent.status == 200 else "otherwise"
            finally:
                self.limit.leave(ticket, outcome)
            if sent.status == 200:
                self.replied = True
                self.sent_to[servers[attempt % len(servers)].server.base_url] += 1
                return sent
            kind = verdict(sent.status, sent.code)
            if kind == "fatal":
                raise ServerGaveUp(self.why(sent))
            if kind != "again":
                return sent
            self.again[str(sent.status) if sent.status else sent.code] += 1
            if attempt + 1 < self.settings.attempts:
                await self.wait(sent, attempt)
        if not self.replied:
            raise ServerGaveUp(f"{self.where()} gave no answer in {self.settings.attempts} attempts: {sent.error}")
        return sent

    async def wait(self, sent: Sent, attempt: int) -> None:
        """Wait before the next attempt: as long as the server says (then every request waits), else our own time."""
        if sent.wait is not None:
            if sent.wait > self.settings.longest_retry_after:
                raise ServerGaveUp(
                    f"{self.where()} says {sent.status} and asks to come back in {sent.wait:,.0f} seconds (longest_retry_after is "
                    f"{self.settings.longest_retry_after:g}); what was answered is kept: run again then"
                )
            self.limit.hold(sent.wait)
            seconds = sent.wait
        else:
            seconds = backoff(attempt, self.clock.chance(), self.settings.longest_wait)
        self.waited += seconds
        await self.clock.sleep(seconds)

    def where(self) -> str:
        """The server and the model, for messages."""
        return f"{self.settings.base_url} (model {self.settings.model!r})"

    def why(self, sent: Sent) -> str:
        """What no request will get past, and what to do about it."""
        name = self.settings.api_key_env
        variable = (
            f"the key in the environment variable {name}" if name else "no key was sent: name its environment variable in api_key_env"
        )
        help = {
            401: variable,
            403: variable,
            404: "is there such a model, and does base_url end as the server wants (often in /v1)?",
        }.get(sent.status, "the account is empty or over its limit" if sent.status in (402, 429) else "set base_url to where it is")
        return f"{self.where()} says {sent.status}: {sent.error}; {help}"

    def example(self, reason: str, said: str) -> None:
        """Keep what a server said in place of an answer, for the first few of each reason."""
        kept = self.examples.setdefault(reason, [])
        if len(kept) < SHOWN:
            text = self.connections[0].clean(said) if self.connections else said
            kept.append(text if len(text) <= 200 else f"{text[:200]}...")

    def note(self, answers: Sequence[Answer], rows: int) -> None:
        """Count what became of a question that so many rows ask."""
        reasons = [answer.failure for answer in answers if answer.failure]
        if reasons:
            self.failures += rows
            self.failed[reasons[0]] += rows
        else:
            self.answered += rows

    def check_failures(self) -> None:
        """Raises ServerGaveUp where too many questions stay without an answer."""
        share = self.settings.most_failures
        if self.failures > max(share * self.questions, FEW if share else 0):
            counts = ", ".join(f"{count} {reason} ({replies.REASONS[reason]})" for reason, count in self.failed.most_common())
            said = next((examples[0] for reason, _ in self.failed.most_common() if (examples := self.examples.get(reason))), "")
            hint = "; another name is right? Add it to answers_as" if "model" in self.failed else ""
            hint += "; a server that knows no `n` needs n_at_once: false" if "count" in self.failed else ""
            raise ServerGaveUp(
                f"{self.where()}: {self.failures} of {self.questions} questions have no answer, more than most_failures allows "
                f"({share:g}): {counts}; for instance: {said!r}{hint}"
            )

    def facts(self) -> dict[str, Any]:
        """What was asked, answered, asked again (by reason) and spent so far, as plain data for the manifest; no key, no question."""
        return {
            "model": self.settings.model,
            "base_url": self.settings.base_url,
            **({"answers_from": dict(sorted(self.sent_to.items()))} if self.settings.also else {}),
            "questions": self.questions,
            "answered": self.answered,
            "from_cache": self.from_cache,
            "failed": dict(self.failed),
            "unusable_replies": dict(self.unusable),
            "sent_again": dict(self.again),
            "examples": {reason: list(said) for reason, said in self.examples.items()},
            "answered_as": dict(self.models),
            "unnamed_replies": self.unnamed,
            "seconds_waited": round(self.waited, 3),
            "concurrency": {"most": self.limit.most, "lowest": self.limit.lowest, "now": int(self.limit.limit)},
            **self.spending.facts(),
        }

    def close(self) -> None:
        """Close connections, ledger and cache."""
        for connection in self.connections:
            self.loop.call(connection.close())
        self.connections = ()
        self.loop.close()
        self.spending.close()
        if self.cache is not None:
            self.cache.close()

    def __enter__(self) -> HttpLLM:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def ranked(servers: Sequence[Connection], body: Mapping[str, Any]) -> Sequence[Connection]:
    """The servers in the order in which this request tries them: highest random weight (Thaler and Ravishankar 1998), so that one server
    more or less moves its own share of the requests and no other."""
    if len(servers) == 1:
        return servers
    own = journal.digest(body)
    return sorted(servers, key=lambda one: journal.digest([one.server.base_url, own]))
