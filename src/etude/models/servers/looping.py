"""An event loop in a thread of its own, and work done on it from ordinary code: many jobs at once, handed over as they end."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Generic, TypeVar

from etude.failures import Stopped

T = TypeVar("T")

AHEAD = 4
"""Results that may wait for the caller, in multiples of the jobs that run at once; then no new job begins."""


class Loop:
    """Starts its thread when first used."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread: threading.Thread | None = None

    def running(self) -> asyncio.AbstractEventLoop:
        """The loop, started if need be."""
        if self.loop is None:
            self.loop = asyncio.new_event_loop()
            self.thread = threading.Thread(target=self.loop.run_forever, name="etude-http", daemon=True)
            self.thread.start()
        return self.loop

    def call(self, job: Awaitable[T]) -> T:
        """One job's result."""

        async def run() -> T:
            return await job

        return asyncio.run_coroutine_threadsafe(run(), self.running()).result()

    def each(self, jobs: Sequence[Callable[[], Awaitable[T]]], together: int) -> Iterator[tuple[int, T]]:
        """(place, result) of jobs as they end, in any order, at most `together` at once.

        A job that raises Stopped lets the others that run end and be handed over, and begins no new one; any other error cancels
        them. So does giving up the iterator, or Ctrl-C while it waits: when this has returned, nothing of it runs any more.
        """
        loop = self.running()
        several = Several(jobs, together)
        loop.call_soon_threadsafe(several.start)
        ended = False
        try:
            while (found := several.results.get()) is not None:
                yield from found
                loop.call_soon_threadsafe(several.release, len(found))
            ended = True
        finally:
            if not ended:
                loop.call_soon_threadsafe(several.cancel)
                while several.results.get() is not None:
                    pass
        several.raise_errors()

    def close(self) -> None:
        """End the loop and its thread."""
        if self.loop and self.thread:
            self.call(settled())
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()
            self.loop = self.thread = None


async def settled() -> None:
    """Two more rounds of the loop: a transport that was closed lets go of its socket in the next one."""
    for _ in range(2):
        await asyncio.sleep(0)


class Several(Generic[T]):
    """Jobs that run on one loop, and what comes of them for another thread: `results` gets lists of (place, result), and None at
    the end. All but `results` and `raise_errors` belongs to the loop."""

    def __init__(self, jobs: Sequence[Callable[[], Awaitable[T]]], together: int) -> None:
        self.jobs = jobs
        self.together = together
        self.places = iter(range(len(jobs)))
        self.room = asyncio.Semaphore(together * AHEAD)
        self.results: queue.SimpleQueue[list[tuple[int, T]] | None] = queue.SimpleQueue()
        self.ended: list[tuple[int, T]] = []  # handed over together at the end of the loop's round: each hand-over wakes a thread
        self.stopped: list[Stopped] = []
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self.task = asyncio.get_running_loop().create_task(self.run())
        self.task.add_done_callback(self.finish)

    async def run(self) -> None:
        """All workers, until the jobs or the will to go on are used up."""
        workers = [asyncio.ensure_future(self.work()) for _ in range(min(self.together, len(self.jobs)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def work(self) -> None:
        """One job after the other, as long as the caller keeps up."""
        while not self.stopped:
            await self.room.acquire()
            place = next(self.places, None)
            if place is None or self.stopped:
                return
            try:
                found = await self.jobs[place]()
            except Stopped as error:
                self.stopped.append(error)
                return
            if not self.ended:
                asyncio.get_running_loop().call_soon(self.hand_over)
            self.ended.append((place, found))

    def hand_over(self) -> None:
        """Give what has ended to the other thread."""
        if self.ended:
            self.results.put(self.ended.copy())
            self.ended.clear()

    def finish(self, task: asyncio.Task[None]) -> None:
        """Say that nothing more will come."""
        self.hand_over()
        self.results.put(None)

    def release(self, times: int) -> None:
        """The caller has taken so many results."""
        for _ in range(times):
            self.room.release()

    def cancel(self) -> None:
        """End what runs."""
        if self.task:
            self.task.cancel()

    def raise_errors(self) -> None:
        """After the end: raise what a job raised."""
        if self.task:
            self.task.result()
        if self.stopped:
            raise self.stopped[0]
