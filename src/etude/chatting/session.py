"""What was said in a chat so far, and the commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etude.chatting.saving import Rows
from etude.failures import RecipeError, nearest
from etude.records import Message

HELP = {
    "help": "this list",
    "system": "TEXT  set the system prompt (alone: show it; '-': none)",
    "history": "what was said so far",
    "undo": "forget the last turn",
    "again": "ask the last question once more",
    "new": "forget everything but the system prompt",
    "accept": "[NAME]  save the last answer as a row (of NAME, where two answer); /save is the same",
    "edit": "TEXT  put TEXT in the last answer's place, and save it",
    "reject": "note the last answer as no good, and forget the turn",
    "bye": "leave (so do Ctrl-D, and Ctrl-C twice)",
}
"""The commands and what they do."""
SAME = {"save": "accept", "exit": "bye", "quit": "bye", "retry": "again", "clear": "new", "?": "help"}


class Leave(Exception):
    """The user wants to leave."""


@dataclass(slots=True)
class Turn:
    """A question and its answers, by who gave them; `kept`: those that are rows of the data set."""

    question: str
    answers: dict[str, str] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Session:
    """The conversation. Each voice hears its own answers; `voices` names them, the first is the one talked to."""

    voices: Sequence[str]
    rows: Rows
    system: str = ""
    turns: list[Turn] = field(default_factory=list)

    def messages(self, voice: str, question: str | None = None) -> list[Message]:
        """What a voice is asked: the conversation as it knows it, and a new question."""
        found = [Message("system", self.system)] if self.system else []
        for turn in self.turns:
            found += [Message("user", turn.question), Message("assistant", turn.answers.get(voice, ""))]
        return found if question is None else [*found, Message("user", question)]

    def command(self, line: str) -> str | Again:
        """Do what a line such as `/accept` says; returns what to show, or what to ask again. Raises RecipeError for one that
        cannot be done, Leave to end."""
        name, _, rest = line[1:].partition(" ")
        name = SAME.get(name, name)
        if name not in HELP:
            raise RecipeError(f"/{name}: no such command{nearest(name, HELP)} (// at the beginning sends a message that begins with /)")
        if name == "bye":
            raise Leave
        does: Callable[[str], str | Again] = getattr(self, f"do_{name}")
        return does(rest.strip())

    def last(self) -> Turn:
        """The last turn; raises RecipeError where there is none."""
        if not self.turns:
            raise RecipeError("nothing was asked yet")
        return self.turns[-1]

    def do_help(self, rest: str) -> str:
        """The commands."""
        return "\n".join(f"/{name:8} {text}" for name, text in HELP.items()) + '\n"""      begins and ends a message of several lines'

    def do_system(self, rest: str) -> str:
        """Show or set the system prompt."""
        if rest:
            self.system = "" if rest == "-" else rest
        return f"system prompt: {self.system or 'none of ours (the format may have its own)'}"

    def do_history(self, rest: str) -> str:
        """The conversation."""
        return "\n".join(self.told()) or "nothing was asked yet"

    def told(self) -> Iterator[str]:
        """The conversation in lines."""
        if self.system:
            yield f"system: {self.system}"
        for turn in self.turns:
            yield f"you: {turn.question}"
            for voice, text in turn.answers.items():
                yield f"{voice}: {text}{' [saved]' if voice in turn.kept else ''}"

    def do_undo(self, rest: str) -> str:
        """Forget the last turn."""
        self.last()
        self.turns.pop()
        return f"forgotten; {len(self.turns)} turns are left"

    def do_again(self, rest: str) -> Again:
        """Ask the last question again."""
        question = self.last().question
        self.turns.pop()
        return Again(question)

    def do_new(self, rest: str) -> str:
        """Forget the turns."""
        self.turns.clear()
        return "a new conversation"

    def do_accept(self, rest: str) -> str:
        """Save the last answer."""
        voice = rest or self.voices[0]
        if voice not in self.voices:
            raise RecipeError(f"/accept {voice}: nobody of that name answers{nearest(voice, self.voices)}")
        return self.save(voice, "accepted")

    def do_edit(self, rest: str) -> str:
        """Save a better answer in the last one's place."""
        if not rest:
            raise RecipeError("/edit needs the text of the better answer")
        turn, voice = self.last(), self.voices[0]
        before = turn.answers.get(voice, "")
        for name in self.voices:
            turn.answers[name] = rest  # from here on all of them go on from the better answer
        return self.save(voice, "edited", model_answer=before)

    def do_reject(self, rest: str) -> str:
        """Note the last answer as no good."""
        turn, voice = self.last(), self.voices[0]
        self.turns.pop()
        path = self.rows.reject(self.messages(voice, turn.question), turn.answers.get(voice, ""), model=voice)
        return f"rejected in {path}; the turn is forgotten"

    def save(self, voice: str, verdict: str, **facts: Any) -> str:
        """Write the conversation up to its last answer as a row in which that answer is trained, earlier ones are not: those that
        are worth it have rows of their own."""
        turn = self.last()
        if not turn.answers.get(voice, "").strip():
            raise RecipeError(f"{voice} gave no answer to save; /edit TEXT saves yours")
        if voice in turn.kept:
            raise RecipeError("this answer is saved already")
        messages = self.messages(voice)
        path: Path = self.rows.keep(messages, {len(messages) - 1}, verdict=verdict, model=voice, **facts)
        turn.kept.add(voice)
        return f"{verdict}: a row in {path}"


@dataclass(frozen=True, slots=True)
class Again:
    """A question to be asked (again)."""

    question: str
