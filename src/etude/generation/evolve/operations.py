"""The ways in which Evol-Instruct changes an instruction (Xu et al. 2023, arXiv 2304.12244; for code, Luo et al. 2023,
arXiv 2306.08568), in our words. Topic extension and method variation are two more ways into breadth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from etude.generation.quoting import SAID, quoted

Variant = Literal["text", "code"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One way to change an instruction: what the model is told to do, and whether the result is a harder version (`depth`) or a new
    instruction beside it (`breadth`)."""

    kind: Literal["depth", "breadth"]
    told: str


TEXT = {
    "constraints": Operation("depth", "Make it harder by one further constraint or requirement that the answer has to meet."),
    "deepen": Operation(
        "depth", "Where it asks about some matter, ask about more of that matter, and go further into its causes and detail."
    ),
    "concretise": Operation("depth", "Put something more specific in place of what it says in general words."),
    "reasoning": Operation(
        "depth", "Where it can be answered in one or two easy steps, change it so that the answer has to be worked out in several."
    ),
    "complicate_input": Operation(
        "depth",
        "Give it material in a formal notation to work on: a table, a piece of code, a query, a log, XML, JSON, a shell command or the "
        "like. Write that material out in full, and let the task depend on it.",
    ),
    "mutation": Operation("breadth", "It belongs to the same field, is about something rarer, and is about as long and as hard."),
    "topic_extension": Operation(
        "breadth", "It asks for the same kind of work, on a neighbouring topic that the given one does not touch, and is about as hard."
    ),
    "method_variation": Operation(
        "breadth",
        "It has the same aim, and demands another way there: another method, another form of answer, or another point of view.",
    ),
}
"""For any text: five ways into depth and the mutation are the paper's."""

CODE = {
    "constraints": Operation("depth", "Add one further constraint or requirement of about ten words."),
    "rarer_requirement": Operation("depth", "Put a less common, more specific requirement in place of one that is usual for such tasks."),
    "reasoning": Operation("depth", "Where a few lines of obvious code would do, add steps that have to be thought through."),
    "misdirection": Operation(
        "depth", "Add a piece of code with a mistake in it, given as a reference, which leads a careless reader astray."
    ),
    "complexity": Operation("depth", "Demand a better running time or less memory than the obvious solution has, and say which."),
}
"""For programming tasks."""

OPERATIONS: dict[Variant, dict[str, Operation]] = {"text": TEXT, "code": CODE}

TASKS: dict[Variant, str] = {"text": "an instruction for an AI assistant", "code": "a programming task"}
LEAKS = (
    "given instruction", "rewritten instruction", "created instruction", "between the marks", "<instruction ", "</instruction ",
    "<input ", "</input ", "given prompt", "rewritten prompt", "created prompt", "#new prompt",
)  # fmt: skip
"""Words by which a prompt speaks of its parts: ours, and those of the paper's fourth rule, which models have read. In lower case."""


def prompt(variant: Variant, name: str, instruction: str, material: str) -> str:
    """What a model is told to change an instruction by one operation."""
    operation = OPERATIONS[variant][name]
    what = TASKS[variant]
    if operation.kind == "depth":
        short = "" if name in ("complicate_input", "misdirection") else " Add 10 to 20 words and not more."
        told = (
            f"The given instruction is {what}. Rewrite it into a more demanding one, which a person can still understand and answer. "
            f"{operation.told}{short} Keep the material that comes with it, such as figures, tables and code."
        )
        called = "rewritten instruction"
    else:
        told = f"The given instruction is {what}. Create a new one after its example, which a person can answer. {operation.told}"
        called = "created instruction"
    parts = [quoted("instruction", instruction), *([quoted("input", material)] if material else [])]
    rest = (
        f"Do not answer either of them. Reply with the {called} alone: no heading, no introduction and no explanation. It has to make "
        "sense to somebody who has not seen the given instruction, so it must not mention it."
    )
    return "\n\n".join([SAID, told, *parts, rest])


def compared(first: str, second: str) -> str:
    """What a judge is told: whether two instructions ask for the same (the paper's first rule)."""
    return "\n\n".join(
        [
            SAID,
            "Compare two instructions. They are equal when both set the same constraints and requirements, and both go as deep and as "
            "wide into their matter.",
            quoted("first", first),
            quoted("second", second),
            VERDICT,
        ]
    )


VERDICT = "Reply with one word: EQUAL or DIFFERENT."
AGAIN = f"I could not read a verdict in that reply. {VERDICT}"
