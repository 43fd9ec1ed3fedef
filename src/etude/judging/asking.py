"""A judge that is asked: verdicts chosen by likelihood or read strictly, and every reply kept, so that nothing is asked twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from etude import journal
from etude.failures import RecipeError
from etude.judging.prompts import Question
from etude.models import Sampling
from etude.models.arriving import arriving
from etude.records import Conversation


class Asking:
    """Asks one judge. `identity`: all that its replies depend on besides the question (its settings); `path`: the journal of replies
    (None: nothing is kept); `how`: `choose` takes the likeliest verdict (models with log-probabilities), `text` reads the reply, `auto` is
    `choose` where the model can; `told` hears the number of questions that were just settled.

    Raises RecipeError for `choose` with a model that gives no log-probabilities.
    """

    def __init__(
        self,
        llm: Any,
        identity: str = "",
        path: Path | None = None,
        *,
        how: Literal["auto", "choose", "text"] = "auto",
        attempts: int = 3,
        sampling: Sampling | None = None,
        told: Callable[[int], None] = lambda count: None,
    ) -> None:
        if how == "choose" and not hasattr(llm, "choose"):
            raise RecipeError("judge.reply: choose needs a model that gives log-probabilities (type local); use text")
        self.llm, self.identity, self.told = llm, identity, told
        self.choose = how != "text" and hasattr(llm, "choose")
        self.attempts = attempts
        self.sampling = sampling or Sampling(max_new_tokens=1024)
        self.known: dict[str, Any] = {}
        if path is not None and path.exists():
            self.known = {line["key"]: line["reply"] for line in journal.read(path)}
        self.lines = journal.Journal(path) if path is not None else None
        self.asked = self.from_journal = self.asked_again = self.failed = 0

    def __call__(self, questions: Sequence[Question]) -> list[str | None]:
        """The verdict on each question, in order; None where no reply in `attempts` could be read."""
        return self.chosen(questions) if self.choose else self.read(questions)

    def chosen(self, questions: Sequence[Question]) -> list[str | None]:
        """The likeliest verdicts; None where a log-probability is not a number."""
        found: list[str | None] = []
        for question in questions:
            key = self.key(question.conversation, list(question.choices))
            self.from_journal += key in self.known
            if key not in self.known:
                (_, values), *_ = self.llm.choose([question.conversation], list(question.choices))
                self.keep(key, question.conversation, [round(float(value), 5) for value in values])
            values = self.known[key]
            usable = all(isinstance(value, float) and math.isfinite(value) for value in values)
            found.append(question.verdicts[max(range(len(values)), key=values.__getitem__)] if usable else None)
            self.told(1)
        return found

    def read(self, questions: Sequence[Question]) -> list[str | None]:
        """The verdicts that replies end with; a reply without one is followed by a reminder."""
        found: list[str | None] = [None] * len(questions)
        waiting = {place: question.conversation for place, question in enumerate(questions)}
        for attempt in range(self.attempts):
            self.asked_again += len(waiting) if attempt else 0
            replies = self.replies(waiting)
            for place in list(waiting):
                found[place] = questions[place].read(replies[place])
                if found[place] is None:
                    waiting[place] = questions[place].again(replies[place])
                else:
                    del waiting[place]
                    self.told(1)
        self.told(len(waiting))
        return found

    def replies(self, asked: dict[int, Conversation]) -> dict[int, str]:
        """A reply to each conversation, from the journal or the model. A server's failure is "" and is not kept: it is asked again."""
        keys = {place: self.key(conversation, self.sampling.model_dump(mode="json")) for place, conversation in asked.items()}
        missing = {key: asked[place] for place, key in keys.items() if key not in self.known}
        self.from_journal += sum(key in self.known for key in keys.values())
        lost = set()
        order = list(missing)
        for index, answers in arriving(self.llm, [missing[key] for key in order], self.sampling):
            if answers and not answers[0].failure:
                self.keep(order[index], missing[order[index]], answers[0].text)
            else:
                self.asked, self.failed = self.asked + 1, self.failed + 1
                lost.add(order[index])
        return {place: "" if key in lost else self.known[key] for place, key in keys.items()}

    def keep(self, key: str, conversation: Conversation, reply: Any) -> None:
        """Note a reply that just came."""
        self.known[key] = reply
        self.asked += 1
        if self.lines:
            self.lines.append({"key": key, "id": conversation.id, "reply": reply})

    def key(self, conversation: Conversation, how: Any) -> str:
        """What a reply is known by."""
        return journal.digest([self.identity, [[m.role, m.content] for m in conversation.messages], how])

    def facts(self) -> dict[str, Any]:
        """How verdicts were had, and what was asked now and before."""
        return {
            "reply": "choose" if self.choose else "text",
            "asked": self.asked,
            "from_journal": self.from_journal,
            "asked_again": self.asked_again,
            "failed": self.failed,
        }

    def close(self) -> None:
        """Close the journal."""
        if self.lines:
            self.lines.close()

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
