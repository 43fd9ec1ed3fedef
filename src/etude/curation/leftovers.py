"""Text that belongs to the making of a data set and not to its rows: prompt text, headers of other rows, markup, swapped fields."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from etude.catalog import Settings
from etude.curation.deciding import Found, decide
from etude.curation.rows import Beside, Row, Verdicts
from etude.curation.texts import answers, closed, questions, shown

HEADER = re.compile(
    r"^[ \t]*(?:#{1,6} ?|\*\*|\d{1,3}[.)] *)?(?P<name>instruction|input|context|question|prompt|task(?: \d+)?|human|user|output|"
    r"response|answer|"
    r"assistant|gpt|completion)(?:\*\*)?[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)
ASKS = ("instruction", "prompt", "task", "human", "user", "question")
REPLIES = ("output", "response", "answer", "assistant", "gpt", "completion")
MARKED = re.compile(r"^[ \t]*#{2,4} ?(?:instruction|response|human|assistant)[ \t]*:", re.IGNORECASE | re.MULTILINE)

WANTS_DIALOGUE = re.compile(
    r"\b(?:dialog|conversation|chat|script|interview|exchange|role-?play|faq|frequently|questions|quiz|q ?& ?a|question[- ]answer|"
    r"transcript|scene|"
    r"prompts?|tasks?|examples?|instructions?|template|generate a question|create a question|form)\b|\bdialogue",
    re.IGNORECASE,
)
"""Requests that a text of headers answers rightly."""

LEAKED = re.compile(
    r"below is an instruction that describes a task|write a response that appropriately completes the request"
    r"|#?\b(?:given|rewritten|created) prompt#|\brewritten prompt\b|\bgiven prompt\b"
    r"|come up with a series of tasks|you are asked to come up with a set of"
    r"|a chat between a curious (?:user|human) and an artificial intelligence assistant"
    r"|<\|im_start\|>|<\|start_header_id\|>|<\|(?:user|assistant|system)\|>|\[/?INST\]|<<SYS>>|<start_of_turn>",
    re.IGNORECASE,
)
"""Text of prompts that made data sets (Alpaca, Self-Instruct, Evol-Instruct, Vicuna), and chat markup."""
LEAK_HINTS = ("prompt", "below is an instr", "write a response", "come up with a s", "a chat between", "<|", "inst]", "<<sys", "<start_of")
"""Something of each of them, in lower case: a text with none is not read again."""

LABEL_FIRST = re.compile(r"^\s*(?:#{1,6} ?|\*\*)?(?P<name>output|response|completion|assistant|gpt|ai)(?:\*\*)?[ \t]*:", re.IGNORECASE)

END_MARKS = (
    "<|endoftext|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<end_of_turn>",
    "<｜end▁of▁sentence｜>",
    "</s>",
    "[EOS]",
    "<eos>",
    "<|eos|>",
)
"""How tokenizers spell the end of a sequence or of a turn."""


class MergedRows(Settings):
    """Two rows in one: an answer that goes on with another row's instruction and its response.

    Fires on `### Instruction:`-like headings, and on two or more headers of a pair (`Question:` then `Answer:`, `User:` then
    `Assistant:`) unless the request is for a dialogue, a quiz, examples or the like. A question is looked at for headings only
    (few-shot examples have headers rightly): one that holds both an instruction's and a response's heading is a whole row.
    """

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows that hold another row."""
        return decide(rows, beside, lambda row: None if closed(row, beside) else self.find(row))

    def find(self, row: Row) -> Found | None:
        """What of another row is in this one."""
        for text in answers(row):
            if ":" not in text:
                continue
            if "#" in text and (found := MARKED.search(text)):
                return Found("another row's heading in the answer", text[found.start() :])
            headers = [(m["name"].lower().split()[0], m.start()) for m in HEADER.finditer(text)]
            asked = next((place for name, place in headers if name in ASKS), None)
            if asked is None or not any(name in REPLIES and place > asked for name, place in headers):
                continue
            if not WANTS_DIALOGUE.search(row.instruction):
                return Found("another question with its answer in the answer", text[asked:])
        for text in questions(row):
            if "#" in text and len({m.group().strip(" \t#:").lower() for m in MARKED.finditer(text)}) > 1:
                return Found("a whole row in the question", text)
        return None


class LeftoverPrompt(Settings):
    """Prompt text or a field's label in an answer: Alpaca's preamble, `#Rewritten Prompt#`, chat markup, a leading `Output:`.

    Chat markup in a question or answer about chat markup is dropped too; leave this check out for such data.
    """

    labels: bool = True
    """Also drop answers that begin with a field's label (`Output:`, `Response:`)."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows with leftovers in an answer."""
        return decide(rows, beside, lambda row: None if closed(row, beside) else self.find(row))

    def find(self, row: Row) -> Found | None:
        """What is left over in one row."""
        for text in answers(row):
            lowered = text.lower()
            if any(hint in lowered for hint in LEAK_HINTS) and (found := LEAKED.search(text)):
                return Found("prompt text in the answer", text[max(0, found.start() - 40) :])
            if self.labels and (found := LABEL_FIRST.match(text)) and found["name"].lower() not in row.instruction.lower():
                return Found("answer begins with a field's label", text)
        return None


class EndOfText(Settings):
    """An end of sequence spelled out in the data (`</s>`, `<|endoftext|>`): the format writes the real one, so there would be two,
    and the spelled one is text that a tuned model then writes.

    `</s>` that closes an HTML `<s>` before it is not one.
    """

    marks: tuple[str, ...] = END_MARKS
    """The texts looked for, as tokenizers spell them."""
    where: Literal["anywhere", "answer", "answer_end"] = "anywhere"
    """In any turn, in answers, or only where an answer ends with it."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows with an end of sequence in the data."""
        # all marks hold one of these, which most texts do not
        pattern = re.compile("|".join(sorted(map(re.escape, self.marks), key=len, reverse=True))) if self.marks else None

        def find(row: Row) -> Found | None:
            if pattern is None:
                return None
            for text in answers(row) + (questions(row) if self.where == "anywhere" else []):
                for found in pattern.finditer(text) if "<" in text or "[" in text else ():
                    at_end = not text[found.end() :].strip()
                    if self.where == "answer_end" and not at_end:
                        continue
                    if found.group() == "</s>" and "<s>" in text[1 : found.start()]:
                        continue
                    again = text[: found.start()].rstrip().endswith(self.marks) or text[found.end() :].lstrip().startswith(self.marks)
                    seen = text[max(0, found.start() - 60) :]
                    if again:
                        return Found("end of sequence twice in the data", seen)
                    return Found("answer ends with an end of sequence" if at_end else "end of sequence in the data", seen)
            return None

        return decide(rows, beside, find)


class FieldOrder(Settings):
    """Turns or fields in the wrong order: an answer before any question, two turns of one side in a row, question and answer
    swapped, or an answer that holds its own labelled input and output."""

    swapped: bool = True
    """Also drop rows whose answer reads like the question and whose instruction reads like the answer (a heuristic)."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows that are out of order."""
        return decide(rows, beside, lambda row: self.find(row, beside))

    def find(self, row: Row, beside: Beside) -> Found | None:
        """What is out of order in one row."""
        roles = [m.role for m in row.conversation.messages if m.role != "system"]
        if roles and roles[0] == "assistant":
            return Found("the answer comes before any question", row.answer)
        for first, second in pairwise(roles):
            if first == second and first in ("user", "assistant"):
                return Found(f"two {first} turns in a row", row.answer)
        if closed(row, beside):
            return None
        names = [m["name"].lower() for m in HEADER.finditer(row.answer)] if ":" in row.answer[:400] else []
        if (
            "input" in names
            and "output" in names
            and not re.search(r"\b(?:in|out)put|example|test case|function|program|code", f"{row.instruction} {row.input}", re.I)
        ):
            return Found("labelled fields in the answer", row.answer)
        if self.swapped and swapped(row.instruction, row.answer):
            return Found("question and answer look swapped", f"{shown(row.instruction, 60)} -> {shown(row.answer, 60)}")
        return None


ORDER = (
    r"(?:please )?(?:write|list|name|describe|explain|generate|give|create|identify|classify|summari[sz]e|translate|rewrite|"
    r"compare|suggest|"
    r"tell|provide|convert|calculate|edit|design|construct|determine|compose|evaluate|analy[sz]e|outline|categori[sz]e|paraphrase)"
)
ASKING = re.compile(
    rf"^\W*(?:{ORDER}\b|(?:who|what|when|where|why|how|which|is|are|do|does|did|can|could|would|will|should)\b[^.!]*\?$)", re.IGNORECASE
)
ASKED = re.compile(
    rf"\?|(?:^|[.:!,;\n]\s*|\band )(?:then )?(?:{ORDER}|find|make|add|use|choose|select|complete|fill|sort|predict|imagine|you|act|"
    rf"formulate|modify|come up|suppose|express|arrange|transform|reword|take|turn|given)\b",
    re.IGNORECASE,
)


def swapped(instruction: str, answer: str) -> bool:
    """Whether a short answer reads like a request, and an instruction of at least 25 words has nothing of one."""
    answer = answer.strip()
    if not 15 <= len(answer) <= 240 or len(instruction.split()) < max(25, 1.5 * len(answer.split())) or not ASKING.match(answer):
        return False
    return not ASKED.search(instruction.strip())
