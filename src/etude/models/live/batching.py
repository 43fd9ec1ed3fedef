"""Continuous batching: a live engine that takes prompts in, and lets them go, between any two tokens.

The steps are those of `decoding`, one token for every row at a time; what differs is that rows have settings of
their own, come whenever they come, may be cancelled, and are told as they grow. A prompt reads only what no earlier
prompt or answer has read before it (`prefixes`), and a long one is read in pieces, so that nobody waits long for it.
Greedy answers are those of `Local.complete`, sampled ones too where seed and stream are the same (but for rounding).
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import cast

import torch

from etude import seeds, virtual_tokens
from etude.failures import Failure, RecipeError
from etude.models.caches import SPARE, new_cache
from etude.models.decoding import Batch, Drawn, Live, densify, leave, read_last, still
from etude.models.live import prefixes
from etude.models.live.choosing import TokenChance, chances, choose
from etude.models.live.detokenizing import Detokenizer
from etude.models.live.guests import Ask, Closed, Full, Guest, Piece, Tell
from etude.models.local import Local
from etude.models.reading import SHORTEST_PREFIX, accepted

CHUNK = 512
"""Most prompt tokens read between two steps of the rows that are being answered; more would make them wait."""
REMEMBERED = 4096
"""Tokens whose keys and values are kept for prompts to come."""
RECENT = 20.0
"""Seconds over which the engine's speed is averaged."""


class Engine:
    """A model on this machine that answers many at once.

    At most `rows` are answered together, and `tokens` of prompts and answers with padding; `queue` more may wait, with
    `queue_tokens` of prompts and answers. `submit` and `cancel` may be called from any thread, `step` from one at a time.
    Raises RecipeError for an encoder-decoder.
    """

    def __init__(
        self,
        local: Local,
        *,
        rows: int = 32,
        tokens: int = 16384,
        queue: int = 128,
        queue_tokens: int = 1 << 18,
        remembered: int = REMEMBERED,
        chunk: int = CHUNK,
    ) -> None:
        if getattr(local.model.config, "is_encoder_decoder", False):
            raise RecipeError("continuous batching is for decoder-only models; this one has an encoder")
        self.local = local
        self.rows, self.tokens, self.queue, self.queue_tokens, self.chunk = rows, tokens, queue, queue_tokens, chunk
        self.stops = local.stops()
        self.names = accepted(local.model)
        self.plain = new_cache(local.model)[1]
        self.ahead = virtual_tokens.count(local.model)
        self.known = prefixes.Prefixes(remembered)
        self.root: prefixes.Start | None = None
        self.batch: Batch | None = None
        self.reading: list[Guest] = []
        self.waiting: deque[Guest] = deque()
        self.changed = threading.Condition()
        self.closed: Failure | None = None
        self.drawn: deque[tuple[float, int]] = deque()
        self.total = 0

    # ---- from any thread

    def submit(self, asks: Sequence[Ask], tells: Sequence[Tell]) -> list[Guest]:
        """Let prompts wait, all or none. `tells` hear of each answer on the thread that steps.

        Raises Full where the queue would be too long, Closed after `close`.
        """
        guests = [
            Guest(
                0,
                seeds.stream(ask.sampling.seed, *ask.stream) if ask.sampling.temperature > 0 else None,
                ask=ask,
                tell=tell,
                words=Detokenizer(self.local.encoder, ask.sampling.stop),
                ended=self.local.ended(ask.sampling),
            )
            for ask, tell in zip(asks, tells, strict=True)
        ]
        with self.changed:
            if self.closed:
                raise self.closed
            # those that can begin at once do not count as waiting
            waiting = len(self.waiting) + len(guests) - max(0, self.rows - self.busy())
            tokens = sum(guest.ask.most for guest in self.waiting) + sum(ask.most for ask in asks)
            if waiting > self.queue or (self.waiting and tokens > self.queue_tokens):
                raise Full(f"{len(self.waiting)} answers are waiting already; try again later", self.patience())
            self.waiting.extend(guests)
            self.changed.notify()
        return guests

    def cancel(self, guests: Sequence[Guest]) -> None:
        """Nobody wants these answers any more: they are let go before the next token, and nothing more is told of them."""
        with self.changed:
            for guest in guests:
                guest.cancelled = True
            self.waiting = deque(guest for guest in self.waiting if not guest.cancelled)
            self.changed.notify()

    def close(self, reason: Failure | None = None) -> None:
        """Take no more prompts, and end every answer with `reason` as its error."""
        with self.changed:
            self.closed = self.closed or reason or Closed("the server is shutting down")
            self.changed.notify()

    def busy(self) -> int:
        """Rows that are read or answered."""
        return len(self.reading) + (len(self.batch.rows) if self.batch else 0)

    def speed(self) -> float:
        """New tokens a second, of late."""
        recent = list(self.drawn)
        if not recent:
            return 0.0
        return sum(count for _, count in recent) / max(time.monotonic() - recent[0][0], 1e-3)

    def patience(self) -> int:
        """Whole seconds, 1 to 60, until a place in the queue may be free: the time of one waiting answer."""
        share = sum(guest.ask.sampling.max_new_tokens for guest in self.waiting) / max(len(self.waiting), 1)
        return max(1, min(60, math.ceil(share / self.speed()) if self.speed() else 1))

    # ---- on the thread that steps

    def work(self) -> None:
        """Step while there is anything to do, wait for more, and return after `close`."""
        while True:
            with self.changed:
                while not (self.closed or self.waiting or self.reading or self.batch):
                    self.changed.wait()
            if self.closed:
                self.fail(self.closed)
                return
            self.step()

    def step(self) -> bool:
        """Let go who is done, take in who waits, and give each row one token; returns whether anything is left to do. A failure
        ends the answers it touches, and they are told."""
        try:
            with still(self.local.model):
                self.release()
                self.admit()
                if self.batch and not all(row.done for row in self.batch.rows):
                    if self.batch.mask.shape[1] <= self.batch.width:
                        self.batch.mask = torch.nn.functional.pad(self.batch.mask, (0, SPARE), value=1)
                    read_last(self.local.model, self.batch)
                    self.grow(self.batch)
        except Exception as error:
            self.fail(error, waiting=False)
        return bool(self.waiting or self.reading or self.batch)

    def release(self) -> None:
        """Take finished and cancelled rows out of the batch; what finished ones read is remembered."""
        self.reading = [guest for guest in self.reading if not guest.cancelled]
        batch = self.batch
        if batch is None:
            return
        for place, guest in enumerate(guests_of(batch)):
            guest.done |= guest.cancelled
            if guest.done and self.plain:
                self.remember(batch, place, guest)
        if all(row.done for row in batch.rows):
            self.batch = None
        elif any(row.done for row in batch.rows):
            leave(batch)
            if self.plain:
                densify(batch, 1)

    def remember(self, batch: Batch, place: int, guest: Guest) -> None:
        """Keep what a row has read for prompts that begin with it."""
        columns = batch.mask[place, : batch.width].nonzero().flatten()
        ids = (*guest.ask.prompt, *guest.ids)[: len(columns) - self.ahead]
        if SHORTEST_PREFIX <= len(ids) <= self.known.tokens:
            self.known.keep(prefixes.Start(ids, prefixes.row_of(batch.cache, place, columns)))

    def admit(self) -> None:
        """Read waiting prompts, as far as there is room and no longer than a `chunk`, and let their rows join."""
        with self.changed:
            if self.plain or self.batch is None:
                while self.waiting and self.fits(self.waiting[0]):
                    self.reading.append(self.waiting.popleft())
        ready = self.next_to_read() if self.plain else self.reading
        if not ready:
            return
        fresh = self.read(ready)
        self.grow(fresh)
        if self.batch is None:
            self.batch = fresh
        else:
            join(self.batch, fresh)
        # only now: whoever is in a step that fails must be found, and told
        self.reading = [guest for guest in self.reading if not any(guest is one for one in ready)]

    def fits(self, guest: Guest) -> bool:
        """Whether there is room for one row more; an empty engine has room for any."""
        others = [*self.reading, *(guests_of(self.batch) if self.batch else [])]
        longest = max((one.ask.most for one in (*others, guest)), default=0) + self.ahead
        return not others or (len(others) < self.rows and (len(others) + 1) * longest <= self.tokens)

    def next_to_read(self) -> list[Guest]:
        """The prompts to read to their ends now. One that is longer than a chunk is read a chunk further, alone; one whose
        start another is about to read waits for that."""
        ready: list[Guest] = []
        left = self.chunk
        for guest in self.reading:
            prompt = guest.ask.prompt
            if any(prefixes.common(prompt[:-1], one.ask.prompt) >= guest.have + SHORTEST_PREFIX for one in ready):
                continue
            start, length = self.known.best(prompt)
            if start is not None and length > guest.have:
                guest.start, guest.have, guest.cached = start, length, length
            if len(prompt) - guest.have <= left:
                ready.append(guest)
                left -= len(prompt) - guest.have
            elif not ready:
                part = prompt[: guest.have + self.chunk]
                cache, *_ = prefixes.read(self.local.model, [part], [self.begin(guest)])
                guest.start, guest.have = prefixes.Start(part, tuple((layer.keys, layer.values) for layer in cache.layers)), len(part)
                break
            else:
                break
        return ready

    def begin(self, guest: Guest) -> tuple[prefixes.Start, int]:
        """What is already read of a prompt, and how many of its ids."""
        if guest.start is None:
            self.root = self.root or prefixes.root(self.local.model)
        return guest.start or cast(prefixes.Start, self.root), guest.have

    def read(self, ready: Sequence[Guest]) -> Batch:
        """The rows of these prompts, read to their ends."""
        model = self.local.model
        cache, real, following, logits, order = prefixes.read(model, [guest.ask.prompt for guest in ready], [self.begin(g) for g in ready])
        rows: list[Live] = [ready[index] for index in order]
        mask = torch.nn.functional.pad(real, (0, SPARE), value=1)
        batch = Batch(cache, self.plain, self.names, rows, mask, real.shape[1], following, logits, None)
        for place, guest in enumerate(guests_of(batch)):
            guest.start = None
            if self.plain:
                self.remember(batch, place, guest)
        return batch

    def grow(self, batch: Batch) -> None:
        """Choose each row's next token from the logits and tell what became certain."""
        assert batch.logits is not None
        guests = guests_of(batch)
        batch.last, broken = choose(batch.logits, guests)
        asked = [place for place, guest in enumerate(guests) if guest.ask.top is not None and not guest.done]
        told = dict(zip(asked, chances(batch.logits[asked], batch.last[asked], [guests[i].ask.top or 0 for i in asked]), strict=True))
        batch.logits = None
        count = 0
        for place, (guest, token) in enumerate(zip(guests, batch.last.tolist(), strict=True)):
            if guest.done or guest.cancelled:
                continue
            if place in broken:
                guest.done = True
                guest.tell(Piece(error=broken[place]))
                continue
            count += 1
            self.take(guest, token, told.get(place))
        self.count(count)

    def take(self, guest: Guest, token: int, chance: TokenChance | None) -> None:
        """One token more for one row, and whether it is the last."""
        guest.ids.append(token)
        sampling = guest.ask.sampling
        stopped = token in self.stops or (guest.ended is not None and guest.ended(guest.ids))
        guest.done = stopped or len(guest.ids) >= sampling.max_new_tokens
        place = guest.words.given + len(guest.words.held)
        piece = "" if token in self.stops else guest.words.push(token)
        if chance is not None and token not in self.stops:
            guest.held.append((place, chance))
        answer = None
        if guest.done:
            answer = self.local.answer(Drawn(0, tuple(guest.ids), "stop" if stopped else "length", guest.near_ties), sampling)
            piece += guest.words.rest(answer.text)
        told = tuple(chance for place, chance in guest.held if place < guest.words.given)
        guest.held = [(place, chance) for place, chance in guest.held if place >= guest.words.given]
        if piece or told or answer:
            guest.tell(Piece(piece, told, answer, None, guest.cached))

    def count(self, tokens: int) -> None:
        """Note new tokens for `speed`."""
        now = time.monotonic()
        self.total += tokens
        self.drawn.append((now, tokens))
        while self.drawn[0][0] < now - RECENT:
            self.drawn.popleft()

    def fail(self, error: Exception, waiting: bool = True) -> None:
        """End every answer that has begun, and those that wait too, with an error."""
        with self.changed:
            gone = [*(guests_of(self.batch) if self.batch else []), *self.reading]
            self.batch, self.reading = None, []
            if waiting:
                gone += self.waiting
                self.waiting.clear()
        for guest in gone:
            if not (guest.done or guest.cancelled):
                guest.done = True
                guest.tell(Piece(error=error))


def guests_of(batch: Batch) -> list[Guest]:
    """The batch's rows, which are all guests."""
    return cast(list[Guest], batch.rows)


def join(batch: Batch, fresh: Batch) -> None:
    """Add rows that have just been read, their last tokens chosen, to a batch of plain attention; all end together."""
    assert batch.last is not None
    assert fresh.last is not None
    for index, (layer, other) in enumerate(zip(batch.cache.layers, fresh.cache.layers, strict=True)):
        if fresh.width > batch.width:
            batch.cache.layers[index] = type(layer).stacked([layer, other])
        else:
            layer.extend(other)
    width = max(batch.width, fresh.width)
    both = [torch.nn.functional.pad(one.mask[:, : one.width], (width - one.width, 0)) for one in (batch, fresh)]
    batch.mask = torch.nn.functional.pad(torch.cat(both), (0, SPARE), value=1)
    batch.width = width
    batch.positions = torch.cat([batch.positions, fresh.positions])
    batch.last = torch.cat([batch.last, fresh.last])
    batch.rows = [*batch.rows, *fresh.rows]
