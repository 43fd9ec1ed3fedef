"""Containers: rows come out of every kind of file, with their lines, or the reason why not; in flat memory."""

import gzip
import json
import random
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude import journal
from etude.failures import DataError
from etude.records import BadRow
from etude.sources import compressed
from etude.sources.alpaca import Alpaca
from etude.sources.columns import Columns
from etude.sources.json_lines import lines
from etude.sources.rows import Row
from etude.sources.tables import Table, digests, opened

ROWS = [{"a": f"row {i}", "b": "ü漢"} for i in range(5)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return str(path)

    return write


def rows(path, **more):
    return list(opened(Table(path, **more))[0])


def collect(reading, found):
    """Every row into the list, also those that come before a failure."""
    for row in reading:
        found.append(row)


def cells(path, **more):
    return [row.cells for row in rows(path, **more) if isinstance(row, Row)]


def bad(found):
    return {row.origin.line: row.reason for row in found if isinstance(row, BadRow)}


def zstd(content):
    return pytest.importorskip("zstandard").ZstdCompressor().compress(content)


# --- compression


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".zst", zstd)])
def test_text_containers_unpack(write, ending, pack):
    assert cells(write("a.jsonl" + ending, pack(LINES.encode()))) == ROWS
    assert cells(write("a.json" + ending, pack(json.dumps(ROWS).encode()))) == ROWS
    table = "a,b\n" + "".join(f"{row['a']},{row['b']}\n" for row in ROWS)
    assert cells(write("a.csv" + ending, pack(table.encode()))) == ROWS
    assert cells(write("a.TSV" + ending.upper(), pack(table.replace(",", "\t").encode("utf-16")))) == ROWS
    assert [row.origin.line for row in rows(write("b.jsonl" + ending, pack(LINES.encode())))] == [1, 2, 3, 4, 5]
    # several members or frames end to end, as `cat` makes them, and none of their lines lost at the seams
    half = len(LINES.encode()) // 2
    joined = pack(LINES.encode()[:half]) + pack(b"") + pack(LINES.encode()[half:])
    assert cells(write("c.jsonl" + ending, joined)) == ROWS
    # what the bytes say counts, under any name; a name that promises too much is an error
    assert cells(write("d.jsonl", pack(LINES.encode()))) == ROWS
    with pytest.raises(DataError, match=f"named {ending}, but its bytes are not compressed"):
        rows(write("e.jsonl" + ending, LINES))
    with pytest.raises(DataError, match="unpack it first"):
        rows(write("f.parquet" + ending, pack(b"PAR1")))


def test_gzip_ends_with_padding_or_rubbish(write):
    packed = gzip.compress(LINES.encode())
    assert cells(write("a.jsonl.gz", packed + b"\0" * 700)) == ROWS
    with pytest.raises(DataError, match="damaged"):
        rows(write("b.jsonl.gz", packed + b"rubbish"))
    broken = bytearray(packed)
    broken[-6] ^= 1  # the checksum
    with pytest.raises(DataError, match="damaged"):
        rows(write("c.jsonl.gz", bytes(broken)))


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".zst", zstd)])
@pytest.mark.parametrize("container", ["jsonl", "csv", "json"])
def test_a_cut_stream_gives_its_rows_and_then_says_so(write, ending, pack, container, monkeypatch):
    monkeypatch.setattr(compressed, "PIECE", 2**12)
    draws = random.Random(1)
    many = [{"n": str(i), "t": "".join(draws.choices("abcdefghij", k=90))} for i in range(4000)]
    text = {
        "jsonl": "".join(json.dumps(row) + "\n" for row in many),
        "json": json.dumps(many, indent=0),
        "csv": "n,t\n" + "".join(f"{row['n']},{row['t']}\n" for row in many),
    }[container]
    packed = pack(text.encode())
    path = write(f"a.{container}{ending}", packed[: len(packed) // 2])
    found = []
    with pytest.raises(DataError, match="cut off"):
        collect(opened(Table(path))[0], found)
    assert [row.cells for row in found] == many[: len(found)]
    assert len(found) > (100 if ending == ".gz" else 0)
    for end in (1, 8, len(packed) // 3):
        with pytest.raises(DataError, match=r"cut off|not JSON"):
            rows(write(f"b.{container}{ending}", packed[:-end]))


def test_gzip_without_extension_needs_a_container(write):
    path = write("rows.gz", gzip.compress(LINES.encode()))
    with pytest.raises(DataError, match="set container"):
        rows(path)
    assert cells(path, container="jsonl") == ROWS


def test_zst_without_its_package_says_what_to_install(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(DataError, match="pip install zstandard"):
        rows(write("a.jsonl.zst", b"\x28\xb5\x2f\xfd...."))


# --- encodings


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_utf8_marks_line_ends_and_no_final_newline(write, name, start, ends):
    text = {"a.jsonl": LINES, "a.json": json.dumps(ROWS, indent=1), "a.csv": "a,b\n" + "".join(f"row {i},ü漢\n" for i in range(5))}[name]
    found = rows(write(name, start + text.rstrip("\n").replace("\n", ends).encode()))
    assert [row.cells for row in found] == ROWS
    expected = {"a.jsonl": [1, 2, 3, 4, 5], "a.json": [2, 6, 10, 14, 18], "a.csv": [2, 3, 4, 5, 6]}[name]
    assert [row.origin.line for row in found] == expected


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_encodings_by_mark_or_declared(write, encoding):
    marked = "\ufeff".encode(encoding) + LINES.encode(encoding)
    assert cells(write("a.jsonl", marked)) == ROWS
    assert cells(write("a.jsonl", marked), encoding=encoding) == ROWS
    assert cells(write("b.jsonl", LINES.encode(encoding)), encoding=encoding) == ROWS
    if encoding.startswith("utf-16"):
        assert cells(write("a.jsonl", marked), encoding="utf-16") == ROWS
        assert cells(write("b.jsonl", LINES.encode(encoding)), encoding="utf-16") == ROWS
        with pytest.raises(DataError, match=f"looks like {encoding} without its mark.*set encoding: {encoding}"):
            rows(write("b.jsonl", LINES.encode(encoding)))
    with pytest.raises(DataError, match=f"mark of {encoding}, not latin-1; set encoding: {encoding}"):
        rows(write("a.jsonl", marked), encoding="latin-1")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "gb18030", "shift_jis", "utf-16"])
def test_declared_encodings(write, encoding):
    text = "a\n" + ("é" if encoding in ("latin-1", "cp1252") else "漢") * 9 + "\n"
    assert cells(write("a.csv", text.encode(encoding)), encoding=encoding) == [{"a": text[2:-1]}]
    assert cells(write("a.jsonl", json.dumps({"a": text}, ensure_ascii=False).encode(encoding)), encoding=encoding) == [{"a": text}]


def test_bytes_of_another_encoding_name_line_byte_and_the_setting(write):
    lines = b'{"a": "fine"}\n{"a": "caf\xe9"}\n{"a": "also"}\n'
    assert bad(rows(write("a.jsonl", lines))) == {2: "byte 0xe9 is not utf-8; if the file is latin-1 or cp1252, set encoding:"}
    found = rows(write("a.json", b"[\n" + lines.strip().replace(b"\n", b",\n") + b"]"))
    assert [type(row) for row in found] == [Row, BadRow, Row]
    assert "byte 0xe9 is not utf-8" in bad(found)[3]
    assert bad(rows(write("a.csv", b"a\nfine\ncaf\xe9\nalso\n"))).keys() == {3}
    with pytest.raises(DataError, match=r"a\.csv:1: byte 0xe9"):
        rows(write("a.csv", b"caf\xe9\nfine\n"))
    assert bad(rows(write("b.jsonl", lines), encoding="ascii")) == {
        2: "byte 0xe9 is not ascii; if the file is latin-1 or cp1252, set encoding:"
    }
    broken = '{"a": "x"}\n{"a": "y"}\n'.encode("utf-16") + b"!"
    with pytest.raises(DataError, match=r"c\.jsonl:3: byte 46 is not utf-16-le .*set encoding:"):
        rows(write("c.jsonl", broken))
    half = '{"a": "x"}\n{"a": "\ud83d"}\n'.encode("utf-16-le", "surrogatepass")
    found = rows(write("d.jsonl", b"\xff\xfe" + half))
    assert bad(found) == {2: "U+D83D alone is not utf-16-le; set encoding: to what it is"}


def test_a_character_across_two_pieces_is_whole(write, monkeypatch):
    monkeypatch.setattr(compressed, "PIECE", 7)
    text = "".join(json.dumps({"a": "漢ü😀" * i}, ensure_ascii=False) + "\n" for i in range(1, 9))
    expected = [{"a": "漢ü😀" * i} for i in range(1, 9)]
    for encoding in ("utf-8", "utf-16-le", "gb18030"):
        for name, words in (("a.jsonl", text), ("a.json", f"[{text.strip()}]".replace("\n", ",\n"))):
            found = rows(write(name, words.encode(encoding)), encoding=encoding)
            assert [row.cells for row in found] == expected
            assert [row.origin.line for row in found] == list(range(1, 9))


# --- files that hold nothing, or something else


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.jsonl.gz"])
def test_nothing_in_a_file_is_a_data_error(write, name):
    with pytest.raises(DataError, match=r"is empty \(0 bytes\)"):
        rows(write(name, b""))
    for blank in ("\n", "\r\n\n\r\n", "\ufeff\n", " \n\t\n" if name != "a.csv" else "\n"):  # in CSV, a blank is a cell
        with pytest.raises(DataError, match="holds no rows"):
            rows(write(name.removesuffix(".gz"), blank))
    with pytest.raises(DataError, match="holds no rows"):
        rows(write("b.jsonl.gz", gzip.compress(b"")))


@pytest.mark.parametrize(
    ("name", "start", "message"),
    [
        ("a.jsonl", b"PAR1\0\0", "container: parquet"),
        ("a.csv", b"ARROW1\0\0", "container: arrow"),
        ("a.csv", b"PK\x03\x04", "a spreadsheet"),
        ("a.json", b"\x89PNG\r\n", "byte 0x89|not JSON"),
        ("a.arrow", b"hello, here is text", "cannot be read as Arrow"),
        ("a.parquet", b"hello, here is text", "cannot be read as Parquet"),
    ],
)
def test_other_kinds_of_file(write, name, start, message):
    with pytest.raises(DataError, match=message):
        rows(write(name, start))


def test_zero_bytes_are_bad_rows(write):
    found = rows(write("a.jsonl", b'{"a": "x"}\n\0\0\0\0\n{"a": "y\0"}\n{"a": "z"}\n'))
    assert [row.origin.line for row in found] == [1, 2, 3, 4]
    assert "4 zero bytes" in bad(found)[2]
    assert "1 zero byte;" in bad(found)[3]
    assert bad(rows(write("a.csv", b"a,b\n1,2\n1,\0\n"))) == {3: "the row holds 1 zero byte; is the file damaged, or UTF-16?"}


# --- long rows, deep rows


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "a.arrow"])
def test_overlong_rows_are_bad_and_the_rest_is_read(write, tmp_path, name):
    long = [{"a": "one"}, {"a": "x" * 5000}, {"a": "three"}, {"a": 'y"],}{[\\' * 900}, {"a": "five"}]
    put(tmp_path / name, long)
    found = rows(str(tmp_path / name), longest=3000)
    assert [row.cells for row in found if isinstance(row, Row)] == long[::2]
    assert len(bad(found)) == 2
    assert all("longer than 3,000" in why for why in bad(found).values())
    assert all(len(row.text) <= 200 for row in found if isinstance(row, BadRow))


def put(path, rows):
    """The rows in the container of the name."""
    import csv

    import pyarrow
    import pyarrow.ipc
    import pyarrow.parquet

    if path.suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=3)
    elif path.suffix == ".arrow":
        table = pyarrow.Table.from_pylist(rows)
        with pyarrow.ipc.new_stream(str(path), table.schema) as sink:
            sink.write_table(table)
    else:
        dumped = [json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_text("\n".join(dumped) if path.suffix == ".jsonl" else "[\n" + ",\n".join(dumped) + "\n]\n", encoding="utf-8")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_deep_rows_and_huge_numbers_are_bad_and_the_rest_is_read(write, name):
    odd = [
        '{"a": 1}',
        '{"a":' * 30000 + "1" + "}" * 30000,
        '{"a": ' + "9" * 5000 + "}",
        '{"a": 1, "a": 2}',
        '{"b": {"c": 1, "c": 2}}',
        '{"a": 2}',
    ]
    text = "\n".join(odd) if name == "a.jsonl" else "[" + ",\n".join(odd) + "]"
    found = rows(write(name, text))
    assert [row.cells for row in found if isinstance(row, Row)] == [{"a": 1}, {"a": 2}]
    why = bad(found)
    assert why[2] == "not JSON that can be read: nested too deeply"
    assert "4300 digits" in why[3]
    assert why[4] == why[5] == "a key stands twice in the object"


@given(
    st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"")), max_size=8), st.integers(1, 9), st.integers(1, 6), st.booleans()
)
def test_lines_are_those_of_split_however_the_pieces_fall(parts, size, longest, final):
    data = b"\n".join(parts) + (b"\n" if final else b"")
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    expected = data.split(b"\n")
    expected = expected[:-1] if not expected[-1] else expected
    assert list(lines(iter(pieces), 100)) == list(enumerate(expected, 1))
    cut = [line[: longest + 1] if len(line) > longest else line for line in expected]
    found = [line[: longest + 1] for _, line in lines(iter(pieces), longest)]
    assert found == cut


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.jsonl.gz", "a.json.zst"])
def test_memory_is_flat(tmp_path, name, monkeypatch):
    monkeypatch.setattr(compressed, "PIECE", 2**15)
    path = tmp_path / name
    source = [{"a": str(i), "b": f"{i} " * 500} for i in range(4000)]  # some 10 MB
    plain = tmp_path / name.removesuffix(".gz").removesuffix(".zst")
    put(plain, source)
    if plain != path:
        path.write_bytes(gzip.compress(plain.read_bytes()) if name.endswith(".gz") else zstd(plain.read_bytes()))
    del source
    tracemalloc.start()
    try:
        count = sum(1 for _ in opened(Table(str(path)))[0])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 4000
    assert peak < 3.5e6, f"{peak / 1e6:.1f} MB at most for {plain.stat().st_size / 1e6:.0f} MB of rows"


# --- folders and globs


def test_a_folder_is_its_data_files_in_order(write, tmp_path):
    one, two = (
        write("d/one.jsonl", '{"instruction": "1", "output": "x"}\n'),
        write("d/two.jsonl.gz", gzip.compress(b'{"instruction": "2", "output": "x"}\nno\n')),
    )
    write("d/README.md", "words")
    write("d/.hidden.csv", "a\n1\n")
    source = Alpaca(path=str(tmp_path / "d"))
    found = list(source.read("s"))
    assert [(Path(row.origin.path).name, row.origin.line) for row in found] == [("one.jsonl", 1), ("two.jsonl.gz", 1), ("two.jsonl.gz", 2)]
    assert [row.origin.path for row in found] == [one, two, two]
    assert source.inputs() == {one: journal.file_digest(Path(one)), two: journal.file_digest(Path(two))}
    assert list(Alpaca(path=str(tmp_path / "d" / "*.jsonl*")).read("s")) == found
    assert len(list(Alpaca(path=str(tmp_path / "d"), limit=1).read("s"))) == 1


def test_mixed_kinds_are_refused_with_the_list_unless_the_container_says_which(write, tmp_path):
    write("d/a.jsonl", '{"a": 1}\n')
    table, folder = write("d/b.csv", "a\n2\n"), str(tmp_path / "d")
    for path in (folder, folder + "/*"):
        with pytest.raises(DataError, match=r"several kinds \(jsonl: a\.jsonl; csv: b\.csv\); set container:"):
            rows(path)
    assert cells(folder, container="csv") == [{"a": "2"}]
    assert list(Columns(path=folder, container="csv").inputs()) == [table]
    assert digests(folder, "csv") == {table: journal.file_digest(Path(table))}
    with pytest.raises(DataError, match=r"without a parquet file; in it is a\.jsonl, b\.csv"):
        rows(folder, container="parquet")


def test_folders_and_globs_of_nothing(write, tmp_path):
    write("d/part-000", '{"a": 1}\n')
    write("d/part-001", '{"a": 2}\n')
    write("d/sub/x.jsonl", '{"a": 3}\n')
    folder = str(tmp_path / "d")
    with pytest.raises(DataError, match=r"without a data file; in it is part-000, part-001, sub/ \(a glob"):
        rows(folder)
    with pytest.raises(DataError, match="no file matches"):
        rows(folder + "/*.parquet")
    with pytest.raises(DataError, match="extension of part-000, part-001 is not known"):
        rows(folder + "/part-*")
    assert cells(folder + "/part-*", container="jsonl") == [{"a": 1}, {"a": 2}]
    assert cells(folder + "/**/*.jsonl") == [{"a": 3}]
    write("d/sub/y.jsonl", "")
    with pytest.raises(DataError, match=r"y\.jsonl is empty"):
        rows(folder + "/sub")
    odd = write("d/[odd].jsonl", '{"a": 4}\n')
    assert cells(odd) == [{"a": 4}]


# --- Parquet and Arrow


def test_arrow_files_and_streams(tmp_path):
    pa = pytest.importorskip("pyarrow")
    source = [{"a": i, "b": [{"c": str(i)}], "n": None} for i in range(2500)]
    table = pa.Table.from_pylist(source)
    for name, new in (("stream", pa.ipc.new_stream), ("file", pa.ipc.new_file)):
        path = tmp_path / f"{name}.arrow"
        with new(str(path), table.schema) as sink:
            sink.write_table(table)
        found = rows(str(path))
        assert [row.cells for row in found] == source
        assert [row.origin.line for row in found] == list(range(1, 2501))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(DataError, match="cannot be read as Arrow after row 0"):
            rows(str(path))


def test_a_cell_arrow_cannot_give_is_one_bad_row(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    broken = pa.StringArray.from_buffers(3, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffc"))
    pq.write_table(pa.table({"a": broken}), tmp_path / "a.parquet")
    found = rows(str(tmp_path / "a.parquet"))
    assert [row.cells["a"] for row in found if isinstance(row, Row)] == ["a", "c"]
    assert "cannot be read" in bad(found)[2]
    twice = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pa.ipc.new_stream(str(tmp_path / "b.arrow"), twice.schema) as sink:
        sink.write_table(twice)
    with pytest.raises(DataError, match="column 'a' stands twice"):
        rows(str(tmp_path / "b.arrow"))


def test_csv_with_old_line_ends_and_a_row_that_is_too_long_over_several_lines(write):
    assert cells(write("a.csv", "a,b\r1,2\r3,4\r")) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    found = rows(write("b.csv", "a,b\n1,2\n" + '"' + "line\n" * 50 + '",x\n3,4\n'), longest=100)
    assert bad(found) == {3: "the row is longer than 100 characters"}
    assert [row.origin.line for row in found] == [2, 3, 54]
