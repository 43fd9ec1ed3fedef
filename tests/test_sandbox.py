"""The jail: hostile programs on every rung that this machine has, what they leave behind, and what happens when a rung goes away."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from etude.failures import NoSandbox
from etude.sandbox import jail, javascript, ladder, runner
from etude.sandbox.programs import MEANING, Limits, Program, Verdict
from etude.sandbox.sweeping import measure, sweep

HOSTILE = Path(__file__).parent / "hostile"
NORMAL = Limits(seconds=60, cpu_seconds=20, memory_mb=256)
LIMITS = {"": NORMAL, "short": Limits(seconds=0.4, cpu_seconds=20, memory_mb=256), "cpu": Limits(seconds=60, cpu_seconds=1)}
"""By what a program's second line says."""
KINDS = set(MEANING)


def available() -> dict[str, tuple[ladder.Rung | None, str]]:
    found = {}
    for name in ladder.NAMES:
        rung, why = ladder.found(name, os.environ.get("ETUDE_SANDBOX_IMAGE"))
        why = ladder.trial(rung) if rung else why
        found[name] = (None if why else rung, why)
    return found


RUNGS = available()


def rung_or_skip(name: str) -> ladder.Rung:
    rung, why = RUNGS[name]
    if rung is None:
        pytest.skip(f"the rung {name} is not available here: {why}")
    return rung


@pytest.fixture
def jailed() -> ladder.Rung:
    """The rung that needs nothing but the kernel."""
    return rung_or_skip("landlock")


def programs(suffix: str) -> dict[str, tuple[Program, set[str], str, str]]:
    """name -> (program, the kinds it may end with, a pattern of its detail, its limits)"""
    found = {}
    for path in sorted(HOSTILE.glob(f"*{suffix}")):
        code = path.read_text(encoding="utf-8")
        said = re.match(r"(?:#|//) verdict: (\S+) ?(.*)", code)
        assert said, f"{path.name} does not say what its verdict is"
        checks = re.search(r"^(?:#|//) checks: (.*)$", code, re.MULTILINE)
        limits = re.search(r"^(?:#|//) limits: (.*)$", code, re.MULTILINE)
        kinds = set(said[1].split("|"))
        assert kinds <= KINDS, path.name
        language: Any = "python" if suffix == ".py" else "javascript"
        found[path.name] = (Program(code, checks[1] if checks else "", "", language), kinds, said[2], limits[1] if limits else "")
    return found


def placed(program: Program, outside: Path) -> Program:
    """The program with what it attacks."""
    opening = f"OUTSIDE = {str(outside)!r}; HARNESS = {os.getpid()}\n"
    opening = opening if program.language == "python" else f"var OUTSIDE = {str(outside)!r};\n"
    return Program(opening + program.code, program.tests, program.entry_point, program.language)


def tree(folder: Path) -> str:
    """A hash of every file below: names, kinds, modes, owners, times, contents."""
    lines = []
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        lines.append(repr((str(path), facts.st_mode, facts.st_uid, facts.st_mtime_ns, facts.st_nlink, content)))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def jails() -> list[int]:
    """Every process of ours that a jail started; its children have the same command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or ())
        if ("etude.sandbox" in line or "readFileSync(0" in line) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder beside the jails' own; after the test both are as before, and no process is left."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "secret.txt").write_text("secret")
    (tmp_path / "boxes").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "boxes"))
    monkeypatch.setenv("SECRET_TOKEN", "SECRET")
    before, running = tree(place), len(psutil.Process().children(recursive=True))
    boxes, known = set((tmp_path / "boxes").iterdir()), set(jails())
    yield place
    assert tree(place) == before
    assert set((tmp_path / "boxes").iterdir()) == boxes
    assert len(psutil.Process().children(recursive=True)) == running
    assert not set(jails()) - known


def check(found: dict[str, Verdict], wanted: dict[str, tuple[Program, set[str], str, str]]) -> None:
    wrong = [
        f"{name}: {verdict.kind} {verdict.detail!r}, not {'|'.join(sorted(wanted[name][1]))} {wanted[name][2]}"
        for name, verdict in found.items()
        if verdict.kind not in wanted[name][1] or not re.search(wanted[name][2], verdict.detail)
    ]
    assert not wrong, "\n".join(wrong)


def judged(rung: ladder.Rung, wanted: dict[str, tuple[Program, set[str], str, str]], outside: Path) -> dict[str, Verdict]:
    found = {}
    for key, limits in LIMITS.items():
        names = [name for name, row in wanted.items() if row[3] == key]
        found |= dict(zip(names, runner.judge([placed(wanted[name][0], outside) for name in names], rung, limits), strict=True))
    return found


@pytest.mark.parametrize("name", ladder.NAMES)
def test_hostile_programs_do_no_harm(name, outside):
    rung = rung_or_skip(name)
    wanted = programs(".py")
    assert len([name for name in wanted if not name.startswith("benign")]) >= 27
    found = judged(rung, wanted, outside)
    check(found, wanted)
    assert {verdict.rung for verdict in found.values()} == {rung.described}


@pytest.mark.parametrize("name", ["bubblewrap", "landlock"])
def test_hostile_javascript_does_no_harm(name, outside):
    rung = rung_or_skip(name)
    if not rung.node:
        pytest.skip("there is no node on the PATH")
    wanted = programs(".js")
    check(judged(rung, wanted, outside), wanted)


def one(rung: ladder.Rung, code: str, tests: str = "", entry: str = "", limits: Limits = NORMAL, **more: Any) -> Verdict:
    return runner.judge([Program(code, tests, entry, **more)], rung, limits)[0]


def test_only_the_nonce_is_a_pass(jailed):
    assert one(jailed, "def f(): return 1", "assert f() == 1", "f").passed
    failed = one(jailed, "def f(): return 2", "x = 1\nassert f() == 1, 'no'", "f")
    assert failed.kind == "failed"
    assert failed.detail == "AssertionError: no (line 2 of the checks: assert f() == 1, 'no')"
    assert one(jailed, "def g(): return 2", "", "f").kind == "no_entry_point"
    assert one(jailed, "f = 1", "g()", "f").kind == "error"
    frame = {"said": "abc", "reason": "", "seconds": 0.0}
    assert runner.verdict(frame, "abc", jailed).kind == "passed"
    for said in ("abd", "", "abcabc", '{"kind": "passed", "detail": ""}', '{"kind": "great", "detail": ""}', "[]", "{}"):
        assert runner.verdict({**frame, "said": said}, "abc", jailed).kind == "exited"


def test_a_candidate_cannot_swallow_its_checks(jailed):
    codes = ("x = '''", "if 0:", "def f():\n    return 1\n\\", "x = 1 #", "from __future__ import annotations\nfrom sys import exit")
    found = runner.judge([Program(code, "'''; raise ValueError") for code in codes] + [Program("x = 1 #", "1 / 0")], jailed, NORMAL)
    assert not any(verdict.passed for verdict in found)
    assert "ZeroDivisionError" in found[-1].detail


def test_bad_programs(jailed):
    wanted = {
        "x = 1\0": "syntax",
        "x = '\ud800'": "syntax",
        "def f(:": "syntax",
        ("x = '" + "a" * 94 + "'\n") * 10_000: "passed",
        "x = '" + "a" * 1_000_000 + "'": "passed",
        "(" * 1_000_000: "syntax",
        "x = 1\n" * 900_000: "too_long",
        "": "passed",
    }
    found = runner.judge([Program(code, "") for code in wanted], jailed, NORMAL)
    assert [verdict.kind for verdict in found] == list(wanted.values())


def test_equal_programs_are_run_once_and_order_is_kept(jailed):
    told: list[int] = []
    codes = ["assert 0", "x = 1", "assert 0", "y = 2", "x = 1"]
    found = runner.judge([Program(c, "") for c in codes], jailed, NORMAL, workers=2, progress=told.append)
    assert [v.passed for v in found] == [False, True, False, True, True]
    assert sum(told) == 5
    assert found[0] is found[2]
    assert runner.judge([], jailed) == []


def test_the_same_program_has_the_same_verdict(jailed):
    code = "import random\nraise ValueError((random.random(), {'a', 'b', 'c', 'd'}, hash('x')))"
    first, second = (one(jailed, code).detail for _ in range(2))
    assert first == second


def test_a_warden_that_is_killed_is_replaced(jailed, outside):
    class Killing(runner.Warden):
        count = 0

        def ask(self, index: int, program: Program, limits: Limits) -> None:
            super().ask(index, program, limits)
            Killing.count += 1
            if Killing.count in (1, 3):
                os.kill(self.process.pid, signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runner, "Warden", Killing)
        found = runner.judge([Program(f"x = {n}", "") for n in range(4)], jailed, NORMAL, workers=1)
    assert all(v.passed for v in found)
    assert Killing.count == 6


def test_a_program_that_ends_its_warden_twice_is_not_a_pass(jailed, outside):
    class Killing(runner.Warden):
        def ask(self, index: int, program: Program, limits: Limits) -> None:
            super().ask(index, program, limits)
            if "deadly" in program.code:
                os.kill(self.process.pid, signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runner, "Warden", Killing)
        found = runner.judge([Program("deadly = 1", ""), Program("x = 1", "")], jailed, NORMAL, workers=1)
    assert [v.kind for v in found] == ["killed", "passed"]


def test_a_warden_that_says_nothing_is_replaced(jailed, outside, monkeypatch):
    monkeypatch.setattr(runner, "GRACE", 0.2)

    class Stopped(runner.Warden):
        def ask(self, index: int, program: Program, limits: Limits) -> None:
            super().ask(index, program, limits)
            os.kill(self.process.pid, signal.SIGSTOP)

    monkeypatch.setattr(runner, "Warden", Stopped)
    found = runner.judge([Program("x = 1", "")], jailed, Limits(seconds=0.3), workers=1)
    assert found[0].kind == "killed"


def test_a_rung_that_disappears_while_running_ends_the_run(jailed, outside, monkeypatch):
    started: list[int] = []
    command = ladder.Rung.command

    def gone(self: ladder.Rung, container: str = "") -> list[str]:
        started.append(1)
        return command(self, container) if len(started) == 1 else ["/nonexistent/python"]

    class Killing(runner.Warden):
        def ask(self, index: int, program: Program, limits: Limits) -> None:
            super().ask(index, program, limits)
            os.kill(self.process.pid, signal.SIGKILL)

    monkeypatch.setattr(ladder.Rung, "command", gone)
    monkeypatch.setattr(runner, "Warden", Killing)
    with pytest.raises(NoSandbox, match="cannot be started"):
        runner.judge([Program("x = 1", ""), Program("x = 2", "")], jailed, NORMAL, workers=1)


def test_a_killed_harness_leaves_nothing_running(jailed, outside):
    """The warden sees the end of its input and ends its child."""
    warden = runner.Warden(jailed)
    try:
        warden.ask(0, Program("import time; time.sleep(99)", ""), NORMAL)
        inside = psutil.Process(warden.process.pid)
        while not inside.children():
            pass
        child = inside.children()[0]
        assert warden.process.stdin is not None
        warden.process.stdin.close()
        warden.process.wait(20)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    finally:
        warden.close()


def test_a_killed_warden_takes_its_child_with_it(jailed, outside):
    warden = runner.Warden(jailed)
    try:
        warden.ask(0, Program("import time; time.sleep(99)", ""), NORMAL)
        inside = psutil.Process(warden.process.pid)
        while not inside.children():
            pass
        child = inside.children()[0]
        os.kill(warden.process.pid, signal.SIGKILL)
        while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
            pass
    finally:
        warden.close()


class TestLadder:
    def test_doctor_lists_every_rung(self):
        rows = ladder.rungs()
        assert [row[0] for row in rows] == list(ladder.NAMES)
        assert all(available != bool(why) for _, available, why in rows)

    def test_where_the_kernel_can_the_jail_holds(self):
        """Else every test of it would be skipped in silence."""
        if why := jail.refusal():
            pytest.skip(why)
        assert RUNGS["landlock"][1] == ""

    @pytest.mark.parametrize(("system", "machine", "why"), [("darwin", "arm64", "needs Linux"), ("linux", "riscv64", "riscv64")])
    def test_unknown_machines_refuse(self, monkeypatch, system, machine, why):
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr(platform, "machine", lambda: machine)
        assert why in jail.refusal()
        with pytest.raises(NoSandbox, match=f"(?s){why}.*container: not configured.*etude doctor") as raised:
            ladder.choose()
        assert raised.value.exit_code == 7

    def test_a_kernel_without_landlock_refuses(self, monkeypatch):
        monkeypatch.setattr("etude.sandbox.landlock.version", lambda: 0)
        with pytest.raises(NoSandbox, match="offers no Landlock"):
            ladder.choose()
        assert jail.refusal(files=False) == "" or sys.platform != "linux"

    def test_a_named_rung_is_never_lowered(self, monkeypatch):
        monkeypatch.setenv("PATH", "/nonexistent")
        with pytest.raises(NoSandbox, match=r"not the one that is asked for.*no bwrap"):
            ladder.choose("bubblewrap")
        with pytest.raises(NoSandbox, match="no docker or podman"):
            ladder.choose("container", "python:3.12")

    def test_a_jail_that_does_not_hold_is_not_a_rung(self, jailed, monkeypatch, tmp_path):
        fake = tmp_path / "bwrap"
        fake.write_text("#!/bin/sh\necho 'bwrap: no permission to make a namespace' >&2\nexit 1\n")
        fake.chmod(0o755)
        assert "no permission to make a namespace" in ladder.trial(ladder.Rung("bubblewrap", str(fake)))
        code = 'import struct,sys; d=b\'{"ready": false, "why": "opening a socket is not refused"}\''
        monkeypatch.setattr(
            ladder, "interpreter", lambda *_, **__: [sys.executable, "-c", f"{code}; sys.stdout.buffer.write(struct.pack('>I',len(d))+d)"]
        )
        assert "opening a socket is not refused" in ladder.trial(ladder.Rung("landlock", "another"))

    def test_proof_notices_an_open_door(self):
        assert "is not refused" in jail.proof()

    def test_a_container_gets_no_network_no_privilege_and_none_of_our_environment(self, monkeypatch):
        monkeypatch.setenv("SECRET_TOKEN", "SECRET")
        monkeypatch.setenv("DOCKER_HOST", "unix:///x")
        rung = ladder.Rung("container", "/usr/bin/docker", "python:3.12-slim")
        command = rung.command("etude-1")
        text = " ".join(command)
        for wanted in (
            "--network none",
            "--read-only",
            "--cap-drop ALL",
            "no-new-privileges",
            "--pids-limit",
            "--user 65534",
            "--name etude-1",
        ):
            assert wanted in text
        assert "SECRET" not in text
        assert "SECRET_TOKEN" not in ladder.environment(rung)
        assert ladder.environment(rung)["DOCKER_HOST"] == "unix:///x"
        assert "SECRET_TOKEN" not in ladder.environment(ladder.Rung("landlock"))
        assert command.index("python:3.12-slim") < command.index("python3")

    def test_a_container_engine_is_spoken_to_as_a_warden(self, jailed, tmp_path, outside):
        """An engine that runs what it is given without a container: the jail inside, and the stop by name, are real."""
        engine = tmp_path / "docker"
        engine.write_text(
            f"""#!{sys.executable}
import os, sys
given = sys.argv[1:]
if given[0] == "kill":
    open({str(tmp_path / "killed")!r}, "a").write(given[1])
    sys.exit()
at = given.index("an-image")
home = {str(ladder.PACKAGE.parent)!r}
inside = [{sys.executable!r} if part == "python3" else part.replace("/etude-home", home) for part in given[at + 1 :]]
os.execv(inside[0], inside)
"""
        )
        engine.chmod(0o755)
        rung = ladder.Rung("container", str(engine), "an-image", "node")
        found = runner.judge([Program("x = 1", ""), Program("open('/etc/passwd')", "")], rung, NORMAL, workers=1)
        assert [v.kind for v in found] == ["passed", "error"]
        assert found[0].rung == "container(an-image)"
        assert (tmp_path / "killed").read_text().startswith("etude-")

    def test_javascript_without_node_is_refused(self, jailed):
        with pytest.raises(NoSandbox, match="needs node"):
            runner.judge([Program("x = 1", "", "", "javascript")], ladder.Rung("landlock"))

    def test_the_loader_of_a_program(self, tmp_path):
        if sys.platform == "linux" and (program := shutil.which("node")):
            assert os.path.exists(javascript.loader(os.path.realpath(program)))
        (tmp_path / "script").write_text("#!/bin/sh\n")
        assert javascript.loader(str(tmp_path / "script")) == ""


class TestSweeping:
    def test_deep_and_locked_trees_go_away(self, tmp_path):
        here = os.getcwd()
        box = tmp_path / "box"
        box.mkdir()
        (tmp_path / "kept").write_text("kept")
        try:
            os.chdir(box)
            os.symlink(tmp_path / "kept", "link")
            os.symlink(tmp_path, "folder-link")
            for _ in range(300):
                os.mkdir("d")
                os.chdir("d")
                open("file", "w").close()
        finally:
            os.chdir(here)
        os.mkdir(box / "locked", 0)
        assert measure(str(box), 50)[1] == 51
        sweep(str(box))
        sweep(str(box))
        assert [p.name for p in tmp_path.iterdir()] == ["kept"]

    def test_measure_counts_what_is_on_disk(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "b").write_bytes(b"x" * 100_000)
        size, entries = measure(str(tmp_path), 10)
        assert entries == 2
        assert 100_000 <= size < 200_000
        assert measure(str(tmp_path / "none"), 10) == (0, 0)
