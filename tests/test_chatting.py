"""`etude chat` through a pipe, on a run with its start model, and against a server: turns, commands, rows, the terminal."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from etude import journal, loading, runs
from etude.chatting import Chatting, chat, terminal, voices
from etude.chatting.saving import Rows
from etude.chatting.session import HELP, Leave, Session, Turn
from etude.failures import DataError, RecipeError, ServerGaveUp
from etude.models import Sampling
from etude.records import Message
from etude.sources.messages import Messages


@pytest.fixture(scope="module")
def run(model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder whose tuned model answers otherwise than its start model."""
    import torch

    from etude import recipe

    start = model_folder("llama")
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    data = folder.parent / "rows.jsonl"
    journal.write_rows(data, [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}])
    given = {"name": "tiny", "model": str(start), "sources": {"rows": {"type": "messages", "path": str(data)}}, "tune": {"method": "full"}}
    chosen = recipe.build(given, "test")
    journal.write_text(folder / "recipe.resolved.yaml", recipe.to_yaml(chosen.dump()))
    loaded = loading.start_of(folder, lambda text: None)
    for place in (start, None):
        with torch.no_grad():
            for weight in loaded.local.model.parameters():
                if weight.dim() > 1:
                    weight.mul_(6.0)
        if place:
            loaded.local.model.save_pretrained(place)
    chosen.tune.method.save(loaded.local.model, folder / "model")
    runs.finish(folder, "tune", "digest", 1.0, ["model"], {})
    return folder


def talk(run: Path | str, said: Sequence[str], monkeypatch: pytest.MonkeyPatch, root: Path = Path("runs"), **given: Any) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(said) + "\n"))
    settings = Chatting(**{"sampling": Sampling(max_new_tokens=10), **given})
    chat(str(run), root, settings, lambda text: None)


def test_a_run_answers_as_it_was_scored_turn_by_turn(run: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    local = loading.load("tiny", run.parent, lambda text: None).local
    history = [Message("system", "Be brief."), Message("user", "Why?")]
    first = local.complete([voices.conversation(history)], Sampling(max_new_tokens=10))[0][0].text
    history += [Message("assistant", first), Message("user", "And now?\nSay.")]
    second = local.complete([voices.conversation(history)], Sampling(max_new_tokens=10))[0][0].text
    said = ["Why?", "", '"""And now?', 'Say."""', "/history", "/bye", "never asked"]
    talk("tiny", said, monkeypatch, root=run.parent, system="Be brief.", save=tmp_path / "chat.jsonl")
    out = capsys.readouterr()
    assert out.out == terminal.printable(f"{first}\n{second}\n")
    assert "you: And now?\nSay.\n" in out.err
    assert not (tmp_path / "chat.jsonl").exists()


def test_the_start_model_answers_beside_the_tuned_one(run: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    talk(run, ["Why?", "/accept tiny-start", "/accept"], monkeypatch, base=True, save=tmp_path / "chat.jsonl")
    out = capsys.readouterr().out
    tuned, start = (loading.load(str(run), run, print), loading.start_of(run, print))
    for one in (tuned, start):
        text = one.local.complete([voices.conversation([Message("user", "Why?")])], Sampling(max_new_tokens=10))[0][0].text
        assert terminal.printable(f"[{one.name}] {text}\n") in out
    assert [row["model"] for row in journal.read(tmp_path / "chat.jsonl")] == ["tiny-start", "tiny"]
    assert tuned.digest != start.digest
    with pytest.raises(RecipeError, match="--base needs a run"):
        talk(str(run / "model"), [], monkeypatch, base=True)


def test_rows_are_what_the_messages_source_reads_and_trains_each_answer_once(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "old"}, {"role": "assistant", "content": "row"}]}')  # no line end
    session = Session(["m"], Rows(path), "Be brief.")
    session.turns.append(Turn("One?", {"m": "1"}))
    assert "accepted" in str(session.command("/save"))
    with pytest.raises(RecipeError, match="saved already"):
        session.command("/accept")
    session.turns.append(Turn("Two?", {"m": "3\x1b[2J"}))
    session.command("/edit 2")
    session.turns.append(Turn("Three?", {"m": "4"}))
    session.command("/reject")
    assert [turn.question for turn in session.turns] == ["One?", "Two?"]
    records = list(Messages(path=str(path)).read("chat"))
    told = [[(m["role"], m["content"], m.get("trained")) for m in record.fields["messages"]] for record in records]
    assert told == [
        [("user", "old", None), ("assistant", "row", None)],
        [("system", "Be brief.", None), ("user", "One?", None), ("assistant", "1", True)],
        [
            ("system", "Be brief.", None),
            ("user", "One?", None),
            ("assistant", "1", False),
            ("user", "Two?", None),
            ("assistant", "2", True),
        ],
    ]
    kept = list(journal.read(path))
    assert [row.get("verdict") for row in kept] == [None, "accepted", "edited"]
    assert kept[2]["model_answer"] == "3\x1b[2J"
    (rejected,) = journal.read(tmp_path / "chat.rejected.jsonl")
    assert (rejected["rejected"], rejected["messages"][-1]["content"]) == ("4", "Three?")


def test_commands(tmp_path: Path) -> None:
    session = Session(["m"], Rows(tmp_path / "c.jsonl"))
    for line in ("/undo", "/again", "/accept", "/edit x", "/reject"):
        with pytest.raises(RecipeError, match="nothing was asked"):
            session.command(line)
    with pytest.raises(RecipeError, match="did you mean 'accept'"):
        session.command("/acept")
    assert all(f"/{name}" in str(session.command("/help")) for name in HELP)
    session.command("/system Be kind.")
    assert session.messages("m", "Hi")[0] == Message("system", "Be kind.")
    session.command("/system -")
    session.turns += [Turn("a", {"m": "b"}), Turn("c", {"m": "  "})]
    with pytest.raises(RecipeError, match="no answer to save"):
        session.command("/accept")
    assert getattr(session.command("/again"), "question", "") == "c"
    session.command("/undo")
    session.command("/new")
    assert session.messages("m", "Hi") == [Message("user", "Hi")]
    with pytest.raises(Leave):
        session.command("/quit")


def test_what_cannot_be_is_said_before_anything_is_loaded(tmp_path: Path, run: Path) -> None:
    for path, word in ((tmp_path / "rows.csv", "name a .jsonl"), (tmp_path / "no" / "rows.jsonl", "there is no folder")):
        with pytest.raises(RecipeError, match=word):
            Rows(path)
    (tmp_path / "x.jsonl").write_text("not a row")
    with pytest.raises(RecipeError, match="no file of rows"):
        Rows(tmp_path / "x.jsonl").keep([Message("user", "a"), Message("assistant", "b")], {1})
    assert (tmp_path / "x.jsonl").read_text() == "not a row"
    with pytest.raises(RecipeError, match="did you mean 'tiny'"):
        loading.load("tinny", run.parent, print)
    with pytest.raises(RecipeError, match="leave --format out"):
        loading.load("tiny", run.parent, print, "chatml")
    with pytest.raises(RecipeError, match="did you mean 'chatml'"):
        loading.load(str(run / "model"), run.parent, print, "chatlm")


def test_a_run_that_is_not_tuned_or_whose_start_model_changed_is_refused(run: Path) -> None:
    journal.write_json(run / "manifest.json", {"model": {"digest": "0" * 64}})
    try:
        with pytest.raises(DataError, match="tuned from"):
            loading.load(str(run), Path(), print)
    finally:
        (run / "manifest.json").unlink()
    (run / "stages" / "tune.json").rename(run / "tune.json")
    try:
        with pytest.raises(RecipeError, match="no tuned model yet"):
            loading.load(str(run), Path(), print)
    finally:
        (run / "tune.json").rename(run / "stages" / "tune.json")


class Scripted:
    """A voice of fixed pieces; calls back before each."""

    name, blocking = "m", False

    def __init__(self, pieces: Sequence[str], before: Callable[[int], None] = lambda place: None) -> None:
        self.pieces, self.before, self.closed = pieces, before, False

    def answer(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        try:
            for place, piece in enumerate(self.pieces):
                self.before(place)
                yield piece
        finally:
            self.closed = True

    def close(self) -> None:
        pass


def test_a_model_cannot_drive_the_terminal(tmp_path: Path, capsys: Any) -> None:
    attack = ["\x1b]0;owned\x07", "\x1b[2J", "\r", "\u202e", "\x9b31m", "ok\n"]
    session = Session(["m"], Rows(tmp_path / "c.jsonl"))
    with terminal.Interrupts() as interrupts:
        terminal.turn("hi", session, [Scripted(attack)], Sampling(), interrupts)
        terminal.turn("/history", session, [], Sampling(), interrupts)
    out = "".join(capsys.readouterr())
    assert not set(out) & set("\x1b\x07\r\u202e\x9b")
    assert "\\x1b]0;owned\\x07" in out
    assert session.turns[0].answers["m"] == "".join(attack)  # the row keeps what was said


@pytest.mark.parametrize("blocking", [False, True])
def test_ctrl_c_stops_the_answer_and_not_the_chat(tmp_path: Path, capsys: Any, blocking: bool) -> None:
    def press(place: int) -> None:
        if place == 1:
            os.kill(os.getpid(), signal.SIGINT)
            if not blocking:
                threading.Event().wait(0.01)

    voice = Scripted(["one ", "two ", "three"], press)
    voice.blocking = blocking
    session = Session(["m"], Rows(tmp_path / "c.jsonl"))
    before = signal.getsignal(signal.SIGINT)
    with terminal.Interrupts() as interrupts:
        terminal.turn("count", session, [voice], Sampling(), interrupts)
        assert session.turns[0].answers["m"] == ("one " if blocking else "one two ")
        assert voice.closed
        terminal.turn("again", session, [Scripted(["fine"])], Sampling(), interrupts)
        assert session.turns[1].answers["m"] == "fine"
    assert signal.getsignal(signal.SIGINT) is before
    assert "(stopped)" in capsys.readouterr().err


def test_ctrl_c_twice_at_the_prompt_leaves(monkeypatch: Any, capsys: Any) -> None:
    keys = iter([KeyboardInterrupt, "hi", KeyboardInterrupt, KeyboardInterrupt, "never"])

    def typed(prompt: str) -> str:
        key = next(keys)
        if isinstance(key, str):
            return key
        raise key

    monkeypatch.setattr("builtins.input", typed)
    with terminal.Interrupts() as interrupts:
        assert list(terminal.lines(interrupts, True)) == ["hi"]
    assert capsys.readouterr().err.count("again") == 2


def test_a_server_is_talked_to_with_its_own_key_only(run: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    pytest.importorskip("openai")
    from etude.serving import Serving
    from etude.serving.running import TOKEN, listening, working

    monkeypatch.setenv(TOKEN, "s3cret")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-never-to-be-sent")
    loaded = loading.load(str(run), run, print)
    expected = loaded.local.complete([voices.conversation([Message("user", "Why?")])], Sampling(max_new_tokens=10))[0][0].text
    save = tmp_path / "chat.jsonl"
    with listening("127.0.0.1", 0) as listener, working(loaded, Serving(), listener, lambda text: None) as server:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        with pytest.raises(ServerGaveUp, match="--key-env NAME") as refused:
            talk(url, ["Why?"], monkeypatch, save=save)
        assert "sk-never" not in str(refused.value)
        talk(url, ["Why?"], monkeypatch, save=save, key_env=TOKEN)
        assert capsys.readouterr().out == terminal.printable(expected + "\n")
        with pytest.raises(ServerGaveUp, match="is not served here"):
            talk(url, ["Why?"], monkeypatch, save=save, key_env=TOKEN, model="gpt")
        server.should_exit = True
        thread.join(20)
    with pytest.raises(RecipeError, match="NO_SUCH_KEY holds no key"):
        talk(url, ["Why?"], monkeypatch, save=save, key_env="NO_SUCH_KEY")
