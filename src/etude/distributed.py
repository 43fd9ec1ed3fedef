"""Processes that tune one model together: who they are, what they add up, and which rows each computes.

Every process has the whole model and all rows. A step's rows are dealt to the processes; each packs and computes its own, and
the gradients of the weights that learn are summed before the norm is taken. So a step is the one that a single process
takes, to rounding. The sum is one of our own (`Group.add`) and not DistributedDataParallel's, because a process may have any
number of passes in a step, none included, and a mean over processes would weigh their tokens wrongly.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from etude import seeds

if TYPE_CHECKING:
    import torch

PATIENCE = timedelta(days=1)
"""How long a process waits for another: the first one may be answering questions meanwhile. One that died is noticed at once by
torchrun, which ends the rest."""

BUCKET = 1 << 24
"""Gradients summed in one message: 64 MiB of float32."""


def deal(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Indices of rows with these lengths (tokens) for each of `count` processes: each row, the longest first, goes to the process
    with the fewest tokens. A pure function; each process's indices rise. With fewer rows than processes some have none."""
    dealt: list[list[int]] = [[] for _ in range(count)]
    tokens = [0] * count
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        process = tokens.index(min(tokens))
        dealt[process].append(index)
        tokens[process] += lengths[index]
    return [sorted(own) for own in dealt]


@dataclass(frozen=True, slots=True)
class Group:
    """This process among those that work together: `rank` (from 0) of `size`. All must call the same methods in the same order."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.rank == 0

    def mine(self, lengths: Sequence[int]) -> list[int]:
        """The indices of this process's rows (`deal`)."""
        return deal(lengths, self.size)[self.rank]

    def seed(self, seed: int) -> int:
        """A seed of this process's own; the first one's is the given one."""
        return seed if self.first else seeds.number(seed, "process", self.rank)

    def sum(self, *numbers: float) -> list[float]:
        """Each number summed over the processes, in float64; the same bits in all of them."""
        if self.size == 1:
            return list(numbers)
        import torch

        total = torch.tensor(numbers, dtype=torch.float64)
        torch.distributed.all_reduce(total)
        return [float(value) for value in total]

    def most(self, count: int) -> int:
        """The largest of the processes' counts."""
        if self.size == 1:
            return count
        import torch

        found = torch.tensor(count)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return int(found)

    def mean(self, value: float, weight: float) -> float:
        """The mean of the processes' values, each with its weight; a value of weight 0 does not count, whatever it is."""
        if self.size == 1:
            return value
        total, weights = self.sum(value * weight if weight else 0.0, weight)
        return total / weights

    def told(self, number: float = 0.0) -> float:
        """The first process's number, in all of them."""
        return self.sum(number if self.first else 0.0)[0]

    def add(self, parameters: Iterable[torch.Tensor]) -> None:
        """Sum the gradients over the processes. A weight that has a gradient in none stays without one."""
        if self.size == 1:
            return
        import torch

        learning = list(parameters)
        present = torch.tensor([parameter.grad is not None for parameter in learning], dtype=torch.int32)
        torch.distributed.all_reduce(present)
        with torch.no_grad():
            for bucket in buckets([p for p, count in zip(learning, present.tolist(), strict=True) if count]):
                kind = torch.promote_types(bucket[0].dtype, torch.float32)  # half precision is summed in float32
                grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
                flat = torch.cat([grad.flatten().to(kind) for grad in grads])
                torch.distributed.all_reduce(flat)
                for parameter, part in zip(bucket, torch.split(flat, [p.numel() for p in bucket]), strict=True):
                    parameter.grad = part.view_as(parameter).to(parameter.dtype)

    def copy(self, parameters: Iterable[torch.Tensor]) -> None:
        """Give every process the first one's weights."""
        if self.size == 1:
            return
        import torch

        for parameter in parameters:
            torch.distributed.broadcast(parameter.detach(), 0)


ALONE = Group()
"""The one process of an ordinary run."""


def buckets(parameters: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """The weights in order, in lists of one type and device, and of at most `BUCKET` numbers (a larger weight has one of its own)."""
    bucket: list[torch.Tensor] = []
    numbers = 0
    for parameter in parameters:
        alike = bucket and (bucket[0].dtype, bucket[0].device) == (parameter.dtype, parameter.device)
        if bucket and not (alike and numbers + parameter.numel() <= BUCKET):
            yield bucket
            bucket, numbers = [], 0
        bucket.append(parameter)
        numbers += parameter.numel()
    if bucket:
        yield bucket


def launched() -> bool:
    """Whether torchrun, `accelerate launch` or the like has started this process as one of several."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys() and int(os.environ["WORLD_SIZE"]) > 1


def join() -> Group:
    """Meet the other processes that this one was `launched` with; alone where there are none. Messages go by gloo, and between
    GPUs by NCCL."""
    if not launched():
        return ALONE
    import torch

    if not torch.distributed.is_initialized():
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    return Group(torch.distributed.get_rank(), torch.distributed.get_world_size())


def leave() -> None:
    """Part from the others, once all have come this far."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
