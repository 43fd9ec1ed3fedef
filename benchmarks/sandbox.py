"""What a program costs in the jail: 164 tasks x 10 answers, each different, on every rung that is here.

    python benchmarks/sandbox.py [--tasks 164] [--answers 10] [--workers N]

Prints, a rung: seconds in all, programs a second, and milliseconds a program on one core beyond running its text in this process.
"""

from __future__ import annotations

import argparse
import time

from etude.sandbox import ladder, runner
from etude.sandbox.programs import Limits, Program

BODY = """
from typing import List

def close_pairs_{n}(numbers: List[float], most: float) -> bool:
    numbers = sorted(numbers)
    return any(b - a < most for a, b in zip(numbers, numbers[1:]))
"""
CHECKS = "assert close_pairs_{n}([1.0, 2.8, 3.0], 0.3)\nassert not close_pairs_{n}([1.0, 2.0], 0.5)\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=164)
    parser.add_argument("--answers", type=int, default=10)
    parser.add_argument("--workers", type=int, default=runner.cores())
    given = parser.parse_args()
    count = given.tasks * given.answers
    programs = [Program(BODY.format(n=n), CHECKS.format(n=n), f"close_pairs_{n}") for n in range(count)]
    began = time.perf_counter()
    for program in programs[:100]:
        exec(program.code + program.tests, {})
    bare = (time.perf_counter() - began) / 100
    for name, available, why in ladder.rungs():
        if not available:
            print(f"{name:12} not here: {why}")
            continue
        began = time.perf_counter()
        verdicts = runner.judge(programs, ladder.choose(name), Limits(), given.workers)  # type: ignore[arg-type]
        took = time.perf_counter() - began
        passed = sum(verdict.passed for verdict in verdicts)
        overhead = took * given.workers / count - bare
        speed = f"{count / took:.0f} a second, {1000 * overhead:.1f} ms each"
        print(f"{name:12} {passed} of {count} passed in {took:.1f} s on {given.workers} workers: {speed}")


if __name__ == "__main__":
    main()
