"""Files: whole or not there; a torn last line is cut off; a lock dies with its process."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from etude import journal
from etude.failures import DataError, Locked, NoSpace


def test_rows_come_back_as_they_went_in(tmp_path):
    rows = [{"text": "a\nb\u2028\x00\x1b[31m"}, {"text": "\ud800 alone"}, {"n": [1, 2.5, None, True]}]
    with journal.Journal(tmp_path / "a.jsonl") as lines:
        for row in rows:
            lines.append(row)
    assert list(journal.read(tmp_path / "a.jsonl")) == rows


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_torn_last_line_is_passed_over_and_cut_off(tmp_path, cut):
    path = tmp_path / "a.jsonl"
    journal.write_rows(path, [{"id": 1}, {"id": 22222}])
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    expected = [{"id": 1}]
    assert list(journal.read(path)) == expected
    with journal.Journal(path) as lines:
        lines.append({"id": 3})
    assert list(journal.read(path)) == [*expected, {"id": 3}]


def test_a_bad_line_in_the_middle_is_damage(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id":1}\n{"id":\n{"id":3}\n')
    with pytest.raises(DataError, match=r"a.jsonl:2: not JSON"):
        list(journal.read(path))


def test_mend_of_a_long_torn_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id":1}\n' + b"x" * 200_000)
    assert journal.mend(path) == 200_000
    path.write_bytes(b"y" * 200_000)
    assert journal.mend(path) == 200_000


def test_staged_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "model"
    with contextlib.suppress(RuntimeError), journal.staged(target) as stage:
        (stage / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with journal.staged(target) as stage:
        (stage / "whole").write_text("x")
    with journal.staged(target) as stage:
        (stage / "newer").write_text("y")
        assert (target / "whole").exists()
    assert [p.name for p in target.iterdir()] == ["newer"]


def test_leftovers_of_a_killed_writer_are_swept(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stale = tmp_path / f".model.staged-{gone.pid}"
    stale.mkdir()
    (stale / "half").write_text("x")
    with journal.staged(tmp_path / "model") as stage:
        (stage / "a").write_text("x")
    assert not stale.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path, monkeypatch, number):
    path = tmp_path / "a.json"
    journal.write_json(path, {"old": 1})

    def full(*given):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(journal.os, "fsync", full)
    with pytest.raises(NoSpace, match=r"a.json") as error:
        journal.write_json(path, {"new": 2})
    assert error.value.exit_code == 9
    with pytest.raises(NoSpace), journal.staged(tmp_path / "folder") as stage:
        (stage / "x").write_text("x")
    monkeypatch.undo()
    assert path.read_text() == '{\n  "old": 1\n}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_file_size_limit_stops_cleanly(tmp_path):
    code = (
        "import resource, signal, sys; from pathlib import Path; from etude import journal; from etude.failures import NoSpace\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "lines = journal.Journal(Path(sys.argv[1]))\n"
        "try:\n    [lines.append({'id': i, 'text': 'x' * 100}) for i in range(1000)]\nexcept NoSpace as e: print('full', e.exit_code)\n"
    )
    path = tmp_path / "a.jsonl"
    out = subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert out.stdout == "full 9\n"
    rows = list(journal.read(path))
    assert [row["id"] for row in rows] == list(range(len(rows)))
    assert len(rows) > 20


def test_the_lock_names_its_holder_and_dies_with_it(tmp_path):
    code = "import sys, time; from pathlib import Path; from etude import journal\n"
    code += "with journal.locked(Path(sys.argv[1])):\n  print('held', flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(Locked, match=f"in use by process {child.pid} on .*wait for it") as error, journal.locked(tmp_path):
        pass
    assert error.value.exit_code == 8
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    for _ in range(50):
        try:
            with journal.locked(tmp_path):
                return
        except Locked:
            time.sleep(0.05)
    pytest.fail("the lock outlived its process")
