"""Sources: every row arrives as a Record or is reported as bad, with its line and the reason."""

import ast
import contextlib
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from etude.failures import DataError, RecipeError
from etude.records import BadRow, Record, identify
from etude.sources import functions, where
from etude.sources.alpaca import Alpaca
from etude.sources.columns import Columns
from etude.sources.stdlib import Stdlib

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data beside the repository")


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return str(path)

    return write


def good(rows):
    return [row for row in rows if isinstance(row, Record)]


def bad(rows):
    return [(row.origin.line, row.reason) for row in rows if isinstance(row, BadRow)]


# --- alpaca


def test_alpaca_rows_have_exactly_their_keys(write):
    rows = [
        {"instruction": "Add.", "input": "1 2", "output": "3", "id": 7},
        {"instruction": "Say hi.", "output": ""},
        {"instruction": "Go on.", "input": None, "output": "ok", "system": "Be kind.", "history": [["a", "b"], ["c", "d"]]},
        {"instruction": "Plain.", "output": "x", "system": "", "history": []},
    ]
    path = write("a.json", json.dumps(rows, indent=1))
    records = list(Alpaca(path=path, licence="MIT").read("mine"))
    assert [r.fields for r in records] == [
        {"instruction": "Add.", "input": "1 2", "output": "3"},
        {"instruction": "Say hi.", "input": "", "output": ""},
        {"instruction": "Go on.", "input": "", "output": "ok", "system": "Be kind.", "history": [["a", "b"], ["c", "d"]]},
        {"instruction": "Plain.", "input": "", "output": "x"},
    ]
    assert {(r.source, r.task, r.origin.path, r.origin.licence) for r in records} == {("mine", "mine", path, "MIT")}
    lines = (Path(path).read_text()).splitlines()
    assert [lines[r.origin.line - 1].strip() for r in records] == ["{"] * 4
    assert records[0].id == identify({"instruction": "Add.", "input": "1 2", "output": "3"})


def test_alpaca_bad_rows_are_reported_with_line_and_reason(write):
    lines = [
        '{"instruction": "fine", "output": "x"}',
        "[1, 2]",
        '{"output": "x"}',
        '{"instruction": "  ", "output": "x"}',
        '{"instruction": "x"}',
        '{"instruction": "x", "output": 3}',
        '{"instruction": "x", "output": null}',
        '{"instruction": "x", "output": "y", "input": ["z"]}',
        '{"instruction": "x", "output": "y", "history": [["only one"]]}',
        '{"instruction": "x", "output": "y", "history": "old"}',
        '{"instruction": "x", "output": "y", "history": [["q", 1]]}',
        '{"instruction": "half \\ud83d", "output": "y"}',
        '{"instruction": "torn',
        "",
        '{"instruction": "a", "instruction": "b", "output": "y"}',
        '{"a":' * 20000,
        '{"instruction": "x", "output": NaN}',
        '{"instrucion": "x", "output": "y"}',
        '{"instruction": "last", "output": "y"}',
    ]
    rows = list(Alpaca(path=write("a.jsonl", "\r\n".join(lines))).read("s"))
    assert [r.fields["instruction"] for r in good(rows)] == ["fine", "last"]
    assert [r.origin.line for r in good(rows)] == [1, 19]
    found = dict(bad(rows))
    expected = {
        2: "a list, not an object",
        3: "'instruction' is missing",
        4: "'instruction' is empty",
        5: "'output' is missing",
        6: "'output' is a number, not text",
        7: "'output' is nothing (null), not text",
        8: "'input' is a list, not text",
        9: "'history' pair 1 is a list of 1, not a [question, answer] pair",
        10: "'history' is text, not a list of [question, answer] pairs",
        11: "'history' pair 1: 'answer' is a number, not text",
        12: "'instruction' holds a lone surrogate (U+D83D), which is half a character",
        15: "a key stands twice in the object",
        16: "not JSON that can be read: nested too deeply",
        17: "'output' is a number, not text",
        18: "'instruction' is missing; did you mean 'instrucion'?",
    }
    assert found.keys() == expected.keys() | {13}
    assert found[13].startswith("not JSON (Unterminated string")
    assert {line: found[line] for line in expected} == expected


def test_bytes_of_another_encoding_are_one_bad_row_and_declared_they_are_read(write):
    text = '{"instruction": "caf\u00e9", "output": "x"}\n{"instruction": "tea", "output": "x"}\n'
    path = write("a.jsonl", text.encode("latin-1"))
    rows = list(Alpaca(path=path).read("s"))
    assert bad(rows) == [(1, "byte 0xe9 is not utf-8; if the file is latin-1 or cp1252, set encoding:")]
    assert len(good(rows)) == 1
    assert [r.fields["instruction"] for r in Alpaca(path=path, encoding="latin-1").read("s")] == ["caf\u00e9", "tea"]
    assert len(good(Alpaca(path=write("b.jsonl", text.encode("utf-16"))).read("s"))) == 2
    with pytest.raises(ValidationError, match="did you mean 'latin-1'"):
        Alpaca(path=path, encoding="latin1x")


def test_further_keys_count_only_when_kept(write):
    path = write("a.jsonl", '{"instruction": "x", "output": "y", "doc": 1}\n{"instruction": "x", "output": "y", "doc": 2}\n')
    first, second = Alpaca(path=path).read("s")
    assert first.id == second.id
    first, second = Alpaca(path=path, keep=("doc",)).read("s")
    assert first.id != second.id
    assert first.fields["doc"] == 1
    with pytest.raises(RecipeError, match=r"'dok'.*did you mean 'doc'"):
        list(Alpaca(path=path, keep=("dok",)).read("s"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "", "empty"),
        ("a.json", "[]", "holds no rows"),
        ("a.jsonl", "\n \n", "holds no rows"),
        ("a.csv", "instruction,output\n", "holds no rows"),
        ("a.json", '{"data": []}', "an object with the keys data, a list of rows is needed"),
        ("a.json", '{"instruction": "a", "output": "b"}\n{"instruction": "c", "output": "d"}\n', "container: jsonl"),
        ("a.jsonl", '[\n{"instruction": "a", "output": "b"}\n]', "container: json"),
        ("a.json", '[\n{"instruction": "a", "output": "b"},\n', r"a\.json:3: not JSON"),
        ("a.json", '[\n{"instruction": "a", "output": "b"}\n{"a": 1}]', r"a\.json:3: not JSON \(',' or '\]' expected"),
        ("a.json", '[{"instruction": "a", "output": "b"},]', "not JSON"),
        ("a.json", '[{"instruction": "a", "output": "b"}] x', "after the end"),
        ("a.txt", "hello", r"'\.txt' is not known"),
        ("a.parquet", "hello", "cannot be read as Parquet"),
        ("a.csv", "PAR1....", "container: parquet"),
    ],
)
def test_a_file_of_another_kind_is_a_data_error(write, name, content, message):
    with pytest.raises(DataError, match=message):
        list(Alpaca(path=write(name, content)).read("s"))


def test_a_missing_file_names_the_nearest(write, tmp_path):
    write("phrasebank.csv", "a\n1\n")
    for act in (lambda s: list(s.read("s")), lambda s: s.inputs()):
        with pytest.raises(DataError, match=r"phrasebnk\.csv does not exist; did you mean 'phrasebank\.csv'"):
            act(Columns(path=str(tmp_path / "phrasebnk.csv")))
        with pytest.raises(DataError, match="nor does its folder"):
            act(Columns(path=str(tmp_path / "no" / "x.csv")))


# --- columns


CSV = 'Sentence,Sentiment,Doc\r\n"Sales rose, 12 %",positive,a\r\nFlat.,neutral,a\r\n"Two\nlines",negative,b\r\n'
MAP = {"text": "Sentence", "label": "Sentiment"}


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("ends", ["\r\n", "\n"])
def test_csv_with_quotes_marks_and_line_ends(write, start, ends):
    path = write("p.csv", start + CSV.replace("\r\n", ends))
    rows = list(Columns(path=path, template="sentiment", columns=MAP, licence="CC").read("news"))
    assert [r.fields for r in rows] == [
        {"text": "Sales rose, 12 %", "label": "positive"},
        {"text": "Flat.", "label": "neutral"},
        {"text": "Two\nlines", "label": "negative"},
    ]
    assert [r.origin.line for r in rows] == [2, 3, 4]
    assert {(r.task, r.source, r.origin.licence) for r in rows} == {("sentiment", "news", "CC")}


def test_csv_bad_rows(write):
    text = 'Sentence,Sentiment\na,positive,extra\nb\n\nc,positve\n"d"x,neutral\ne,NEUTRAL\n"f,neutral\n'
    rows = list(Columns(path=write("p.csv", text), template="sentiment", columns=MAP).read("s"))
    assert [r.fields for r in good(rows)] == [{"text": "e", "label": "neutral"}]
    reasons = dict(bad(rows))
    assert reasons[2] == "3 cells where the header has 2"
    assert reasons[3] == "1 cell where the header has 2"
    assert reasons[5] == "unknown label 'positve'; did you mean 'positive'?; `labels:` maps other spellings"
    assert "broken quoting in lines 6 to 6" in reasons[6]
    assert "broken quoting in lines 8 to 8" in reasons[8]
    assert len(reasons) == 5


def test_tsv_delimiter_quote_and_header(write):
    path = write("p.tsv", '"Well" she said\tpositive\n')
    rows = list(Columns(path=path, template="sentiment", header=("text", "label"), quote="").read("s"))
    assert rows[0].fields == {"text": '"Well" she said', "label": "positive"}
    semicolons = write("p.csv", "text;label\na;neutral\n")
    assert len(good(Columns(path=semicolons, template="sentiment", delimiter=";").read("s"))) == 1


def test_every_container_gives_the_same_records(write, tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [{"Sentence": f"Row {i}", "Sentiment": label, "n": i} for i, label in enumerate(["positive", "neutral", "negative"])]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    write("p.json", json.dumps(rows))
    write("p.jsonl", "".join(json.dumps(r) + "\n" for r in rows))
    write("p.csv", "Sentence,Sentiment,n\n" + "".join(f"{r['Sentence']},{r['Sentiment']},{r['n']}\n" for r in rows))
    write("p.tsv", "Sentence\tSentiment\tn\n" + "".join(f"{r['Sentence']}\t{r['Sentiment']}\t{r['n']}\n" for r in rows))
    ids = {}
    for end in ("csv", "tsv", "json", "jsonl", "parquet"):
        ids[end] = [r.id for r in Columns(path=str(tmp_path / f"p.{end}"), template="sentiment", columns=MAP).read("s")]
    assert len(set(map(tuple, ids.values()))) == 1
    assert len(set(ids["csv"])) == 3
    typed = [r.fields["n"] for r in Columns(path=str(tmp_path / "p.parquet")).read("s")]
    assert typed == [0, 1, 2]
    only = good(Columns(path=str(tmp_path / "p.parquet"), where="n > 0").read("s"))
    assert [(r.fields["n"], r.origin.line) for r in only] == [(1, 2), (2, 3)]


def test_labels_may_be_numbers(write):
    path = write(
        "p.jsonl", '{"text": "a", "label": 0}\n{"text": "b", "label": 2}\n{"text": "c", "label": 5}\n{"text": "d", "label": 1.0}\n'
    )
    rows = list(Columns(path=path, template="sentiment", labels={0: "negative", 1: "neutral", 2: "positive"}).read("s"))
    assert [r.fields["label"] for r in good(rows)] == ["negative", "positive", "neutral"]
    assert bad(rows) == [(3, "unknown label '5'; there is negative, neutral, positive; `labels:` maps other spellings")]
    with pytest.raises(RecipeError, match=r"'positiv' is no label.*did you mean 'positive'"):
        list(Columns(path=path, template="sentiment", labels={2: "positiv"}).read("s"))


def test_cells_that_no_template_can_show_are_bad_rows(write, tmp_path):
    rows = list(Columns(path=write("p.jsonl", '{"a": null}\n{"a": NaN}\n{"a": true}\n{"b": 1}\n{"a": ["\\udc00"]}\n')).read("s"))
    assert [line for line, _ in bad(rows)] == [1, 2, 3, 4, 5]  # no row has both columns
    rows = list(Columns(path=str(tmp_path / "p.jsonl"), columns={"a": "a"}).read("s"))
    assert [r.fields["a"] for r in good(rows)] == [True]
    assert [line for line, _ in bad(rows)] == [1, 2, 4, 5]


def test_a_missing_column_names_the_ones_there_are(write):
    path = write("p.csv", CSV)
    with pytest.raises(
        RecipeError, match=r"sources\.news\.columns\.text: .*no column 'Sentense'; did you mean 'Sentence'\?.*Sentence, Sentiment, Doc"
    ):
        list(Columns(path=path, template="sentiment", columns={"text": "Sentense", "label": "Sentiment"}).read("news"))
    with pytest.raises(RecipeError, match=r"template 'sentiment' needs the field 'text'.*Sentence, Sentiment, Doc"):
        list(Columns(path=path, template="sentiment").read("news"))
    with pytest.raises(ValidationError, match="did you mean 'sentiment'"):
        Columns(path=path, template="sentment")


def test_where_limit_and_task(write):
    path = write("p.csv", CSV)
    settings = Columns(
        path=path, template="sentiment", columns={**MAP, "doc": "Doc"}, where="Doc == 'a' and len(text) > 3", limit=1, task="mood"
    )
    rows = list(settings.read("s"))
    assert [(r.fields["text"], r.fields["doc"], r.task) for r in rows] == [("Sales rose, 12 %", "a", "mood")]
    rows = list(Columns(path=path, where="Sentiment != 'positive'", limit=2).read("s"))
    assert [r.fields["Sentence"] for r in rows] == ["Flat.", "Two\nlines"]
    with pytest.raises(RecipeError, match=r"no field 'Sentense'; did you mean 'Sentence'"):
        list(Columns(path=path, where="Sentense != ''").read("s"))
    with pytest.raises(DataError, match="none of the 3 rows passes where"):
        list(Columns(path=path, where="Doc == 'z'").read("s"))
    with pytest.raises(ValidationError):
        Columns(path=path, limit=0)
    rows = list(Columns(path=path, where="Doc > 3").read("s"))
    assert [reason for _, reason in bad(rows)] == ["where `Doc > 3` cannot be computed: text and a number cannot be compared so"] * 3


def test_rows_are_streamed(write):
    path = write("p.csv", "text,label\n" + "a,neutral\n" * 5000 + '"broken"x,neutral\n')
    rows = Columns(path=path, template="sentiment", limit=2).read("s")
    assert len(list(rows)) == 2  # the broken end was never reached


def test_repeated_columns_and_large_cells(write):
    with pytest.raises(DataError, match=r"p\.csv:1: column 'a' is named twice"):
        list(Columns(path=write("p.csv", "a,b,a\n1,2,3\n")).read("s"))
    assert len(good(Columns(path=write("q.csv", "a,b\n" + "x" * 200_000 + ",2\n")).read("s"))) == 1


def test_a_template_of_ones_own_is_an_input(write):
    path = write("p.csv", CSV)
    mine = write("mine.yaml", "task: t\nfields: [x]\nphrasings: [{instruction: Say, input: '{{ x }}', answer: '{{ x }}'}]\n")
    settings = Columns(path=path, template=mine, columns={"x": "Sentence"})
    before = settings.inputs()
    assert [r.task for r in settings.read("s")] == ["t"] * 3
    Path(mine).write_text(Path(mine).read_text().replace("Say", "Tell"))
    assert before[path] == settings.inputs()[path]
    assert before != settings.inputs()


# --- where


VALUES = {"text": "Good morning", "n": 4, "x": None, "ok": True, "tags": ["a", "b"]}


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("text != ''", True),
        ("len(text) > 3 and n < 5", True),
        ("not ok or n == 4", True),
        ("'morning' in text", True),
        ("text.lower().startswith('good')", True),
        ("startswith(lower(text), 'bad')", False),
        ("n in (1, 2, 3)", False),
        ("n not in [1, 2]", True),
        ("'a' in tags", True),
        ("x is None", True),
        ("1 < n <= 4", True),
        ("n * 2 + 1 == 9", True),
        ("len(text.split()) == 2", True),
        ("-n < 0", True),
        ("n % 2 == 0", True),
        ("int('7') // 2 == 3", True),
        ("ok", True),
    ],
)
def test_where_computes(expression, result):
    condition = where.parse(expression)
    condition.check(VALUES)
    assert condition.passes(VALUES) is result


@pytest.mark.parametrize(
    "expression",
    [
        "text.__class__",
        "().__class__.__bases__",
        "__import__('os').system('true')",
        "open('x')",
        "text.format(n)",
        "text.join(tags)",
        "[t for t in tags]",
        "lambda: 1",
        "(n := 3)",
        "2 ** 99",
        "1 << 9",
        "f'{text}'",
        "text[0]",
        "text if ok else n",
        "len(*tags)",
        "int(text, base=3)",
        "text ==",
        "text; n",
        "",
        "(" * 500 + "1" + ")" * 500,
        "n" + " + n" * 2000,
        "b'x' == text",
    ],
)
def test_where_refuses(expression):
    with pytest.raises(RecipeError, match="where"):
        where.parse(expression)
    with pytest.raises(ValidationError):
        Columns(path="x.csv", where=expression)


@pytest.mark.parametrize(
    "expression", ["text * 1000000000", "text % n", "n / 0 > 1", "x < 3", "x.lower() == ''", "len(n) > 1", "text + n == ''"]
)
def test_where_that_does_not_fit_a_row_says_so(expression):
    with pytest.raises(where.Unfit, match="cannot be computed"):
        where.parse(expression).passes(VALUES)


def test_where_products_are_bounded():
    huge = "*".join(["n"] * 400)
    with pytest.raises(where.Unfit, match="too large"):
        where.parse(f"{huge} > 1").passes({"n": 10**30})


@given(st.text(max_size=40))
def test_where_never_fails_otherwise(text):
    try:
        condition = where.parse(text)
    except RecipeError:
        return
    with contextlib.suppress(where.Unfit):
        condition.passes(VALUES)


# --- the standard library


SOURCE = b'''
import os

class Cache:
    @property
    def size(self):
        """Return the number of entries
        that are held at present.

        More words.
        """
        total = 0
        for entry in self.entries:
            total += entry.weight
        # the lock counts as one
        return total + 1

    def text(self, name):
        """Give a greeting for this name."""

        return """Hello,
   dear %s, and
\twelcome to the machine""" % name

def one(): "A docstring on the line of its def."; return 1

def short(x):
    """This function is far too short."""
    return x

def doctest(x):
    """>>> doctest(1) and more of that"""
    return [x for _ in range(10) if x is not None and x > 3 and x < 10]

def outer(values):
    """Sum up all the positive values."""
    def inner(value):
        """Say whether a value is positive enough to count here."""
        if value is None:
            return False
        return value > 0 and value != float("inf")
    found = [value for value in values if inner(value)]
    total = sum(found)
    return total
'''


def test_docstrings_are_taken_out_exactly():
    found = {f.name: f for f in functions.functions(SOURCE)}
    assert list(found) == ["Cache.size", "Cache.text", "outer", "outer.inner"]
    size = found["Cache.size"]
    assert size.docstring == "Return the number of entries that are held at present."
    assert size.code == (
        "@property\ndef size(self):\n    total = 0\n    for entry in self.entries:\n        total += entry.weight\n"
        "    # the lock counts as one\n    return total + 1"
    )
    assert size.line == 6
    assert found["Cache.text"].code == ('def text(self, name):\n    return """Hello,\n   dear %s, and\n\twelcome to the machine""" % name')
    assert found["outer.inner"].code.startswith("def inner(value):\n    if value is None:\n        return False")


def test_a_cut_function_can_be_put_together_again():
    code = (
        "def f(x):\n    a = x + 1\n    b = a * 2\n    if b > 3:\n        b = 3\n"
        "    else:\n        # not so large\n        c = b + a\n        b = c"
    )
    before, completion = functions.finish(code, "key")
    assert (before, completion) == functions.finish(code, "key")
    assert before.count(functions.TODO) == 1
    seen = {functions.finish(code, f"key{i}") for i in range(40)}
    assert len(seen) > 1
    assert all(restored(before, completion) == code for before, completion in seen)
    assert functions.finish("def f(x):\n    return x + 1", "key") is None


def test_text_over_several_lines_is_never_changed(monkeypatch):
    code = 'def f(x):\n    a = x + 1 + 2 + 3\n    b = a * 2 * 3\n    text = """one\n    two"""\n    return a, b, text'
    assert not [i for i in range(20) if '"""' in (functions.finish(code, f"key{i}") or ("", ""))[1]]
    continued = SOURCE.replace(b"dear %s, and\n", b"dear %s, and\\\n")
    assert "and\\\n\twelcome" in next(f.code for f in functions.functions(continued) if f.name == "Cache.text")
    # a text that was not recognised as such costs the function, not its meaning
    monkeypatch.setattr(functions, "inside_texts", lambda lines: frozenset())
    unseen = SOURCE.replace(b"\n   dear", b"\n        dear")
    assert "Cache.text" not in {f.name for f in functions.functions(unseen)}


def test_texts_continued_with_a_backslash_and_elif():
    body = 'x = "first line \\\n        second line"\n{}return x + x + x + x'
    source = 'class A:\n    def f(self):\n        """Return quite a long greeting."""\n        ' + body.format(" " * 8)
    found = functions.functions(source.encode())
    assert [f.code for f in found] == ["def f(self):\n    " + body.format(" " * 4)]
    code = (
        "def f(x):\n    if x > 1000 and x < 2000:\n        return x + 1 + 1000000\n    elif x:\n        return x * 2 + 1000 * x + 30000 + x"
    )
    cuts = [functions.finish(code, f"key{i}") for i in range(20)]
    assert any(cuts)
    assert not [cut for cut in cuts if cut and cut[1].startswith("elif")]


def restored(before, completion):
    indent = before.split("\n")[-1].removesuffix(functions.TODO)
    lines = [indent + line if line else "" for line in completion.split("\n")]
    return "\n".join([*before.split("\n")[:-1], *lines])


@pytest.fixture(scope="module")
def library():
    start = time.process_time()
    rows = list(Stdlib().read("lib"))
    return rows, time.process_time() - start


def test_the_real_library_has_thousands_of_functions(library):
    rows, seconds = library
    assert all(isinstance(r, Record) for r in rows)
    assert len(rows) > 3500
    assert len({r.id for r in rows}) == len(rows)
    assert seconds < 15
    assert {(r.task, r.source, r.origin.licence) for r in rows} == {("docstring", "lib", "PSF-2.0")}
    assert len({r.fields["file"] for r in rows}) > 200
    places = [(r.origin.path.split("/"), r.origin.line) for r in rows if r.origin.path.startswith("json/")]
    assert places == sorted(places)
    assert not [r.origin.path for r in rows if "test" in r.origin.path.split("/") or "site-packages" in r.origin.path]
    for row in rows[::7]:
        body = ast.parse(row.fields["code"]).body
        assert len(body) == 1
        assert 60 <= len(row.fields["code"]) <= 900
        assert 15 <= len(row.fields["docstring"]) <= 160
        assert "\n" not in row.fields["docstring"]
        assert ast.get_docstring(body[0]) is None or ast.get_docstring(body[0]) != row.fields["docstring"]


def test_most_of_the_real_library_can_be_cut(library):
    rows, _ = library
    cut = 0
    for row in rows[::11]:
        parts = functions.finish(row.fields["code"], row.id)
        if parts:
            cut += 1
            if "\n\n" not in row.fields["code"]:
                assert restored(*parts) == row.fields["code"]
    assert cut > len(rows[::11]) / 3


def test_stdlib_limit_is_a_sample_over_all_files(tmp_path, monkeypatch):
    for n in range(30):
        body = "".join(
            f'def f{i}(x):\n    """Compute the number {i} of file {n}."""\n    y = x + {i} * 1000\n    return y + {n} + 12345 * 3\n'
            for i in range(4)
        )
        (tmp_path / f"m{n:02}.py").write_text(body)
    (tmp_path / "ast.py").write_text("")
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "m.py").write_text((tmp_path / "m00.py").read_text())
    monkeypatch.setattr("etude.sources.stdlib.library", lambda: tmp_path)
    everything = list(Stdlib().read("s"))
    assert len(everything) == 120
    few = list(Stdlib(limit=20).read("s"))
    assert len(few) == 20
    assert len({r.fields["file"] for r in few}) > 8
    more = {r.id for r in Stdlib(limit=40).read("s")}
    assert {r.id for r in few} < more
    assert [r.id for r in few] == [r.id for r in everything if r.id in {f.id for f in few}]
    assert len(list(Stdlib(where="file == 'm03.py'").read("s"))) == 4
    with pytest.raises(RecipeError, match="did you mean 'file'"):
        list(Stdlib(where="fil == 'm03.py'").read("s"))
    before = Stdlib().inputs()
    assert next(iter(before)).startswith("python 3.")
    (tmp_path / "m00.py").write_text((tmp_path / "m00.py").read_text().replace("x + 0", "x - 0"))
    assert Stdlib().inputs() != before


def test_stdlib_template_follows_the_task():
    assert (Stdlib().template, Stdlib(task="complete").template) == ("docstring", "complete")
    assert Stdlib(task="complete", template="docstring").template == "docstring"


def test_stdlib_inputs_are_quick():
    start = time.process_time()
    assert len(next(iter(Stdlib().inputs().values()))) == 64
    assert time.process_time() - start < 1


# --- real data


@real_data
def test_phrasebank():
    path = str(DATA / "financial_phrasebank" / "Sentences_AllAgree.csv")
    rows = list(Columns(path=path, template="sentiment", columns=MAP).read("news"))
    assert len(rows) == len(good(rows)) == 2264
    counts = {label: sum(r.fields["label"] == label for r in rows) for label in ("negative", "neutral", "positive")}
    assert counts == {"negative": 303, "neutral": 1391, "positive": 570}
    assert not any("\ufffd" in r.fields["text"] for r in rows)
    assert [r.origin.line for r in rows] == list(range(2, 2266))


@real_data
def test_alpaca_files():
    rows = list(Alpaca(path=str(DATA / "alpaca" / "random_9k.json")).read("alpaca"))
    assert len(good(rows)) == 9229
    assert not bad(rows)
    bare = list(Alpaca(path=str(DATA / "alpaca" / "random_9k.json"), where="input == ''").read("alpaca"))
    assert 0 < len(bare) < 9229
    assert all(r.fields["input"] == "" for r in bare)
    seeds = list(Alpaca(path=str(DATA / "alpaca" / "seed_tasks.jsonl")).read("alpaca"))  # another shape: no row is good
    assert [reason for _, reason in bad(seeds)] == ["'output' is missing"] * 175
