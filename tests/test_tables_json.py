"""One JSON document: a list, or an object that holds the rows under a key; read through a moving window."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.failures import DataError
from etude.records import BadRow
from etude.sources import compressed
from etude.sources.alpaca import Alpaca
from etude.sources.encodings import Text
from etude.sources.json_lists import Window
from etude.sources.rows import Row
from etude.sources.tables import Table, opened


@pytest.fixture(params=[3, 64, 2**18], ids="pieces of {}".format)
def write(request, tmp_path, monkeypatch):
    """Write a file; what it holds is then read in pieces of so many bytes."""
    monkeypatch.setattr(compressed, "PIECE", request.param)

    def write(text, name="a.json"):
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogatepass"))
        return str(tmp_path / name)

    return write


def rows(path, **more):
    return list(opened(Table(path, **more))[0])


def test_an_object_gives_the_only_list_of_objects(write):
    text = '{"version": 1.5, "tags": ["a", "]}"], "meta": {"data": [{"no": 1}]},\n"data": [\n{"a": 1},\n{"a": 2}\n], "end": null}\n'
    found = rows(write(text))
    assert [(row.cells, row.origin.line) for row in found] == [({"a": 1}, 3), ({"a": 2}, 4)]
    path = write('{"train": [{"instruction": "x", "output": "y"}]}')
    assert [r.fields["instruction"] for r in Alpaca(path=path).read("s")] == ["x"]


def test_several_lists_are_refused_with_their_keys_until_one_is_named(write):
    path = write('{"Definition": ["x"], "Examples": [{"a": 1}], "Instances": [{"a": 2}, {"a": 3}], "one": {"a": 9}}')
    with pytest.raises(DataError, match="rows could be under Examples, Instances; set rows_key:"):
        rows(path)
    assert [row.cells["a"] for row in rows(path, rows_key="Instances")] == [2, 3]
    assert [row.cells["a"] for row in rows(path, rows_key="Examples")] == [1]
    assert [row.reason for row in rows(path, rows_key="Definition")] == ["text, not an object"]
    with pytest.raises(DataError, match="no key 'instances'; did you mean 'Instances'"):
        rows(path, rows_key="instances")
    with pytest.raises(DataError, match="'one' is no list"):
        rows(path, rows_key="one")
    with pytest.raises(DataError, match="plain list"):
        rows(write('[{"a": 1}]'), rows_key="Instances")
    with pytest.raises(DataError, match=r"rows_key is for \.json"):
        rows(write('{"a": 1}', "a.jsonl"), rows_key="Instances")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "holds an object, a list of rows is needed"),
        ('{"a": 1, "b": []}', "an object with the keys a, b, a list of rows is needed"),
        ('{"messages": [{"role": "user"}]}\n{"messages": [{"role": "user"}]}\n', "container: jsonl"),
        ('{"a": [{"b": 1}]} x', "text after the end"),
        ('{"a": [{"b": 1}], "a": []}', r"a\.json:1: the key 'a' stands twice"),
        ('{"a": [{"b": 1}]', r"expected in the object\); is the file cut off"),
        ('{"a":\n[{"b": 1},', r"a\.json:2: not JSON \(the file ends in the value that begins here\); is the file cut off"),
        ('{"a": "never en', "is the file cut off"),
        ('{"a" 1}', "a key and ':' expected"),
        ("{1: 2}", "a key and ':' expected"),
        ('{"a": 1,}', "a key and ':' expected"),
        ("12", "holds a number, a list of rows"),
        ("null", "holds nothing"),
        ("hello", r"a\.json:1: not JSON \(Expecting value at character 1"),
        ("[", "cut off"),
        ('[{"a": 1}', r"',' or '\]' expected after an element\); is the file cut off"),
        ('[{"a": 1}, {"a": "it is c', r"Unterminated string starting at character 7 of the row.*is the file cut off"),
        ('[\n{"a": 1},\n{"a": 1 1}\n]' + " " * 40, r"a\.json:3: not JSON \(Expecting ',' delimiter at character 9 of the row\)"),
        ('[{"a": 1}] [', "text after the end of the JSON list"),
    ],
)
def test_what_is_wrong_with_a_document(write, text, message):
    with pytest.raises(DataError, match=message):
        rows(write(text))


def test_elements_that_are_no_rows(write):
    found = rows(write('[1234567, "text", null, [1], {"a": 1}, true, -1.5e3\n]'))
    assert [row.reason for row in found if isinstance(row, BadRow)] == [
        "a number, not an object",
        "text, not an object",
        "nothing (null), not an object",
        "a list, not an object",
        "true/false, not an object",
        "a number, not an object",
    ]
    assert found[4].cells == {"a": 1}


def test_rows_before_a_cut_come_first(write):
    path = write("[" + ",\n".join(json.dumps({"a": i}) for i in range(500)) + ',\n{"a": "torn')
    reading, found = opened(Table(path))[0], []

    def collect():
        for row in reading:
            found.append((row.cells["a"], row.origin.line))

    with pytest.raises(DataError, match=r"a\.json:501: .*cut off"):
        collect()
    assert found == [(i, i + 1) for i in range(500)]


def test_a_long_row_that_never_ends_is_no_silence(write):
    with pytest.raises(DataError, match=r"a\.json:2: not JSON \(the file ends in the row that begins here\)"):
        rows(write('[{"a": 1},\n{"a": "' + "x" * 9000), longest=1000)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(values, max_size=6), st.integers(1, 9), st.sampled_from([None, 0, 2]), st.booleans())
def test_values_are_passed_over_as_they_would_be_decoded(items, size, indent, ascii_only):
    """The brackets alone lead to the same places as decoding does, however the pieces fall."""
    text = json.dumps(items, indent=indent, ensure_ascii=ascii_only)
    data = text.encode()
    window = Window(Text(iter([data[i : i + size] for i in range(0, len(data), size)]), "utf-8", "surrogateescape"))
    assert window.take("[")
    for index, item in enumerate(items):
        window.peek()
        held = window.text[window.position :]
        assert json.dumps(item, ensure_ascii=ascii_only).startswith(held[:1])
        assert window.passed()
        assert window.take("," if index + 1 < len(items) else "]")
    if not items:
        assert window.take("]")
    assert window.peek() == ""
    assert window.here() == text.count("\n") + 1


@given(st.lists(st.dictionaries(st.text(max_size=4), values, max_size=3), min_size=1, max_size=6), st.sampled_from([None, 1]))
def test_every_list_is_read_as_json_reads_it(tmp_path_factory, items, indent):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(items, indent=indent), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compressed, "PIECE", 5)
        found = rows(str(path))
    assert [row.cells for row in found if isinstance(row, Row)] == items
