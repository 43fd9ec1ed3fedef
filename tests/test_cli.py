"""The command as a user types it: help, exit codes, one message a failure, signals.

What depends on the process itself is tried with a process of its own (`in_a_process`); the rest of the
commands with a fork of this one, which has its libraries loaded (`etude`).
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from etude import journal
from forked import etude, start


@pytest.fixture(scope="module")
def place(tmp_path_factory, model_folder):
    importlib.import_module("peft")  # loaded once for all forks
    folder = tmp_path_factory.mktemp("cli")
    rows = [{"instruction": f"Name number {i}.", "input": "", "output": f"the number {i % 7}\x1b[31m"} for i in range(60)]
    journal.write_rows(folder / "facts.jsonl", rows)
    (folder / "small.yaml").write_text(
        f"name: small\nmodel: {model_folder('llama')}\nsources:\n  facts: {{type: alpaca, path: facts.jsonl}}\n"
        "split: {validation: 6, test: 8}\ntune:\n  method: {type: lora, r: 2}\n  rows_per_step: 8\n"
        "score:\n  - {task: facts, metrics: [rougeL], shots: 2, sampling: {max_new_tokens: 6}}\n"
        "forgetting: false\n"
    )
    (folder / "others" / "small").mkdir(parents=True)
    (folder / "others" / "small" / "recipe.resolved.yaml").write_text("name: small\n")
    return folder


def in_a_process(place, *arguments, **given):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120", **given}
    return subprocess.run([sys.executable, "-m", "etude.cli", *arguments], cwd=place, capture_output=True, text=True, env=environment)


def test_the_main_job_and_reading_it_back(place):
    done = in_a_process(place, "run", "small.yaml", "tune.max_steps=2")
    assert done.returncode == 0, done.stderr
    for words in ("facts: start -> tuned, 95 % intervals, 8 held-out rows", "seconds: data", "report: runs/small/report.html", "try next:"):
        assert words in done.stdout
    assert "\x1b" not in done.stdout + done.stderr, "text of data and models cannot drive the terminal"
    again = etude(place, "run", "small.yaml", "tune.max_steps=2", "--json")
    assert again.stderr.count("reused") == 7
    assert json.loads(again.stdout)["schema"] == 1
    refused = etude(place, "run", "small.yaml", "tune.max_steps=3")
    assert refused.returncode == 2
    assert "+  max_steps: 3" in refused.stderr
    assert "name=small-2" in refused.stderr
    (listed,) = json.loads(etude(place, "ls", "--json").stdout)
    assert (listed["name"], listed["finished"]) == ("small", True)
    shown = json.loads(etude(place, "show", "small", "--json").stdout)
    assert shown["tasks"]["facts"]["rougeL"]["items"] == 8
    row = next(journal.read(place / "runs/small/data/test.jsonl"))["id"]
    way = json.loads(etude(place, "show", "runs/small", "--row", row[:10], "--json").stdout)
    assert way["part"] == "test"
    assert set(way["answers"]) == {"facts.start", "facts.tuned", "facts.few_shot"}
    assert etude(place, "show", "small", "--row", "zzz").returncode == 2
    assert "\x1b" not in etude(place, "show", "small", "--row", row).stdout
    assert etude(place, "report", "small").stdout.splitlines()[0].endswith("report.html")


def test_preview_and_plan(place):
    seen = etude(place, "preview", "small.yaml", "-n", "1")
    assert seen.returncode == 0, seen.stderr
    assert "<|im_end|>" in seen.stdout
    planned = json.loads(etude(place, "plan", "small.yaml", "--json").stdout)
    assert planned["rows"]["train"] == 46
    assert planned["tuning"]["steps"] == 6


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "smal.yaml"], 2, "did you mean 'small.yaml'"),
        (["run", "small.yaml", "tune.lernin_rate=1"], 2, "did you mean 'learning_rate'"),
        (["run", "small.yaml", "name=b", "sources.facts.path=fact.jsonl"], 3, "facts.jsonl"),
        (["run", "small.yaml", "name=b", "split.test=100"], 3, "100"),
        (["run"], 2, "Missing argument"),
        (["show", "smal", "--runs", "others"], 2, "did you mean 'small'"),
        (["fly"], 2, "No such command"),
    ],
)
def test_failures_end_with_one_message_and_their_code(place, arguments, code, words):
    done = etude(place, *arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_with_its_code_and_the_run_goes_on_afterwards(place, number, code):
    name = f"stopped-{number}"
    arguments = ["run", "small.yaml", f"name={name}", "tune.epochs=400"]
    with open(place / f"{name}.txt", "w+b") as said:
        if number == signal.SIGINT:
            command = [sys.executable, "-m", "etude.cli", *arguments]
            process = subprocess.Popen(command, cwd=place, stderr=said, stdout=said, env={**os.environ, "OMP_NUM_THREADS": "1"})
            process.returncode = 0  # it is waited for below, as the fork is
            child = process.pid
        else:
            child = start(place, *arguments, out=said, error=said)
        log, latest = place / "runs" / name / "metrics.jsonl", time.monotonic() + 120
        while not (log.exists() and log.stat().st_size > 400):
            assert time.monotonic() < latest
            assert os.waitpid(child, os.WNOHANG) == (0, 0), (place / f"{name}.txt").read_text()
            time.sleep(0.05)
        os.kill(child, number)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
    assert "goes on from there" in (place / f"{name}.txt").read_text()
    steps = max(row["step"] for row in journal.read(log))
    assert (place / "runs" / name / "checkpoints" / f"step-{steps:06d}").is_dir()


def test_help_needs_no_heavy_library():
    code = "import sys\nfrom etude.cli import app\ntry:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
    code += "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'transformers', 'numpy', 'pydantic', 'rich', 'scipy'}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_a_recipe_error_needs_no_heavy_library(place):
    code = "import sys\nfrom etude import recipe\nfrom pathlib import Path\ntry:\n    recipe.load(Path(sys.argv[1]), ['seed=x'])\n"
    code += "except Exception as e:\n    pass\n"
    code += "heavy = {'torch', 'transformers', 'scipy', 'peft', 'sacrebleu', 'pyarrow', 'jinja2'}\n"
    code += "print(sorted({m.split('.')[0] for m in sys.modules} & heavy))"
    out = subprocess.run([sys.executable, "-c", code, str(place / "small.yaml")], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_doctor_tells_of_keys_but_never_shows_one(place):
    done = in_a_process(place, "doctor", OPENAI_API_KEY="sk-canary-1234567890")
    assert done.returncode == 0, done.stderr
    assert "canary" not in done.stdout + done.stderr
    found = json.loads(etude(place, "doctor", "--json", OPENAI_API_KEY="sk-canary-1234567890").stdout)
    assert found["keys"]["OPENAI_API_KEY"] == "set"
    assert found["keys"]["HF_TOKEN"] == ("set" if os.environ.get("HF_TOKEN") else "not set")
    assert found["arithmetic"]["advice"]
    assert found["python"]["pip"]


def test_an_override_with_a_slash_is_no_recipe(place):
    server = 'llms={teacher: {type: http, base_url: "http://localhost:9/v1", model: m, api_key_env: ""}}'
    (place / "papers").mkdir()
    (place / "papers" / "one.md").write_text("A piece of text that is long enough to be asked about.\n" * 9)
    done = etude(place, "generate", "--from", "papers", server, "generate.documents.llm=techer")
    assert done.returncode == 2
    assert "did you mean 'teacher'" in done.stderr
    done = etude(place, "generate", "--from", "papers", "llms={teacher: {type: http, base_url: x, model: " + 300 * "n" + "}}")
    assert "base_url" in done.stderr
    assert "Traceback" not in done.stderr


def test_curate_takes_a_recipe_in_json(place):
    import yaml

    (place / "j.json").write_text(json.dumps({**yaml.safe_load((place / "small.yaml").read_text()), "name": "j"}))
    done = etude(place, "curate", "j.json")
    assert (done.returncode, done.stdout[:2]) == (0, "j:"), done.stderr
    (place / "rows.json").write_text(json.dumps([{"instruction": "Add.", "input": "", "output": "Yes, of course."}]))
    assert etude(place, "curate", "rows.json").returncode == 0
    (place / "deep.json").write_text(9_000 * "[")
    done = etude(place, "curate", "deep.json")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
