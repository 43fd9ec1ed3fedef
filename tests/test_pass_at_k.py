"""pass@k: the estimator, the program in an answer, the data sets' forms, and what a predictions file gives."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from etude import comparison, grading
from etude.failures import DataError, NoSandbox
from etude.metrics import METRICS, bounds, lower_is_better, reads_references
from etude.metrics.code_extraction import called, extract
from etude.metrics.pass_at_k import KNOWN, PassAt10, PassAtK, estimate
from etude.records import Prediction
from etude.sandbox import ladder

AVAILABLE = any(available for _, available, _ in ladder.rungs())
jailed = pytest.mark.skipif(not AVAILABLE, reason="no jail on this machine: " + "; ".join(f"{n}: {w}" for n, _, w in ladder.rungs()))

PROMPT = 'from typing import List\n\n\ndef helper(x):\n    return x\n\n\ndef add(a: int, b: int) -> int:\n    """ The sum.\n    """\n'
HUMANEVAL = {"prompt": PROMPT, "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n", "entry_point": "add"}
MBPP = {"test_list": ["assert set(add([1], 2)) == {1, 2}", "assert add([], 1) == [1]"], "test_setup_code": ""}
RIGHT = "    return a + b\n"
WRONG = "    return a - b\n"


def item(id: str, *outputs: str, **fields: Any) -> Prediction:
    return Prediction(id, outputs, (), fields=fields or HUMANEVAL)


class TestEstimator:
    def test_is_the_chance_over_all_choices(self):
        for n in range(1, 8):
            for passed, k in itertools.product(range(n + 1), range(1, n + 1)):
                answers = [i < passed for i in range(n)]
                exact = np.mean([any(chosen) for chosen in itertools.combinations(answers, k)])
                assert estimate(n, passed, k) == pytest.approx(exact, abs=1e-12)

    @settings(max_examples=15)
    @given(st.integers(1, 500), st.data())
    def test_stays_between_and_grows(self, n, data):
        passed, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
        assert 0 <= estimate(n, passed, k) <= 1
        assert estimate(n, passed, 1) == pytest.approx(passed / n)
        if k > 1:
            assert estimate(n, passed, k) >= estimate(n, passed, k - 1) - 1e-12

    @pytest.mark.parametrize(("n", "passed", "k"), [(3, 1, 4), (3, 4, 1), (3, 1, 0), (0, 0, 1), (3, -1, 1)])
    def test_refuses_what_is_not_defined(self, n, passed, k):
        with pytest.raises(ValueError, match="not defined"):
            estimate(n, passed, k)


FENCED = "```python\ndef add(a, b):\n    return a + b\n```"
ABOVE = PROMPT[: PROMPT.index("def add")]
HELPED = "    return plus(a, b)\n\ndef plus(a, b):\n    return a + b\n"
DEFINED = "def add(a, b):\n    return a + b\n"

EXTRACTIONS = {
    "a fence": (FENCED, ABOVE + DEFINED),
    "a fence in prose": (f"Here it is:\n\n{FENCED}\n\nIt adds.", ABOVE + DEFINED),
    "a fence without a name": (FENCED.replace("python", ""), ABOVE + DEFINED),
    "a fence that never ends": (FENCED[:-4], ABOVE + DEFINED[:-1]),
    "tildes": ("~~~py\n" + DEFINED + "~~~", ABOVE + DEFINED),
    "a fence in a list": ("1. So:\n   ```python\n   def add(a, b):\n       return a + b\n   ```", ABOVE + DEFINED),
    "the fence that defines it": ("```bash\npip install x\n```\n```python\nadd(1, 2)\n```\n" + FENCED, ABOVE + DEFINED),
    "another language first": ("```json\n{}\n```\n" + FENCED, ABOVE + DEFINED),
    "a body in a fence": ("```python\n    return a + b\n```", PROMPT + "    return a + b\n"),
    "thought first": (f"<think>\n```python\ndef add(): pass\n```\n</think>\n{FENCED}", ABOVE + DEFINED),
    "windows lines": (FENCED.replace("\n", "\r\n"), ABOVE + DEFINED),
    "prose around": (f"Sure! This adds.\n\n{DEFINED}\nThis function adds two numbers.\n", ABOVE + DEFINED + "\n"),
    "imports in prose": (f"From now on:\nimport math\n{DEFINED}", ABOVE + "import math\n" + DEFINED),
    "a comment above": (f"Sure:\n# adds\n{DEFINED}", ABOVE + "# adds\n" + DEFINED),
    "a continuation": (RIGHT, PROMPT + RIGHT),
    "a continuation and more": (RIGHT + "\ndef main():\n    add(1, 2)\n", PROMPT + RIGHT),
    "a continuation with its helper": (HELPED + "\ndef add(a, b):\n    pass\n", PROMPT + HELPED),
    "a continuation and prose": (RIGHT + "\nThis adds them.", PROMPT + RIGHT + "\n"),
    "the first indent lost": ("c = a\n    return c + b", PROMPT + "    c = a\n    return c + b\n"),
    "another indentation": ("  c = a\n  return c + b", PROMPT + "    c = a\n    return c + b\n"),
    "every indent lost": ("c = a\nreturn c + b", PROMPT + "    c = a\n    return c + b\n"),
    "nothing that compiles": ("I cannot (do this", PROMPT + "I cannot (do this\n"),
    "a class": ("Sure:\nclass add:\n    pass", ABOVE + "class add:\n    pass"),
    "a value": ("add = lambda a, b: a + b", ABOVE + "add = lambda a, b: a + b"),
}


class TestExtraction:
    @pytest.mark.parametrize("name", EXTRACTIONS)
    def test_rule(self, name):
        output, program = EXTRACTIONS[name]
        assert extract(output, ["add"], PROMPT) == program

    def test_marks_of_mbpp_are_a_fence(self):
        assert extract("Sure [BEGIN]\n" + DEFINED + "[DONE] and so on", ["add"]) == DEFINED

    def test_without_a_name_the_first_block(self):
        assert extract("```python\nx = 1\n```\n```python\ny = 2\n```") == "x = 1\n"
        assert extract("x = 1\n\nThat is all, folks!") == "x = 1\n\n"

    def test_a_decorator_stays(self):
        prompt = "import functools\n\n@functools.cache\ndef add(a, b):\n"
        assert extract(FENCED, ["add"], prompt) == "import functools\n\n" + DEFINED

    def test_javascript(self):
        prompt = "/** adds */\nfunction add(a, b) {\n"
        arrow = "const add = (a, b) => a + b;\n"
        assert extract(f"```js\n{arrow}```", ["add"], prompt, "javascript") == "/** adds */\n" + arrow
        assert extract("  return a + b;\n}\n\nconsole.log(add(1, 2))\n", ["add"], prompt, "javascript") == prompt + "  return a + b;\n}\n"
        assert extract("```python\nx\n```\n```javascript\nfunction add() {}\n```", ["add"], "", "javascript") == "function add() {}\n"

    @pytest.mark.parametrize(
        "text",
        ["(" * 90_000, "-" * 90_000 + "1", "x." * 20_000 + "x", "not " * 5_000 + "1", "1+" * 20_000 + "1", "\0" * 1000,
         "\ud800", "'''" + "a\n" * 3_000,
         "lambda:" * 10_000, "```" * 30_000, "def add(\n" * 2_000, "[" * 500_000],
        ids=range(12),
    )  # fmt: skip
    def test_hostile_texts_are_taken_as_they_are(self, text):
        assert isinstance(extract(text, ["add"], PROMPT), str)
        assert isinstance(extract(text, ["add"]), str)

    @settings(max_examples=15)
    @given(st.text(max_size=200), st.booleans())
    def test_any_text(self, text, fenced):
        found = extract(f"```python\n{text}\n```" if fenced else text, ["add"], PROMPT)
        assert isinstance(found, str)

    def test_names_that_tests_call(self):
        assert called(["assert set(f(1)) == {1}", "assert f(g(2)) == len('x')"]) == ("f",)
        assert called(["assert math.isclose(area(1), 3)"], "import math") == ("area",)
        assert called(["assert isclose(area(1), 3)"], "from math import isclose") == ("area",)
        assert called(["assert f("]) == called([]) == ()


@jailed
class TestMetric:
    def test_items_and_their_mean(self):
        rows = [item("a", RIGHT, WRONG, WRONG, RIGHT), item("b", WRONG, WRONG, WRONG, WRONG), item("c", RIGHT, RIGHT, RIGHT, "")]
        np.testing.assert_allclose(PassAtK().stats(rows), [[0.5, 1], [0, 1], [0.75, 1]])
        np.testing.assert_allclose(PassAtK(k=2).stats(rows)[:, 0], [1 - 1 / 6, 0, 1])
        metric = PassAtK(k=2)
        stats = metric.stats(rows)
        assert stats.dtype == np.float64
        assert metric.score(stats.sum(axis=0)) == pytest.approx((1 - 1 / 6 + 0 + 1) / 3)
        np.testing.assert_array_equal(stats[::-1], metric.stats(rows[::-1]))
        assert metric.stats([]).shape == (0, 2)
        assert comparison.interval(stats, metric).low < metric.score(stats.sum(axis=0))

    def test_programs_of_one_process_are_run_once(self, monkeypatch):
        rows = [item("a", RIGHT, WRONG)]
        PassAtK().stats(rows)
        monkeypatch.setattr("etude.sandbox.runner.run", lambda *_: pytest.fail("run again"))
        assert PassAtK(k=2).stats(rows)[0, 0] == 1
        assert KNOWN

    def test_an_empty_answer_is_wrong_even_where_nothing_would_pass(self):
        lenient = {**HUMANEVAL, "test": "def check(candidate):\n    pass\n"}
        rows = [item("a", "", **lenient), item("b", " \n", **lenient), item("c", **lenient), item("d", "    pass", **lenient)]
        assert PassAtK().stats(rows)[:, 0].tolist() == [0, 0, 0, 1]

    def test_more_answers_are_needed_than_there_are(self):
        with pytest.raises(DataError, match=r"row b: pass@2 needs at least 2 answers.*there is 1.*n: 2"):
            PassAtK(k=2).stats([item("a", RIGHT, RIGHT), item("b", RIGHT)])
        with pytest.raises(DataError, match="pass@10 needs"):
            PassAt10().stats([item("a", RIGHT)])
        assert PassAtK(k=2).stats([item("a", RIGHT, RIGHT), item("none")])[:, 0].tolist() == [1, 0]

    def test_mbpp(self):
        code = "```python\ndef add(a, b):\n    return a + [b]\n```"
        setup = {**MBPP, "test_setup_code": "import math", "test_list": ["assert math.isclose(len(add([1], 2)), 2)"]}
        imports = {"test_imports": ["import math"], "test_list": setup["test_list"]}
        rows = [item("a", code, code.replace("+ [b]", ""), **MBPP), item("b", code, "", **setup), item("c", code, "no", **imports)]
        assert PassAtK().stats(rows)[:, 0].tolist() == [0.5, 0.5, 0.5]

    def test_javascript(self):
        if not ladder.choose().node:
            pytest.skip("there is no node on the PATH")
        fields = {
            "language": "javascript",
            "prompt": "function add(a, b) {\n",
            "entry_point": "add",
            "test": "if (add(1, 2) !== 3) { throw 'no' }",
        }
        assert PassAtK().stats([item("a", "  return a + b;\n}", "  return a - b;\n}", **fields)])[0, 0] == 0.5

    def test_extract_none_takes_the_answer_as_it_is(self):
        rows = [item("a", FENCED, RIGHT)]
        assert PassAtK().stats(rows)[0, 0] == 1
        assert PassAtK(extract="none").stats(rows)[0, 0] == 0.5

    def test_signature_names_the_jail(self):
        rows = [item("a", RIGHT, WRONG)]
        parts = PassAtK(k=2).signature(rows).split("|")
        assert parts[0] == "pass_at_k"
        assert {"k:2", "n:2", f"sandbox:{ladder.choose().described}", "extract:auto", "limits:3s-512MiB", "estimator:unbiased"} == set(
            parts[1:]
        )
        assert "sandbox" not in PassAtK().signature()
        assert PassAt10().signature().startswith("pass_at_10|k:10")

    def test_a_predictions_file(self, tmp_path):
        lines = [{"id": "a", "outputs": [RIGHT, WRONG], **HUMANEVAL}, {"id": "b", "outputs": [RIGHT, FENCED], "reference": "", **HUMANEVAL}]
        path = tmp_path / "predictions.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        found = grading.grade(path, "pass_at_k")
        assert found.score == 0.75
        assert found.values == (("a", 0.5), ("b", 1.0))
        assert grading.grade(path, "pass_at_k", {"k": "2"}).score == 1
        with pytest.raises(DataError, match=r"predictions\.jsonl:1: pass@10 needs"):
            grading.grade(path, "pass_at_10")
        path.write_text(json.dumps({"id": "a", "output": RIGHT, **HUMANEVAL, "entry_point": None}) + "\n")
        with pytest.raises(DataError, match=r"jsonl:1: field 'test' defines check.*no 'entry_point'"):
            grading.grade(path, "pass_at_k")
        with pytest.raises(DataError, match="neither 'reference'"):
            grading.grade(path, "exact_match")


class TestWithoutAJail:
    BAD: ClassVar = {
        "nothing": ({"x": 1}, "no field 'test'.*test_list"),
        "an empty test": ({**HUMANEVAL, "test": " "}, "field 'test' is empty"),
        "a test that is no text": ({**HUMANEVAL, "test": 3}, "'test' must be text, not 3"),
        "no entry point": ({**HUMANEVAL, "entry_point": ""}, "no 'entry_point'"),
        "an entry point that is no name": ({**HUMANEVAL, "entry_point": "a b"}, "not a name: 'a b'"),
        "tests that are no list": ({"test_list": "assert 1"}, "'test_list' must be a list"),
        "no tests": ({"test_list": []}, "'test_list' must be a list"),
        "setup that is no text": ({**MBPP, "test_setup_code": 3}, "'test_setup_code' must be text"),
        "another language": ({**HUMANEVAL, "language": "javascrypt"}, "'javascrypt' cannot be run; did you mean 'javascript'"),
    }

    @pytest.mark.parametrize("name", BAD)
    def test_bad_rows_are_named(self, name):
        fields, said = self.BAD[name]
        for outputs in (("x",), ()):
            with pytest.raises(DataError, match=f"row bad: .*{said}"):
                PassAtK().stats([item("bad", *outputs, **fields)])

    def test_without_a_jail_nothing_runs(self, monkeypatch, tmp_path):
        mark = tmp_path / "ran"
        monkeypatch.setattr("etude.sandbox.ladder.found", lambda *_: (None, "not today"))
        monkeypatch.setattr("etude.sandbox.runner.judge", lambda *_: pytest.fail("run without a jail"))
        with pytest.raises(NoSandbox, match=r"landlock: not today.*etude doctor") as raised:
            PassAtK().stats([item("a", f"    open({str(mark)!r}, 'w')")])
        assert raised.value.exit_code == 7
        assert not mark.exists()

    @pytest.mark.parametrize("name", ["pass_at_k", "pass_at_10"])
    def test_as_every_metric(self, name):
        metric = METRICS[name]()
        adapter = TypeAdapter(Annotated[Any, METRICS])
        assert adapter.validate_python(name) == metric
        assert adapter.validate_python(adapter.dump_python(metric)) == metric
        with pytest.raises(ValidationError, match="unknown key"):
            adapter.validate_python({"type": name, "colour": "red"})
        with pytest.raises(ValidationError):
            metric.k = 3
        assert METRICS.name_of(metric) == name
        assert (bounds(metric), lower_is_better(metric), reads_references(metric)) == ((0, 1), False, False)


SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@jailed
@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "answer", "failing"),
    [
        ("humaneval/HumanEval.jsonl.gz", "canonical_solution", 0),
        ("mbpp/mbpp_sanitized_for_code_generation.jsonl", "canonical_solution", 27),
        ("mbpp/mbpp_release_v1.jsonl", "canonical_solution", 16),
    ],
)
def test_the_data_sets_own_solutions_pass(path, answer, failing):
    """`failing`: solutions that do not pass the tests they came with (a missing import, another name, too slow)."""
    import gzip

    file = SHARED / path
    if not file.exists():
        pytest.skip("the shared data is not here")
    opened = gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else open(file, encoding="utf-8")
    with opened:
        rows = [json.loads(line) for line in opened]
    items = [item(row["task_id"], row[answer] or "", **{k: row[k] for k in ("prompt", "test", "entry_point")}) for row in rows]
    wrong = [(p.id, v[0]) for p, v in zip(items, PassAtK().verdicts(items), strict=True) if not v[0].passed]
    assert len(wrong) <= failing, wrong
