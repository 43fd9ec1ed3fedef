"""An LLM with fixed answers: for tests, for dry runs, and as the smallest example of the protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from etude.failures import DataError, nearest
from etude.models import Answer, Progress, Sampling
from etude.records import Conversation

Script = Sequence[str] | Mapping[str, str] | Callable[[Conversation, int], str]


class Scripted:
    """Answers from a list (in the order asked), a mapping (text of the question's last message -> answer),
    or a function of the question and the number (from 0) of the answer drawn for it.

    `asked` holds every question in the order asked, `calls` counts the calls of `complete` and
    `complete_each`. Stop texts are honoured; `Answer.tokens` counts words.
    """

    def __init__(self, script: Script) -> None:
        if isinstance(script, str):
            raise TypeError("a script is a list of answers, a mapping or a function, not one text; write [text]")
        self.script = script
        self.asked: list[Conversation] = []
        self.calls = 0
        self.given = 0

    def complete(
        self, conversations: Sequence[Conversation], sampling: Sampling, progress: Progress | None = None
    ) -> list[tuple[Answer, ...]]:
        """`sampling.n` answers for each conversation's question, in order.

        Raises DataError when a list is used up or a mapping lacks the question.
        """
        answers = []
        for _, found in self.complete_each(conversations, sampling):
            answers.append(found)
            if progress:
                progress(1)
        return answers

    def complete_each(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[tuple[int, tuple[Answer, ...]]]:
        """(index, answers) one conversation after the other; raises as `complete`."""
        self.calls += 1
        for index, conversation in enumerate(conversations):
            question = conversation.question()
            self.asked.append(question)
            yield index, tuple(self._answer(question, number, sampling) for number in range(sampling.n))

    def _answer(self, question: Conversation, number: int, sampling: Sampling) -> Answer:
        text = sampling.before_stop(self._text(question, number))
        return Answer(text, "stop", len(text.split()))

    def _text(self, question: Conversation, number: int) -> str:
        asked = question.messages[-1].words() if question.messages else ""
        if callable(self.script):
            return self.script(question, number)
        if isinstance(self.script, Mapping):
            if asked not in self.script:
                raise DataError(f"the script has no answer to {asked!r} (row {question.id}){nearest(asked, self.script)}")
            return self.script[asked]
        if self.given == len(self.script):
            raise DataError(f"the script's {len(self.script)} answers are used up; row {question.id} asks for one more: {asked!r}")
        self.given += 1
        return self.script[self.given - 1]
