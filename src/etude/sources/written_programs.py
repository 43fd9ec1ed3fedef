"""Small Python functions written by lot: arithmetic, conditions, loops, texts, lists, dictionaries, calls of a helper.

Each is a pure function of a seed and a number. It always ends: loops go over what is given or count down, and nothing that a loop counts
by is changed in it. It may be long on its way, or raise nothing at all; what does not suit is for the tracer to refuse.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from etude import seeds

VERSION = 1
"""Of the programs: another number means that a seed gives other ones."""
Kind = Literal["int", "ints", "text", "words", "table"]
KINDS: tuple[Kind, ...] = ("int", "ints", "text", "words", "table")
Thing = TypeVar("Thing")

VERBS = ("add", "build", "check", "collect", "count", "find", "fold", "mix", "pick", "rank", "scan", "score", "shift", "sift", "weigh")
NOUNS = ("bags", "cards", "coins", "days", "keys", "marks", "parts", "rows", "seats", "steps", "stones", "tags", "tiles", "turns", "units")
PARAMETERS: dict[Kind, tuple[str, ...]] = {
    "int": ("n", "k", "limit", "size", "start"),
    "ints": ("values", "nums", "costs", "points"),
    "text": ("text", "word", "name"),
    "words": ("names", "items", "labels"),
    "table": ("stock", "prices", "ages"),
}
RESULTS: dict[Kind, tuple[str, ...]] = {
    "int": ("total", "result", "score", "best"),
    "ints": ("out", "kept", "found"),
    "text": ("line", "joined", "code"),
    "words": ("out", "kept", "found"),
    "table": ("counts", "seen", "sums"),
}
EMPTY: dict[Kind, str] = {"ints": "[]", "text": "''", "words": "[]", "table": "{}"}
LETTERS = ("ant", "bee", "cat", "cow", "dog", "elk", "fox", "hen", "owl", "pig", "ram", "yak")
HELPERS = ("adjust", "change", "clip", "step")


@dataclass(frozen=True, slots=True)
class Traceable:
    """A program to trace: its id, its code (a statement a line), the function that the questions are about, and the calls."""

    id: str
    code: str
    entry: str
    calls: tuple[str, ...]


def write_program(seed: int, number: int, calls: int) -> Traceable:
    """Program `number` of a seed, with so many different calls (fewer where the lot gives the same ones)."""
    writer = Writer(random.Random(seeds.number(seed, "program", VERSION, number)))
    code, entry, kinds = writer.program()
    found = dict.fromkeys(f"{entry}({', '.join(writer.value(kind) for kind in kinds)})" for _ in range(2 * calls))
    return Traceable(f"written-{seed}-{number}", code, entry, tuple(found)[:calls])


class Writer:
    """Writes one program. `scope` holds the variables there are, by kind; `fixed` those that must not be assigned to."""

    def __init__(self, lot: random.Random) -> None:
        self.lot = lot
        self.scope: dict[str, Kind] = {}
        self.fixed: set[str] = set()
        self.lines: list[str] = []
        self.depth = 1
        self.helper = ""

    # randrange alone is drawn from: what it gives for a seed is the same in every Python

    def one(self, choices: Sequence[Thing]) -> Thing:
        """One of several."""
        return choices[self.lot.randrange(len(choices))]

    def chance(self, percent: int) -> bool:
        """True so often."""
        return self.lot.randrange(100) < percent

    def fresh(self, names: Sequence[str]) -> str:
        """A name that is not taken yet."""
        free = [name for name in names if name not in self.scope] or [f"{names[0]}{number}" for number in range(2, 9)]
        return self.one([name for name in free if name not in self.scope])

    def say(self, line: str) -> None:
        """One more line, as deep as we are."""
        self.lines.append("    " * self.depth + line)

    def of(self, kind: Kind) -> list[str]:
        """The variables of a kind."""
        return [name for name, own in self.scope.items() if own == kind]

    def program(self) -> tuple[str, str, list[Kind]]:
        """(code, function, the kinds of its parameters)"""
        before = self.helping() if self.chance(30) else []
        entry = f"{self.one(VERBS)}_{self.one(NOUNS)}"
        kinds = [self.one(KINDS) for _ in range(1 + self.lot.randrange(2))]
        if "int" not in kinds and self.chance(60):
            kinds.append("int")
        names = []
        for kind in kinds:
            names.append(self.fresh(PARAMETERS[kind]))
            self.scope[names[-1]] = kind
        self.fixed = set(names)
        result = self.begin(kinds)
        for _ in range(1 + self.chance(25)):
            self.block(result)
        if self.scope[result] == "int" and self.chance(20):
            self.condition(result)
        self.say(f"return {self.answer(result)}")
        before = before if any(f"{self.helper}(" in line for line in self.lines) else []
        text = "\n".join([*before, f"def {entry}({', '.join(names)}):", *self.lines])
        return ast.unparse(ast.parse(text)), entry, kinds

    def helping(self) -> list[str]:
        """A function of one number that the other one calls."""
        self.helper = self.one(HELPERS)
        low, factor, less = 1 + self.lot.randrange(6), 2 + self.lot.randrange(2), 1 + self.lot.randrange(4)
        test = self.one((f"x > {low}", f"x % {factor} == 0", f"x < {low + 3}"))
        first = self.one((f"x - {less}", f"x * {factor}", f"x // {factor}"))
        second = self.one((f"x + {less}", f"x * {factor} + 1", "x"))
        return [f"def {self.helper}(x):", f"    if {test}:", f"        return {first}", f"    return {second}"]

    def begin(self, kinds: list[Kind]) -> str:
        """The variable that the result is gathered in, set."""
        kind = self.one([one for one in KINDS if one != "words" or "words" in kinds])
        name = self.fresh(RESULTS[kind])
        self.say(f"{name} = {EMPTY.get(kind) or self.lot.randrange(4)}")
        self.scope[name] = kind
        if self.chance(35):
            other = self.fresh(("a", "b", "c", "d"))
            self.say(f"{other} = {self.number(2)}")
            self.scope[other] = "int"
        return name

    def block(self, result: str) -> None:
        """A loop, or a condition."""
        ways = [self.over_range, self.counting_down]
        if [kind for kind in self.scope.values() if kind != "int"]:
            ways += [self.over_values] * 4
        if self.scope[result] == "int":
            ways.append(self.condition)
        self.one(ways)(result)

    def over_values(self, result: str) -> None:
        """A loop over what a list, text or dictionary holds."""
        choices = [name for name in self.fixed if self.scope[name] != "int"]
        if not choices:
            return self.over_range(result)
        name = self.one(sorted(choices))
        kind = self.scope[name]
        if kind == "table":
            key, value = self.fresh(("key", "item")), self.fresh(("amount", "value"))
            self.loop(f"for {key}, {value} in {name}.items():", {key: "text", value: "int"}, result)
            return None
        item = self.fresh({"ints": ("v", "x", "p"), "text": ("ch", "letter"), "words": ("w", "s")}.get(kind, ("v",)))
        return self.loop(f"for {item} in {name}:", {item: "int" if kind == "ints" else "text"}, result)

    def over_range(self, result: str) -> None:
        """A loop that counts up."""
        name = self.fresh(("i", "j", "t"))
        self.loop(f"for {name} in range({self.one(('1, 3', '2', '3', '2, 5', '0, 5, 2'))}):", {name: "int"}, result)

    def counting_down(self, result: str) -> None:
        """A loop while a number that every round makes smaller is large enough."""
        name = self.fresh(("left", "m", "rest"))
        numbers = [one for one in self.of("int") if one in self.fixed]
        self.say(f"{name} = {self.one(numbers) if numbers else 9 + self.lot.randrange(8)}")
        self.scope[name] = "int"
        self.fixed.add(name)
        self.say(f"while {name} > {1 + self.lot.randrange(3)}:")
        self.depth += 1
        self.update(result)
        self.say(f"{name} {self.one(('-= 2', '-= 3', '//= 2', '-= 4'))}")
        self.depth -= 1

    def loop(self, head: str, names: dict[str, Kind], result: str) -> None:
        """A `for` with a body that updates the result."""
        self.say(head)
        before = dict(self.scope)
        self.scope |= names
        self.fixed |= set(names)
        self.depth += 1
        if self.chance(25):
            self.say(f"if {self.test(list(names))}:")
            self.say(f"    {self.one(('continue', 'break', 'continue'))}")
        if self.chance(55):
            self.branches(result, list(names))
        else:
            self.update(result)
        self.depth -= 1
        self.scope = {name: kind for name, kind in self.scope.items() if name in before}
        self.fixed -= set(names)

    def branches(self, result: str, about: list[str]) -> None:
        """if, perhaps elif, perhaps else, each with an update."""
        tests = list(dict.fromkeys(self.test(about) for _ in range(4)))
        self.say(f"if {tests.pop(0)}:")
        self.depth += 1
        self.update(result)
        self.depth -= 1
        for word in ["elif"] * bool(tests and self.chance(35)) + ["else"] * self.chance(65):
            self.say(f"elif {tests[0]}:" if word == "elif" else "else:")
            self.depth += 1
            self.update(result)
            self.depth -= 1

    def condition(self, result: str) -> None:
        """Branches outside a loop."""
        self.branches(result, [result])

    def update(self, result: str) -> None:
        """One statement that changes the result (or another number)."""
        others = [name for name in self.of("int") if name not in self.fixed and name != result]
        if others and self.chance(20):
            self.say(f"{self.one(others)} {self.one(('+=', '-='))} {self.number(1)}")
        kind = self.scope[result]
        if kind == "int":
            self.say(f"{result} {self.one(('+=', '+=', '-=', '='))} {self.number(2)}")
        elif kind == "ints":
            self.say(f"{result}.append({self.number(2)})")
        elif kind == "text":
            piece = self.piece()
            again = piece if piece.startswith("str(") else f"{piece}.upper()"
            self.say(f"{result} {self.one((f'+= {piece}', f'= {piece} + {result}', f'+= {again}'))}")
        elif kind == "words":
            self.say(f"{result}.append({self.piece()})")
        else:
            key = self.piece() if self.of("text") else self.number(1)
            self.say(f"{result}[{key}] = {self.one((f'{result}.get({key}, 0) + 1', self.number(2)))}")

    def piece(self) -> str:
        """A text."""
        texts = [name for name in self.of("text") if name in self.fixed]
        if not texts:
            return self.one((repr(self.one(LETTERS)), f"str({self.number(1)})"))
        name = self.one(texts)
        return self.one((name, f"{name}[:1]", name, f"{name}[::-1]"))

    def number(self, depth: int) -> str:
        """An expression that is a number."""
        names = self.of("int")
        if depth <= 0 or self.chance(25):
            return self.one(names) if names and self.chance(75) else str(1 + self.lot.randrange(9))
        left, right = self.number(depth - 1), self.number(depth - 1)
        ways = [f"{left} {'+' if left == right else self.one(('+', '-'))} {right}"]
        ways.append(f"({left}) {self.one(('* 2', '* 3', '% 3', '% 4', '// 2'))}")
        ways += [f"len({name})" for name in self.scope if self.scope[name] != "int"]
        ways += [f"{self.one(('max', 'min', 'sum'))}({name})" for name in self.of("ints") if name in self.fixed]
        ways += [f"{name}[{self.lot.randrange(2)}]" for name in self.of("ints") if name in self.fixed]
        ways += [f"{self.one(('max', 'min'))}({self.one(names)}, {2 + self.lot.randrange(6)})"] if names else []
        ways += [f"{self.helper}({self.number(0)})"] * 2 if self.helper else []
        return self.one(ways)

    def test(self, about: list[str]) -> str:
        """A condition, mostly on what the loop goes through."""
        name = self.one(about)
        if self.scope[name] == "text":
            inside = repr("".join(sorted({word[0] for word in LETTERS[:: 1 + self.lot.randrange(2)]}))[:5])
            return self.one(
                (f"{name}[:1] in {inside}", f"{name}[-1:] in 'aeiou'", f"len({name}) > {self.lot.randrange(4)}", f"{name} > 'h'")
            )
        bound = self.one([str(1 + self.lot.randrange(7)), *(other for other in self.of("int") if other != name)])
        tests = [f"{name} % {self.one((2, 3))} == {self.lot.randrange(2)}", f"{name} {self.one(('>', '<', '>=', '!='))} {bound}"]
        tests += [f"{name} in {other}" for other in self.of("ints") if f" in {other}:" not in "".join(self.lines[-2:])]
        others = [other for other in self.of("int") if other != name]
        if others:
            tests.append(f"{name} > {self.lot.randrange(5)} {self.one(('and', 'or'))} {self.one(others)} < {2 + self.lot.randrange(6)}")
        return self.one(tests)

    def answer(self, result: str) -> str:
        """What is returned."""
        kind = self.scope[result]
        others = [name for name in self.of("int") if name != result]
        if kind == "int":
            return self.one((result, f"{result} + {self.one(others)}", f"{result} * 2")) if others else result
        if kind == "text":
            return self.one((result, result, f"len({result})", f"{result}[::-1]"))
        return self.one((result, result, f"len({result})")) if kind == "table" else self.one((result, result, f"{result}[::-1]"))

    def value(self, kind: Kind) -> str:
        """An input of a kind, as it is written."""
        few = 2 + self.lot.randrange(2)
        if kind == "int":
            return str(self.lot.randrange(1, 15))
        if kind == "ints":
            return repr([self.lot.randrange(10) for _ in range(few)])
        if kind == "text":
            return repr(self.one(LETTERS))
        words = [self.one(LETTERS) for _ in range(few)]
        return repr(words) if kind == "words" else repr({word: self.lot.randrange(1, 10) for word in words})
