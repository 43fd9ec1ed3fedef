"""`etude rewrite`: where the code in a row is, which language it is in, and what becomes of files."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from etude import rewriting
from etude.cli import app
from etude.curation import REWRITES
from etude.curation.comments import RemoveComments
from etude.curation.comments.detection import compiled, guess, told
from etude.curation.comments.fences import blocks
from etude.curation.comments.languages import LANGUAGES
from etude.failures import DataError, RecipeError
from etude.records import Origin, Record, identify

CODE = "def add(a, b):\n    # adds\n    return a + b  # done\n"
BARE = "def add(a, b):\n    return a + b\n"
SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


def outcome(row, /, **settings):
    return RemoveComments.model_validate(settings).outcome(row)


# ---- where the code is -----------------------------------------------------------------------------


def test_answers_and_inputs_are_code_and_questions_are_not():
    row = {"instruction": CODE, "input": CODE, "output": CODE, "topic": CODE}
    done = outcome(row)
    assert done.fields == {"instruction": CODE, "input": BARE, "output": BARE, "topic": CODE}
    assert done.fate == "changed"
    assert done.removed == 2 * (len(CODE) - len(BARE))
    assert [(part.field, part.language, part.how) for part in done.parts] == [
        ("input", "python", "detected"),
        ("output", "python", "detected"),
    ]


def test_fences_are_code_everywhere():
    text = f"Look (# here):\n```python\n{CODE}```\nand\n~~~js\na(); // b\n~~~\n# not code\n"
    done = outcome({"instruction": text})
    assert done.fields["instruction"] == f"Look (# here):\n```python\n{BARE}```\nand\n~~~js\na();\n~~~\n# not code\n"
    assert {part.how for part in done.parts} == {"fence"}
    assert {part.confidence for part in done.parts} == {1.0}


def test_a_fence_in_a_list_keeps_its_indentation():
    text = "1. Run\n   ```python\n   x = 1  # one\n\n   # two\n   y = 2\n   ```\n2. Done\n"
    assert outcome({"output": text}).fields["output"] == "1. Run\n   ```python\n   x = 1\n\n   y = 2\n   ```\n2. Done\n"


def test_a_fence_with_crlf_or_without_an_end():
    assert outcome({"output": "```py\r\nx = 1  # one\r\n```\r\n"}).fields["output"] == "```py\r\nx = 1\r\n```\r\n"
    assert outcome({"output": "```py\nx = 1  # one\n"}).fields["output"] == "```py\nx = 1\n"
    assert [block.tag for block in blocks("```{.python .numberLines}\nx\n```\n```\ny\n```\n")] == ["python", ""]


def test_other_tags_are_left_and_named():
    row = {"output": "```yaml\na: 1 # b\n```\n"}
    done = outcome(row)
    assert done.fields == row
    assert done.fate == "other_language"
    assert done.parts[0].language == "yaml"


def test_turns_of_the_assistant_are_answers():
    row = {"messages": [{"role": "user", "content": CODE}, {"role": "assistant", "content": CODE}]}
    assert outcome(row).fields == {"messages": [{"role": "user", "content": CODE}, {"role": "assistant", "content": BARE}]}
    row = {"conversations": [{"from": "human", "value": CODE}, {"from": "gpt", "value": CODE}]}
    assert [turn["value"] for turn in outcome(row).fields["conversations"]] == [CODE, BARE]
    row = {"prompt": [{"role": "user", "content": CODE}], "completion": [{"role": "assistant", "content": CODE}]}
    done = outcome(row).fields
    assert done["prompt"] == row["prompt"]
    assert done["completion"][0]["content"] == BARE


def test_named_fields_only():
    row = {"instruction": CODE, "output": CODE, "solution": {"text": CODE}}
    done = outcome(row, fields=["instruction"])
    assert done.fields == {"instruction": BARE, "output": CODE, "solution": {"text": CODE}}
    assert outcome(row, fields=["solution"]).fields["solution"] == {"text": BARE}
    turns = {"messages": [{"role": "user", "content": CODE}]}
    assert outcome(turns, fields=["content"]).fields["messages"][0]["content"] == BARE


def test_the_given_row_is_not_touched():
    row = {"output": CODE, "history": [["```py\nx = 1 # y\n```", CODE]]}
    before = json.dumps(row)
    done = outcome(row)
    assert json.dumps(row) == before
    assert done.fields["history"] == [["```py\nx = 1\n```", CODE]]


# ---- which language --------------------------------------------------------------------------------


def test_the_row_says_its_language():
    done = outcome({"language": "JavaScript", "output": "a(); // b"})
    assert (done.parts[0].language, done.parts[0].how, done.fields["output"]) == ("javascript", "field", "a();")
    assert outcome({"language": "en", "output": "Hello # there"}).fate == "no_code"
    assert outcome({"output": "a; // b"}, language="js").parts[0].how == "named"


SNIPPETS = {
    "python": "def f(x):\n    # c\n    return [y for y in x if y]\n", "javascript": "const f = (x) => {\n  // c\n  console.log(x);\n};\n",
    "typescript": "interface A { // c\n  name: string;\n}\nfunction f(a: A): number { return 1; }\n",
    "java": "public class A {\n  // c\n  public static void main(String[] a) { System.out.println(1); }\n}\n",
    "c": "#include <stdio.h>\nint main() {\n  // c\n  printf(\"x\");\n  return 0;\n}\n",
    "cpp": "#include <iostream>\nint main() {\n  // c\n  std::cout << 1;\n}\n",
    "csharp": "using System;\nclass A {\n  // c\n  static void Main() { Console.WriteLine(1); }\n}\n",
    "go": "package main\n\n// c\nfunc main() {\n\tx := 1\n\tfmt.Println(x)\n}\n",
    "rust": "fn main() {\n    // c\n    let mut x = 1;\n    println!(\"{}\", x);\n}\n",
    "ruby": "def f(x)\n  # c\n  x.each do |y|\n    puts y\n  end\nend\n", "php": "<?php\n// c\n$x = 1;\necho $x;\n",
    "shell": "#!/bin/bash\n# c\nfor f in *; do\n  echo \"$f\"\ndone\n", "sql": "-- c\nSELECT name FROM users WHERE age > 3;\n",
    "html": "<!DOCTYPE html>\n<html>\n<!-- c -->\n<body><p>x</p></body>\n</html>\n",
    "css": "/* c */\n.box {\n  color: red;\n  margin: 2px;\n}\n",
}  # fmt: skip


@pytest.mark.parametrize("language", SNIPPETS)
def test_each_language_is_detected(language):
    done = outcome({"output": SNIPPETS[language]})
    part = done.parts[0]
    assert part.language == language
    assert part.confidence >= 0.5
    assert part.fate == "changed"
    assert "c\n" not in done.fields["output"].split("main")[0].replace("public", "").replace("func", "") or language in ("rust", "java")


def test_all_languages_have_a_snippet():
    assert set(SNIPPETS) == set(LANGUAGES)


def test_the_words_that_save_time_are_in_what_matches():
    for text in (*SNIPPETS.values(), CODE):
        for signs in compiled().values():
            for _, pattern, words in signs:
                if found := pattern.search(text):
                    assert not words or any(word in found.group() for word in words), pattern.pattern


PROSE = [
    "The capital of France is Paris.",
    "To write a comment in Python, start the line with #. For example, # this is a comment is ignored.",
    "In HTML comments look like <!-- this --> and browsers do not show them.",
    "# A title\n\nSome words about import duties and the class of 1990.\n\n- one\n- two -- three\n",
    "Visit https://example.org/a//b /* not code */ today, for it is free: no return.",
    "Select the best option from the list -- then wait.",
]  # fmt: skip


@pytest.mark.parametrize("text", PROSE)
def test_prose_is_left_alone(text):
    done = outcome({"output": text})
    assert done.fields["output"] == text
    assert done.fate in ("no_code", "low_confidence", "does_not_parse", "unchanged")


def test_confidence_is_a_bound_and_a_reason():
    text = "x = foo(1)\nprint(x)  # two\n"
    unsure = outcome({"output": text}, confidence=0.99)
    assert unsure.fields["output"] == text
    assert unsure.fate == "low_confidence"
    assert "0.99 asked" in unsure.reason
    assert outcome({"output": text}, confidence=0).fate == "changed"


def test_a_question_that_names_the_language_makes_surer():
    text = "x = foo(1)\nprint(x)\n"
    sure = guess(text, lambda text, language: True).confidence
    assert guess(text, lambda text, language: True, told("Write it in Python.")).confidence > sure
    assert guess("Hello, you.", lambda text, language: True, told("Write it in Python.")).language is None
    assert told("in C or C++ or C#") == {"c", "cpp", "csharp"}


# ---- in a recipe -----------------------------------------------------------------------------------


def record(**fields) -> Record:
    return Record(identify(fields), fields, Origin("a.jsonl", 3), "news", "code")


def test_a_rewrite_keeps_the_row_it_came_from():
    rewrite = REWRITES["remove_comments"]()
    given = record(instruction="Add.", output=CODE)
    done = rewrite.rewrite(given)
    assert (done.id, done.origin, done.source, done.task) == (given.id, given.origin, given.source, given.task)
    assert done.fields["output"] == BARE
    assert rewrite.rewrite(done) is done
    assert rewrite.rewrite(record(output="no code")).fields == {"output": "no code"}
    why = rewrite.rewrite(record(language="python", output="print 1  # two\n"))
    assert why.startswith("does not parse (python: ")


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="no language is called 'pyton'; did you mean 'python'"):
        RemoveComments(language="pyton")
    with pytest.raises(ValueError, match="what"):
        RemoveComments.model_validate({"what": "everything"})


# ---- data sets -------------------------------------------------------------------------------------


COMMENTS = rewriting.settings("comments", None)
ROWS = [
    {"instruction": "Add two numbers in Python.", "input": "", "output": CODE, "n": 1, "x": None, "é": ["ü"]},
    {"instruction": "Say hello.", "input": "", "output": "Hello.", "n": 2, "x": 1.5, "é": []},
]
DONE = [{**ROWS[0], "output": BARE}, ROWS[1]]


def written(path: Path, rows) -> Path:
    """The rows in the container that the name says."""
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    text = json.dumps(rows) if ".json" in path.suffixes else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def readback(path: Path):
    """The rows of a file."""
    if path.suffix == ".parquet":
        import pyarrow.parquet

        return pyarrow.parquet.read_table(path).to_pylist()
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return json.loads(data) if ".json" in path.suffixes else [json.loads(line) for line in data.splitlines()]


@pytest.mark.parametrize(
    ("origin", "target"), [("a.jsonl", "b.jsonl"), ("a.json", "b.json"), ("a.json", "b.jsonl.gz"), ("a.parquet", "b.parquet")]
)
def test_every_key_of_a_row_stays(tmp_path, origin, target):
    path = tmp_path / origin
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        written(path, ROWS)
    out = tmp_path / target
    tally = rewriting.rewrite(str(path), out, COMMENTS)
    assert readback(out) == DONE
    assert (tally.read, tally.fates["changed"], tally.fates["no_code"], tally.removed) == (2, 1, 1, len(CODE) - len(BARE))


def test_csv_keeps_its_columns_and_line_ends(tmp_path):
    path, out = tmp_path / "a.csv", tmp_path / "b.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["id", "output"], ["1", CODE.replace("\n", "\r\n")], ["2", "Hello."]])
    rewriting.rewrite(str(path), out, COMMENTS)
    with open(out, newline="") as file:
        assert list(csv.reader(file)) == [["id", "output"], ["1", BARE.replace("\n", "\r\n")], ["2", "Hello."]]


def test_twice_is_once(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    how = rewriting.settings("both", "trailing-space")
    rewriting.rewrite(str(path), tmp_path / "b.jsonl", how)
    again = rewriting.rewrite(str(tmp_path / "b.jsonl"), tmp_path / "c.jsonl", how)
    assert again.fates["changed"] == 0
    assert (tmp_path / "b.jsonl").read_bytes() == (tmp_path / "c.jsonl").read_bytes()


def test_bad_rows_stop_it(tmp_path):
    path, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n{broken\n")
    with pytest.raises(DataError, match=r"1 of 2 rows cannot be read; nothing was written; --max-bad-rows 1 leaves them out\n.*a.jsonl:2"):
        rewriting.rewrite(str(path), out, COMMENTS)
    assert not out.exists()
    assert rewriting.rewrite(str(path), out, COMMENTS, max_bad_rows=1).unusable == 1
    assert sorted(os.listdir(tmp_path)) == ["a.jsonl", "b.jsonl"]


def test_what_may_not_be_written(tmp_path):
    path, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n")
    out.write_text("mine")
    with pytest.raises(RecipeError, match="--force replaces it"):
        rewriting.rewrite(str(path), out, COMMENTS)
    with pytest.raises(RecipeError, match="the input itself"):
        rewriting.rewrite(str(path), path, COMMENTS, force=True)
    with pytest.raises(DataError, match="not Parquet"):
        rewriting.rewrite(str(path), tmp_path / "b.parquet", COMMENTS)
    with pytest.raises(DataError, match="CSV cell is text"):
        rewriting.rewrite(str(path), tmp_path / "b.csv", COMMENTS)
    with pytest.raises(RecipeError, match=r"no row of .* has 'outptu'; did you mean 'output'"):
        rewriting.rewrite(str(path), tmp_path / "c.jsonl", rewriting.settings("comments", None, fields=["outptu"]))
    with pytest.raises(DataError, match="does not exist"):
        rewriting.rewrite(str(tmp_path / "x.jsonl"), tmp_path / "c.jsonl", COMMENTS)
    assert out.read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["a.jsonl", "b.jsonl"]


def test_a_killed_process_leaves_the_old_file(tmp_path):
    path, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    path.write_text("".join(json.dumps(ROWS[0]) + "\n" for _ in range(200)))
    out.write_text("old")
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\nfrom etude import rewriting\nfrom etude.curation.comments import RemoveComments\n"
        "seen = [0]\nreal = RemoveComments.outcome\n"
        "def outcome(self, fields):\n    seen[0] += 1\n"
        "    if seen[0] == 150:\n        os.kill(os.getpid(), signal.SIGKILL)\n    return real(self, fields)\n"
        "RemoveComments.outcome = outcome\n"
        "rewriting.rewrite(sys.argv[1], Path(sys.argv[2]), rewriting.settings('comments', None), force=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path), str(out)], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert out.read_text() == "old"


# ---- code files ------------------------------------------------------------------------------------


def test_a_code_file_keeps_its_mode_mark_and_encoding(tmp_path):
    path, out = tmp_path / "a.py", tmp_path / "b.py"
    path.write_bytes("#!/usr/bin/python\n# coding: latin-1\nx = 'é'  # ü\n".encode("latin-1"))
    path.chmod(0o755)
    tally = rewriting.rewrite(str(path), out, COMMENTS)
    assert out.read_bytes() == "#!/usr/bin/python\n# coding: latin-1\nx = 'é'\n".encode("latin-1")
    assert stat.S_IMODE(out.stat().st_mode) == 0o755
    assert tally.unit == "file"
    path.write_bytes(b"\xef\xbb\xbfa(); // b\r\n")
    path.rename(tmp_path / "a.js")
    rewriting.rewrite(str(tmp_path / "a.js"), tmp_path / "b.js", COMMENTS)
    assert (tmp_path / "b.js").read_bytes() == b"\xef\xbb\xbfa();\r\n"


def test_a_folder_of_code(tmp_path):
    place, out = tmp_path / "in", tmp_path / "out"
    (place / "pkg" / ".git").mkdir(parents=True)
    (place / "pkg" / "__init__.py").write_text('"""Only a docstring."""\n')
    (place / "pkg" / "a.js").write_text("a(); // b\n")
    (place / "pkg" / "old.py").write_text("print 1 # two\n")
    (place / "pkg" / "b.c").write_bytes(b"int x; // \xff\n")
    (place / "pkg" / ".git" / "x.py").write_text("# left out\n")
    (place / "package.json").write_text("{}")
    tally = rewriting.rewrite(str(place), out, rewriting.settings("both", None))
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        "package.json", "pkg/__init__.py", "pkg/a.js", "pkg/b.c", "pkg/old.py",
    ]  # fmt: skip
    assert (out / "pkg/__init__.py").read_text() == ""
    assert (out / "pkg/a.js").read_text() == "a();\n"
    assert (out / "pkg/old.py").read_text() == "print 1 # two\n"
    assert (out / "pkg/b.c").read_bytes() == b"int x; // \xff\n"
    assert (tally.fates["changed"], tally.fates["does_not_parse"], tally.copied) == (2, 2, 1)
    with pytest.raises(RecipeError, match="inside the input"):
        rewriting.rewrite(str(place), place / "out", COMMENTS)


def test_a_folder_that_could_be_both_is_asked_about(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "rows.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    (tmp_path / "in" / "load.py").write_text("x = 1  # one\n")
    with pytest.raises(RecipeError, match=r"load.py .*rows.jsonl .*--as"):
        rewriting.rewrite(str(tmp_path / "in"), tmp_path / "out", COMMENTS)
    rewriting.rewrite(str(tmp_path / "in"), tmp_path / "out", COMMENTS, kind_of_input="code")
    assert (tmp_path / "out" / "load.py").read_text() == "x = 1\n"
    rewriting.rewrite(str(tmp_path / "in"), tmp_path / "out.jsonl", COMMENTS, kind_of_input="data")
    assert json.loads((tmp_path / "out.jsonl").read_text())["output"] == BARE


# ---- the command -----------------------------------------------------------------------------------


def test_the_command(tmp_path):
    path, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, {"language": "python", "output": "print 1 # x"}]))
    found = CliRunner().invoke(app, ["rewrite", str(path), str(out), "--remove", "comments", "--json"])
    assert found.exit_code == 0, found.output
    told_ = json.loads(found.stdout)
    assert told_["rows"] == 3
    assert told_["fates"]["changed"] == told_["fates"]["does_not_parse"] == told_["fates"]["no_code"] == 1
    assert told_["kept"][0]["row"].endswith("a.jsonl:3")
    shown = CliRunner().invoke(app, ["rewrite", str(path), str(out), "--remove", "both", "--strip", "trailing-space", "--force"])
    assert "3 rows" in shown.output
    assert "text kept: does not parse" in shown.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"remove": None, "strip": None}, "nothing to do"),
        ({"remove": "coments", "strip": None}, "--remove"),
        ({"remove": None, "strip": "space"}, "--strip"),
        ({"remove": "both", "strip": None, "language": "pyton"}, "did you mean 'python'"),
        ({"remove": "both", "strip": None, "keep": "pragma"}, "--keep"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(RecipeError, match=message):
        rewriting.settings(**options)


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not here")
def test_real_rows_keep_what_is_no_code(tmp_path):
    """Of Alpaca's rows hardly any is code; of CodeAlpaca's the changed ones are programs that are the same."""
    tally = rewriting.rewrite(str(SHARED / "llms_from_scratch" / "instruction-data.json"), tmp_path / "a.json", COMMENTS)
    assert tally.fates["changed"] == 0
    code = SHARED / "code_alpaca" / "code_alpaca_2k.json"
    tally = rewriting.rewrite(str(code), tmp_path / "b.json", COMMENTS)
    assert tally.fates["changed"] > 300
    assert tally.fates["unproved"] < 5
