"""`make bench-read`: how fast, and in how much memory, rows come out of files through the `alpaca` source.

Rows are generated (seeded, 470 bytes on average, one in ten with letters beyond ASCII) and written once to each
container; every reading is a process of its own, so that its peak memory is its own. Beside each figure stands
the growth of memory from the first row to the last, which has to be flat whatever the number of rows. Two
readings that do less give the scale: `json.loads` of each line of the same file, and `datasets` streaming it
(where it is installed). A ratio of 0.5 means: a row with its id, origin and checks costs two plain decodings.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import importlib.util
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

CONTAINERS = ("jsonl", "json", "csv", "parquet", "arrow", "jsonl.gz", "jsonl.zst")


def rows(count: int) -> Iterator[dict[str, str]]:
    """Alpaca rows: pieces of one long text of made-up words, at seeded places."""
    draws = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    words = ["".join(draws.choices(syllables, k=draws.randint(1, 4))) for _ in range(2000)]
    text = " ".join(draws.choices([*words, "one:", 'a "word"', "end.\n"], k=50_000))
    foreign = text.replace("a", "ä").replace("o", "漢")
    for index in range(count):
        page = foreign if index % 10 == 0 else text
        at, length = draws.randrange(len(page) - 2000), draws.randint(40, 640)
        material = page[at + 700 : at + 760] if index % 3 == 0 else ""
        yield {"instruction": f"{index}. {page[at : at + 60]}", "input": material, "output": page[at + 60 : at + 60 + length]}


def write(path: Path, count: int) -> None:
    """The rows in the container that the file's name says."""
    kind = path.name.partition(".")[2]
    if kind == "csv":
        import csv

        with open(path, "w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, ["instruction", "input", "output"])
            table.writeheader()
            table.writerows(rows(count))
    elif kind in ("parquet", "arrow"):
        write_columns(path, count)
    else:
        with text_file(path, kind) as file:
            between = ",\n" if kind == "json" else "\n"
            file.write("[\n" if kind == "json" else "")
            for index, row in enumerate(rows(count)):
                file.write((between if index else "") + json.dumps(row, ensure_ascii=False))
            file.write("\n]\n" if kind == "json" else "\n")


def text_file(path: Path, kind: str):
    """A text file to write, compressed where its name says so."""
    if kind.endswith(".gz"):
        return gzip.open(path, "wt", encoding="utf-8", compresslevel=1)
    if kind.endswith(".zst"):
        import zstandard

        return zstandard.open(path, "wt", encoding="utf-8")
    return open(path, "w", encoding="utf-8")


def write_columns(path: Path, count: int) -> None:
    """Parquet, or an Arrow stream, in pieces of ten thousand rows."""
    import itertools

    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(name, pyarrow.string()) for name in ("instruction", "input", "output")])
    with pyarrow.OSFile(str(path), "wb") as sink:
        make = pyarrow.parquet.ParquetWriter if path.suffix == ".parquet" else pyarrow.ipc.new_stream
        with make(sink, schema) as writer:
            source = rows(count)
            while piece := list(itertools.islice(source, 10_000)):
                writer.write_batch(pyarrow.RecordBatch.from_pylist(piece, schema=schema))


def peak_mb() -> float:
    """The most memory this process has held so far, in MB (10^6 bytes)."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def through_etude(path: Path) -> Iterator[object]:
    from etude.sources.alpaca import Alpaca

    return Alpaca(path=str(path)).read("rows")


def through_loads(path: Path) -> Iterator[object]:
    with open(path, "rb") as file:
        yield from map(json.loads, file)


def through_datasets(path: Path) -> Iterator[object]:
    import datasets

    yield from datasets.load_dataset("json", data_files=str(path), split="train", streaming=True)


WAYS = {"etude": through_etude, "json.loads": through_loads, "datasets": through_datasets}


def timed(path: Path, way: str) -> dict[str, float]:
    """Rows, seconds from the first row to the last, and memory, of one reading in this process."""
    reading = iter(WAYS[way](path))
    next(reading)
    before, start, count = peak_mb(), time.perf_counter(), 0
    for _ in reading:
        count += 1
    return {"rows": count + 1, "seconds": time.perf_counter() - start, "peak_mb": peak_mb(), "grown_mb": peak_mb() - before}


def child(*options: str) -> dict[str, float]:
    """The JSON of the last line of this script run again with these options."""
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, __file__, *options], stdout=subprocess.PIPE, text=True, check=True, env=quiet)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the jsonl file")
    parser.add_argument("--other-rows", type=int, default=100_000, help="rows of the other containers")
    parser.add_argument("--containers", nargs="*", default=CONTAINERS, choices=CONTAINERS)
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FILE"), help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=2, metavar=("FILE", "ROWS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(timed(Path(options.one[1]), options.one[0])))
        return
    if options.write:
        write(Path(options.write[0]), int(options.write[1]))
        print("{}")
        return
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.containers:
            if kind.endswith(".zst") and not importlib.util.find_spec("zstandard"):
                continue
            path = Path(folder) / f"rows.{kind}"
            child("--write", str(path), str(options.rows if kind == "jsonl" else options.other_rows))
            found[kind] = measured(path, kind)
            path.unlink()
    print(json.dumps(summary(found)))


def measured(path: Path, kind: str) -> dict[str, float]:
    """What one file gives, printed as it is found."""
    size = path.stat().st_size / 1e6
    ways = ["etude", "json.loads"] if kind == "jsonl" else ["etude"]
    if kind == "jsonl" and importlib.util.find_spec("datasets"):
        ways.append("datasets")
    found: dict[str, float] = {}
    for way in ways:
        one = child("--one", way, str(path))
        speed = one["rows"] / one["seconds"]
        print(
            f"{kind:9} {way:10} {one['rows']:>9,} rows {size:6.0f} MB  {speed:>9,.0f} rows/s"
            f"  peak {one['peak_mb']:.0f} MB (grown by {one['grown_mb']:.0f} MB while reading)",
            flush=True,
        )
        found |= {f"{way} rows_per_s": speed, f"{way} peak_mb": one["peak_mb"], f"{way} grown_mb": one["grown_mb"]}
    return found


def summary(found: dict[str, dict[str, float]]) -> dict[str, object]:
    """The last line: of jsonl where it was read, else of the first container."""
    main = found.get("jsonl") or next(iter(found.values()))
    loads, library = main.get("json.loads rows_per_s"), main.get("datasets rows_per_s")
    return {
        "rows_per_s": round(main["etude rows_per_s"]),
        "peak_mb": round(main["etude peak_mb"], 1),
        "grown_mb": round(main["etude grown_mb"], 1),
        "ratio_vs_json_loads": round(main["etude rows_per_s"] / loads, 3) if loads else None,
        "ratio_vs_datasets": round(main["etude rows_per_s"] / library, 3) if library else None,
        "containers": {
            kind: {"rows_per_s": round(one["etude rows_per_s"]), "peak_mb": round(one["etude peak_mb"], 1)} for kind, one in found.items()
        },
    }


if __name__ == "__main__":
    main()
