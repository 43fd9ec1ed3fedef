"""Questions for a provider's Batch API, and its results: half the price, within a day, joined by id in whatever order they come.

The files are OpenAI's: one request a line (`custom_id`, `method`, `url`, `body`), one result a line, errors in a file of their own. What
a batch did not answer (it expired, a line failed, a reply is no answer) is left to ask: export again, or ask directly. Results that go
into the LLM's cache are not asked again, so the ordinary run after an import asks for the rest by itself.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude import journal
from etude.failures import DataError
from etude.models import Answer, Sampling
from etude.models.servers import replies, requests
from etude.models.servers.answers_cache import AnswersCache
from etude.models.servers.budgets import Prices, Usage, read_usage
from etude.models.servers.requests import Item
from etude.models.servers.retrying import verdict
from etude.records import Conversation

if TYPE_CHECKING:
    from etude.models.http import Http

MOST_REQUESTS = 50_000
MOST_BYTES = 200_000_000
"""Of one file, by OpenAI's Batch API guide."""
EXPIRED = "expired"
"""What we call results of requests that a batch did not come to."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What a batch's results hold. `answers`: place of the conversation -> its answers; `rest`: the places that are left to ask, in
    order. `failed`: results that are no answers, by reason (`replies.REASONS`, or "expired"); `unknown`: results of requests that
    are none of these; `repeated`: results of a request that had one already (the first that is an answer counts);
    `unreadable`: lines that are no results."""

    answers: Mapping[int, tuple[Answer, ...]]
    rest: tuple[int, ...]
    failed: Mapping[str, int] = field(default_factory=dict)
    unknown: int = 0
    repeated: int = 0
    unreadable: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None

    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "answered": len(self.answers),
            "left_to_ask": len(self.rest),
            "failed": dict(self.failed),
            "unknown": self.unknown,
            "repeated": self.repeated,
            "unreadable": self.unreadable,
            "tokens": {"input": self.usage.input, "output": self.usage.output, "cached_input": self.usage.cached},
            "cost": "unknown" if self.cost is None else round(self.cost, 6),
        }


def name(item: Item) -> str:
    """The custom id of a request: begins with its row's id, and ends with what was asked, so that results of another export,
    with other settings say, are not taken for these."""
    return f"{item.id[:40]}-{item.key[:20]}"


def items_of(settings: Http, conversations: Sequence[Conversation], sampling: Sampling) -> list[Item]:
    """Each conversation's question as it is asked. Raises what `requests.item` raises."""
    prompt = requests.writer(settings, requests.form_of(settings))
    return [requests.item(settings, conversation, sampling, prompt) for conversation in conversations]


def export_requests(
    settings: Http,
    conversations: Sequence[Conversation],
    sampling: Sampling,
    path: Path,
    most: int = MOST_REQUESTS,
    most_bytes: int = MOST_BYTES,
) -> list[Path]:
    """Write the requests of all questions, one a line, those that read the same once; the files, in order.

    The first is `path`, further ones (a file holds at most `most` requests and `most_bytes` bytes) have -2, -3 before the suffix.
    Questions that the settings' cache holds answers to are left out. Raises DataError where nothing is left to ask.
    """
    items = items_of(settings, conversations, sampling)
    cache = AnswersCache(Path(settings.cache).expanduser()) if settings.cache else None
    asked = [items[places[0]] for key, places in requests.grouped(items).items() if cache is None or cache.get(key) is None]
    if not asked:
        raise DataError(f"{path}: there is nothing to ask: {len(items)} questions, all answered already")
    url = "/v1/chat/completions" if settings.endpoint == "chat" else "/v1/completions"
    lines = ({"custom_id": name(i), "method": "POST", "url": url, "body": i.request(settings, sampling.n)} for i in asked)
    files: list[Path] = []
    for number, part in enumerate(parts(lines, most, most_bytes), 1):
        files.append(path if number == 1 else path.with_stem(f"{path.stem}-{number}"))
        journal.write_rows(files[-1], part)
    return files


def parts(rows: Iterator[dict[str, Any]], most: int, most_bytes: int) -> Iterator[list[dict[str, Any]]]:
    """Rows in lists within both bounds."""
    part: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        bytes_ = len(journal.line(row))
        if part and (len(part) == most or size + bytes_ > most_bytes):
            yield part
            part, size = [], 0
        part.append(row)
        size += bytes_
    yield part


def import_results(
    settings: Http, conversations: Sequence[Conversation], sampling: Sampling, paths: Sequence[Path], prices: Prices | None = None
) -> Imported:
    """Join a batch's output and error files, in any order, to the questions they answer, and keep the answers in the settings' cache.

    `prices`: the batch's own (half of the others as a rule); without them the cost is not known. Raises DataError for a file that
    cannot be read, or that holds no result of these questions.
    """
    items = items_of(settings, conversations, sampling)
    groups = requests.grouped(items)
    known = {name(items[places[0]]): key for key, places in groups.items()}
    found: dict[str, tuple[Answer, ...]] = {}
    reasons: dict[str, str] = {}
    seen: Counter[str] = Counter()
    unknown = unreadable = 0
    total = Usage()
    for line in (line for path in paths for line in lines_of(path)):
        custom = line.get("custom_id") if isinstance(line, Mapping) else None
        if not isinstance(line, Mapping) or not isinstance(custom, str):
            unreadable += 1
            continue
        key = known.get(custom)
        if key is None:
            unknown += 1
            continue
        seen[key] += 1
        outcome, usage = result(line, settings, sampling)
        total = Usage(total.input + usage.input, total.output + usage.output, total.cached + usage.cached)
        if isinstance(outcome, str):
            reasons.setdefault(key, outcome)
        else:
            found.setdefault(key, outcome)
    if not seen and (unknown or unreadable):
        raise DataError(
            f"{', '.join(map(str, paths))}: {unknown + unreadable} lines, and none is a result of these {len(items)} questions; results "
            "fit the rows, model and sampling that the requests were exported with"
        )
    keep(settings, found)
    answers = {place: found[key] for key, places in groups.items() if key in found for place in places}
    return Imported(
        answers=dict(sorted(answers.items())),
        rest=tuple(place for place in range(len(items)) if place not in answers),
        failed=dict(Counter(reason for key, reason in reasons.items() if key not in found)),
        unknown=unknown,
        repeated=sum(count - 1 for count in seen.values()),
        unreadable=unreadable,
        usage=total,
        cost=priced(total, prices),
    )


def lines_of(path: Path) -> Iterator[Any]:
    """Every line as JSON, None for one that is none (a download cut short, say)."""
    try:
        with open(path, "rb") as file:
            for data in file:
                if data.strip():
                    try:
                        yield json.loads(data)
                    except ValueError:
                        yield None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); name the batch's output and error files") from error


def result(line: Mapping[str, Any], settings: Http, sampling: Sampling) -> tuple[tuple[Answer, ...] | str, Usage]:
    """The answers of one line, or why there are none, and what it took."""
    response, error = line.get("response"), line.get("error")
    if not isinstance(response, Mapping):
        code = str(error.get("code", "")) if isinstance(error, Mapping) else ""
        return (EXPIRED if "expired" in code or "cancelled" in code else "rejected" if code else "malformed"), Usage()
    body = response.get("body")
    status = response.get("status_code", 0)
    if status != 200:
        inner = body.get("error") if isinstance(body, Mapping) else None
        code = str(inner.get("code") or "") if isinstance(inner, Mapping) else ""
        kind = verdict(status, code) if isinstance(status, int) else "rejected"
        return ("refused" if kind == "refused" else "server" if kind == "again" else "rejected"), Usage()
    usage = (read_usage(body) if isinstance(body, Mapping) else None) or Usage()
    read = replies.read(body, sampling.n, settings.model, settings.answers_as, sampling, settings.keep_cut)
    return (read.reasons[0] if read.reasons else read.answers), usage


def keep(settings: Http, found: Mapping[str, tuple[Answer, ...]]) -> None:
    """Put answers into the settings' cache, those that are not there yet."""
    if not settings.cache:
        return
    cache = AnswersCache(Path(settings.cache).expanduser())
    try:
        for key, answers in found.items():
            if key not in cache:
                cache.put(key, answers, settings.model)
    finally:
        cache.close()


def priced(usage: Usage, prices: Prices | None) -> float | None:
    """What tokens cost, None without prices."""
    if prices is None:
        return None
    from etude.models.servers.budgets import Budget, Spending

    return Spending(Budget(), prices).cost(usage)
