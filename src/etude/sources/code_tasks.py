"""Programming tasks with tests: HumanEval (Chen et al. 2021), MBPP (Austin et al. 2021) and their kin in other languages.

The Record says the task in words (`instruction`, `input`, `output`) and keeps the fields that scoring by
execution needs, under the names the data set gave them: `task_id`, `prompt`, `test`, `entry_point`,
`test_list`, `test_setup_code`, `test_imports`, `challenge_test_list`, `language`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from etude.catalog import Settings
from etude.records import BadRow, Record
from etude.sources.keys import DataPath, FileEncoding, FileKind, Keep, Licence, Limit, Phrased, Task, Where
from etude.sources.reading import hint, inputs_of, read_file, sound, text_of
from etude.sources.rows import Unusable
from etude.sources.where import kind_of

TESTING = (
    "task_id", "prompt", "test", "entry_point", "language", "test_list", "test_setup_code", "test_imports", "challenge_test_list",
)  # fmt: skip
LANGUAGES = {
    "python": "Python", "java": "Java", "javascript": "JavaScript", "typescript": "TypeScript", "cpp": "C++", "csharp": "C#", "go": "Go",
    "php": "PHP", "ruby": "Ruby", "rust": "Rust", "kotlin": "Kotlin", "scala": "Scala", "swift": "Swift", "perl": "Perl",
}  # fmt: skip


class CodeTasks(Settings):
    """Programming tasks of HumanEval's form (`prompt`, `canonical_solution`) or MBPP's (`text` or `prompt`, `code`, `test_list`)."""

    path: DataPath
    answer: Literal["solution", "whole"] = "solution"
    """HumanEval: the answer is the `solution`, which continues the prompt, or the `whole` function, prompt included."""
    show_tests: bool = True
    """MBPP: the tests stand in the question (without them it does not say what the function is called)."""
    unsolved: Literal["refuse", "keep"] = "refuse"
    """Tasks without a solution: `refuse` them as bad rows, or `keep` them with an empty answer, for tests only."""
    template: Phrased = None
    where: Where = None
    limit: Limit = None
    keep: Keep = ()
    container: FileKind = None
    encoding: FileEncoding = "utf-8"
    licence: Licence = ""
    task: Task = None

    def read(self, name: str) -> Iterator[Record | BadRow]:
        """Every task in file order. Raises DataError for an unusable file, RecipeError for a key no row has."""
        return read_file(self, name, lambda _: self.build)

    def inputs(self) -> dict[str, str]:
        """Path -> SHA-256 of every file; and the template's, which names the task."""
        return inputs_of(self)

    def build(self, cells: dict[str, Any]) -> dict[str, Any]:
        """The fields of one task; raises Unusable with the reason."""
        worded = self.described(cells) if "test_list" in cells and "code" in cells else self.continued(cells)
        testing = {key: sound(cells[key], repr(key)) for key in TESTING if cells.get(key) is not None}
        return worded | testing

    def continued(self, cells: dict[str, Any]) -> dict[str, Any]:
        """HumanEval's form: the beginning of a function, and the rest of it."""
        prompt = text_of(cells, "prompt")
        if not prompt.strip():
            raise Unusable("'prompt' is empty")
        text_of(cells, "test")
        solution = self.solution(cells, "canonical_solution")
        language = str(cells.get("language") or "python").lower()
        what = f"Complete the following {LANGUAGES.get(language, language)} function."
        if self.answer == "whole":
            words = f"{what} Answer with the whole function."
            return {"instruction": words, "input": prompt, "output": prompt + solution if solution else ""}
        return {"instruction": f"{what} Answer only with the code that follows what is given.", "input": prompt, "output": solution}

    def described(self, cells: dict[str, Any]) -> dict[str, Any]:
        """MBPP's form: a description, a function, and tests that it passes."""
        asked = text_of(cells, "text" if "text" in cells else "prompt")
        if not asked.strip():
            raise Unusable("the description is empty")
        tests = cells["test_list"]
        if not isinstance(tests, list) or not all(isinstance(test, str) for test in tests):
            raise Unusable(f"'test_list' is {kind_of(tests)}; a list of texts is needed")
        shown = "The code must pass these tests:\n" + "\n".join(tests) if self.show_tests and tests else ""
        return {"instruction": asked, "input": shown, "output": self.solution(cells, "code")}

    def solution(self, cells: dict[str, Any], key: str) -> str:
        """The task's own solution, "" where it has none and may be kept so; raises Unusable where it may not."""
        text = text_of(cells, key, optional=True)
        if not text.strip():
            if self.unsolved == "refuse":
                why = f"{key!r} is missing{hint(key, cells)}" if key not in cells else f"{key!r} is empty"
                raise Unusable(f"{why}; unsolved: keep takes tasks without a solution")
            return ""
        return text
