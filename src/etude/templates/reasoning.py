"""Chain of thought: an answer written with its reasoning, and the answer found again in what a model wrote.

The form is "reasoning, then `The answer is X.`" (Wei et al. 2022, arXiv 2201.11903, and FLAN's CoT sets).
"""

from __future__ import annotations

import re

NUMBER = re.compile(r"(?<![\w.])[-+−]?[$€£]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d)/\d+)?(?<=\d)%?")
"""A number as text has it: sign, currency, thousands with commas, decimals or a fraction, percent."""
STATED = re.compile(r"\banswer\s*(?:is\b\s*:?|:)[ \t]*", re.IGNORECASE)
"""What stands before X in 'the answer is X', 'Answer: X', 'final answer is: X'."""
NEXT_SENTENCE = re.compile(r"(?<!\b[A-Z])(?<!\b[A-Z][a-z])(?<!\b[A-Z][a-z][a-z])[.!?]\s+(?=[A-Z])")
"""Where a sentence ends and another begins; 'Dr. No' and 'J. Doe' go on."""
BOXED = ("\\boxed{", "\\fbox{")
HASHES = re.compile(r"^[ \t]*####[ \t]*(?P<rest>[^\n]+)\s*\Z", re.MULTILINE)
"""How GSM8K's rows mark the final answer: on their last line."""
CALCULATOR = re.compile(r"<<[^<>\n]*>>")
"""GSM8K's calculator annotations, such as <<48/2=24>>; the words around them hold the same number."""


def stated(rationale: str, answer: str) -> str:
    """The reasoning, and on a line of its own 'The answer is X.'"""
    return f"{rationale.strip()}\nThe answer is {answer.strip().removesuffix('.')}."


def answer_of(text: str) -> str:
    """The final answer in a text with reasoning.

    What the last mark says, be it 'the answer is' (or 'answer:'), `\\boxed{...}`, or `####` on the last line
    (GSM8K); without any of them the last number; else the whole text, stripped. A full stop at the end, quotes,
    asterisks and dollar signs around it are left out; numbers stay as they were written.
    """
    if answer := marked_answer(text):
        return answer
    numbers = [found[0] for found in NUMBER.finditer(text) if found[0]]
    return numbers[-1] if numbers else text.strip()


def marked_answer(text: str) -> str:
    """What the last mark of an answer says, as `answer_of` has it; "" where there is no mark."""
    marks = [(found.end(), after(text, found.end())) for found in STATED.finditer(text)]
    marks += [(found.start("rest"), found["rest"]) for found in HASHES.finditer(text)]
    marks += [boxed(text)]
    return next((answer for _, said in sorted(marks, reverse=True) if (answer := bare(said))), "")


def after(text: str, place: int) -> str:
    """The sentence at a place, or the next line that has words where none follow on this one, as after a heading."""
    rest, _, further = text[place:].partition("\n")
    if not rest.strip(" *_`:."):
        rest = next((line for line in further.splitlines() if line.strip(" *_`")), "")
    return first_sentence(rest)


def boxed(text: str) -> tuple[int, str]:
    """Where the last `\\boxed{...}` begins and its content, with inner braces; (-1, "") without one."""
    start, mark = max((text.rfind(mark), mark) for mark in BOXED)
    depth, begin = 1, start + len(mark)
    for position in range(begin, len(text) if start >= 0 else 0):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if not depth:
            return begin, text[begin:position]
    return -1, ""


def first_sentence(text: str) -> str:
    """The text up to where a second sentence begins."""
    return NEXT_SENTENCE.split(text, maxsplit=1)[0]


def bare(text: str) -> str:
    """An answer without the full stop, quotes and marks around it."""
    kept = text.strip()
    while True:
        less = kept.removesuffix(".").strip().strip("*`").strip()
        for left, right in (('"', '"'), ("'", "'"), ("“", "”"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
            if len(less) > len(left + right) and less.startswith(left) and less.endswith(right):
                less = less[len(left) : -len(right)].strip()
        if less == kept:
            return kept
        kept = less


def worked(text: str) -> tuple[str, str] | None:
    """The reasoning and the answer of one text in GSM8K's form (`reasoning\\n#### answer`), the calculator
    annotations left out; None for a text of another form."""
    found = list(HASHES.finditer(text))
    if not found or not text[: found[-1].start()].strip():
        return None
    return CALCULATOR.sub("", text[: found[-1].start()]).strip(), found[-1]["rest"].strip()
