"""A prompt and its completion a row: two texts, or two lists of messages (TRL's form).

Also instruction and response with a context (Dolly), and question and answer. The Record is a conversation:
the context stands beside the instruction in the user's message; of lists, the turns of the prompt are not
trained. Texts are taken as they are, spaces included, unless `strip`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from etude.catalog import Settings
from etude.failures import RecipeError
from etude.records import BadRow, Record
from etude.sources.alpaca import turns as pairs
from etude.sources.keys import Column, DataPath, FileEncoding, FileKind, Keep, Licence, Limit, Task, Where, Worded
from etude.sources.mending import Mend, Mended
from etude.sources.messages import TOOLS, worded
from etude.sources.reading import Build, inputs_of, pick, read_file, text_of
from etude.sources.rows import Unusable
from etude.sources.turns import Spelling, tools, turns
from etude.sources.where import kind_of

NAMED = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("query", "answer"),
    ("input", "output"),
    ("context", "continuation"),
)
"""Keys of prompt and completion that are looked for where the recipe names none."""
CONTEXTS = ("context", "input")


class PromptCompletion(Settings):
    """Rows of a prompt and a completion."""

    path: DataPath
    prompt: Column = None
    """The key of the prompt; None: prompt, instruction, question, query or input, with the completion's key that goes with it."""
    completion: Column = None
    """The key of the completion; None: completion, response, answer or output."""
    context: Column = None
    """The key of the material that the prompt is about; None: `context` or `input`, where they are there."""
    system: Column = None
    """The key of a system text; None: `system`, where it is there."""
    history: Column = None
    """The key of earlier turns, a list of [question, answer] pairs; None: `history`, where it is there."""
    strip: bool = False
    """Take the white space off both ends of prompt and completion (a completion often begins with a space)."""
    mend: Mend = ()
    template: Worded = None
    where: Where = None
    limit: Limit = None
    keep: Keep = ()
    container: FileKind = None
    encoding: FileEncoding = "utf-8"
    licence: Licence = ""
    task: Task = None

    def read(self, name: str) -> Iterator[Record | BadRow]:
        """Every row in file order. Raises DataError for an unusable file, RecipeError for keys no row has or that could be several."""
        mended = Mended(name)
        named = (self.prompt, self.completion, self.context, self.system, self.history)
        try:
            yield from read_file(self, name, lambda columns: self.shape(name, mended, columns), named=named)
        finally:
            mended.tell()

    def inputs(self) -> dict[str, str]:
        """Path -> SHA-256 of every file."""
        return inputs_of(self)

    def shape(self, name: str, mended: Mended, columns: list[str]) -> Build:
        """How a row of these columns is built; raises RecipeError where they could mean several things."""
        prompt, completion = self.keys(name, columns)
        beside = [key for key in CONTEXTS if key in columns and key not in (prompt, completion)]
        if self.context is None and len(beside) > 1:
            raise RecipeError(f"sources.{name}.context: {self.path} has the keys {' and '.join(beside)}; say which is the context")
        keys = {
            "prompt": prompt,
            "completion": completion,
            "context": self.context or (beside[0] if beside else ""),
            "system": self.system or "system",
            "history": self.history or "history",
            "tools": pick(columns, TOOLS, None),
        }
        return partial(self.build, keys, mended)

    def keys(self, name: str, columns: list[str]) -> tuple[str, str]:
        """The keys of prompt and completion; raises RecipeError where there are several such pairs."""
        fitting = [
            pair for pair in NAMED if self.prompt in (None, pair[0]) and self.completion in (None, pair[1]) and set(pair) <= set(columns)
        ]
        if self.prompt and self.completion:
            return self.prompt, self.completion
        if ("instruction", "response") in fitting:  # `input` and `context` stand beside these
            fitting = [pair for pair in fitting if pair[0] not in CONTEXTS]
        if len(fitting) > 1:
            several = "; or ".join(f"prompt: {prompt}, completion: {completion}" for prompt, completion in fitting)
            raise RecipeError(f"sources.{name}: {self.path} has several keys that could be meant; set {several}")
        if fitting:
            return fitting[0]
        left, right = self.prompt or "prompt", self.completion or "completion"
        return left, right

    def build(self, keys: dict[str, str], mended: Mended, cells: dict[str, Any]) -> dict[str, Any]:
        """The fields of one row; raises Unusable with the reason."""
        spelling = Spelling(blank="drop_empty" in self.mend)
        found: list[dict[str, Any]] = []
        if system := text_of(cells, keys["system"], optional=True):
            found.append({"role": "system", "content": system})
        if history := cells.get(keys["history"]):
            for question, answer in pairs(history):
                found += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        asked, said = cells.get(keys["prompt"]), cells.get(keys["completion"])
        if isinstance(asked, list):
            # What stands in the prompt is context, also where the assistant said it: TRL trains the completion only.
            for one in turns(asked, spelling, repr(keys["prompt"])):
                found.append(one | {"trained": False} if one["role"] == "assistant" else one)
        else:
            found.append(self.user(cells, keys))
        if isinstance(said, list):
            found += turns(said, spelling, repr(keys["completion"]))
        else:
            if isinstance(said, dict):
                raise Unusable(f"{keys['completion']!r} is {kind_of(said)}, not text")
            found.append({"role": "assistant", "content": self.words(cells, keys["completion"])})
        return worded(found, self.mend, mended, tools(cells.get(keys["tools"])))

    def user(self, cells: dict[str, Any], keys: dict[str, str]) -> dict[str, Any]:
        """The user's message of a row of texts."""
        text = self.words(cells, keys["prompt"])
        context = text_of(cells, keys["context"], optional=True) if keys["context"] else ""
        return {"role": "user", "content": text, **({"context": context} if context.strip() else {})}

    def words(self, cells: dict[str, Any], key: str) -> str:
        """A text of the row."""
        text = text_of(cells, key)
        return text.strip() if self.strip else text
