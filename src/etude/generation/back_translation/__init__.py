"""Instruction back-translation (Li et al. 2023, arXiv 2308.06259, "Humpback"): a text that somebody wrote is the answer; what was asked?

Two questions a piece. The LLM writes the request that the piece answers (the paper tunes a model to do so; here one is asked), and
then judges request and answer as a row, from 1 to 5 (the paper's self-curation); rows below the least score leave. The
piece itself stays as it is: it is the output of the row, and where it came from, file and line, is the row's origin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from etude import journal, seeds
from etude.catalog import Settings, note
from etude.failures import DataError, RecipeError, nearest
from etude.generation import Given, Made, Refused
from etude.generation.back_translation.blocks import Undivided
from etude.generation.back_translation.documents import PROSE, read
from etude.generation.back_translation.pieces import divide
from etude.generation.back_translation.prompts import AGAIN, gives_away, grade, grading, refers_away, writing, written
from etude.generation.replies import folded, said, until_read, unusable
from etude.models import Sampling
from etude.records import Conversation, Origin, Record

WAVE = 64
"""Pieces asked about at once."""
FIELDS = ("output", "text", "code")
"""Fields of rows that are looked into where none is named, the first that a row has."""


@dataclass(frozen=True, slots=True)
class Source:
    """A text that is to become an answer. `place` tells the writer where it stands; `about` goes into the row's notes."""

    text: str
    origin: Origin
    code: bool = False
    place: str = ""
    parents: tuple[str, ...] = ()
    about: Mapping[str, Any] | None = None

    @property
    def id(self) -> str:
        """Known by its text: no two of one run have the same."""
        return journal.digest(self.text)[:16]


class BackTranslation(Settings):
    """Instructions for texts and code that are there: the rows of a source, your own documents, or both.

    A row is refused where no request was written, where the request speaks of a text that its reader cannot see, gives the answer
    away or repeats another, and where the model scores the row below `least`.
    """

    keeps_fields: ClassVar[bool] = False

    llm: Annotated[str, Field(min_length=1)]
    """Who writes the instructions: a name of the recipe's `llms`, or `start` for its start model."""
    judge: str = ""
    """Who scores the rows; by default the same as `llm`, which is the paper's self-curation."""
    rows: str = ""
    """The data whose training rows hold the texts; "" for none."""
    field: str = ""
    """The field of these rows that is the text; by default the first there is of `output`, `text` and `code`."""
    documents: str = ""
    """A folder, or a file, of your own text and code: .txt .md .rst .py .js .ts .java .go .rs .c .cpp .sh .sql and more."""
    licence: str = ""
    """The licence of the documents, for the manifest."""
    count: Annotated[int, Field(ge=1)] | None = None
    """Rows wanted, from pieces drawn at random; by default every piece is tried."""
    least: Annotated[float, Field(ge=1, le=5)] = 4
    """Rows scored lower (1 to 5) are refused; 1 keeps every row that got a score. The paper compares 4 and 5."""
    least_characters: Annotated[int, Field(ge=1)] = 150
    """Shorter pieces are left out."""
    most_characters: Annotated[int, Field(ge=100)] = 2000
    """Documents are divided into pieces of at most so many characters; longer rows are left out."""
    attempts: Annotated[int, Field(ge=1, le=10)] = 2
    """How often a row's score is asked for at most, where a reply cannot be read."""
    sampling: Sampling = Sampling(max_new_tokens=256, temperature=0.7, top_p=0.9)
    """How instructions are drawn; temperature and top_p are the paper's."""
    judging: Sampling = Sampling(max_new_tokens=64)
    """How scores are drawn; greedily unless said otherwise."""

    @model_validator(mode="after")
    def sound(self) -> BackTranslation:
        """Bounds in their order, and one answer to a question."""
        if self.least_characters > self.most_characters:
            raise ValueError(f"least_characters is {self.least_characters}, more than most_characters, which is {self.most_characters}")
        for key in ("sampling", "judging"):
            if getattr(self, key).n != 1:
                raise ValueError(f"{key}.n is {getattr(self, key).n}; every question has one answer here")
        return self

    def inputs(self) -> dict[str, str]:
        """The documents' folder or file -> SHA-256 of the paths and texts that are read. Raises DataError as `documents.read` does."""
        return {self.documents: read(self.documents).digest()} if self.documents else {}

    def generate(self, given: Given) -> Iterator[Made | Refused]:
        """A row or a refusal for each piece, wave after wave.

        Raises RecipeError where there is neither a source nor a folder, or no row has the field; DataError for documents that cannot
        be used, and where nothing has a length within the bounds.
        """
        if not self.rows and not self.documents:
            raise RecipeError("back_translation: it needs texts; name a source in `rows`, a folder in `documents`, or say --from FOLDER")
        sources, refused = self.sources(given.rows)
        yield from refused
        waiting = sources
        if self.count is not None:
            waiting = sorted(sources, key=lambda one: seeds.share(given.seed, "generate", "back_translation", one.id))
        seen: dict[str, str] = {}
        made = 0
        while waiting:
            wave = min(WAVE, len(waiting) if self.count is None else self.count - made)
            for outcome in self.wave(waiting[:wave], given, seen):
                yield outcome
                made += isinstance(outcome, Made)
            if made == self.count:
                return
            waiting = waiting[wave:]
        if self.count is not None:
            note(f"back_translation: all {len(sources)} pieces were tried, and {made} rows came of them; count is {self.count}")

    def wave(self, sources: Sequence[Source], given: Given, seen: dict[str, str]) -> list[Made | Refused]:
        """What becomes of these pieces, in their order. `seen`: instructions so far, folded -> the piece each was written for."""
        asked = [Conversation(f"{one.id}.instruction", writing(one.text, one.code, one.place), one.origin) for one in sources]
        replies = [answers[0] for answers in given.ask(self.llm, asked, self.sampling)]
        outcomes: dict[int, Made | Refused] = {}
        texts: dict[int, str] = {}
        for place, (source, answer) in enumerate(zip(sources, replies, strict=True)):
            text = written(said(answer))
            rule, facts = unusable(answer) or refused_by(text, source) or ("", {})
            if not rule and (twin := seen.setdefault(folded(text), source.id)) != source.id:
                rule, facts = "repeated instruction", {"nearest": twin}
            if rule:
                outcomes[place] = refusal(rule, text, source, facts)
            else:
                texts[place] = text
        pairs = [Conversation(f"{sources[place].id}.score", grading(text, sources[place].text)) for place, text in texts.items()]
        scores = until_read(given, self.judge or self.llm, pairs, self.judging, grade, AGAIN, self.attempts)
        for (place, text), score in zip(texts.items(), scores, strict=True):
            outcomes[place] = self.decided(sources[place], text, score)
        return [outcomes[place] for place in range(len(sources))]

    def decided(self, source: Source, text: str, score: float | None) -> Made | Refused:
        """A row, or the refusal for its score."""
        if score is None:
            return refusal("unreadable score", text, source, {})
        if score < self.least:
            return refusal("low score", text, source, {"score": score})
        fields = {"instruction": text, "input": "", "output": source.text}
        return Made(fields, source.origin, source.parents, {"score": score, **(source.about or {})})

    def sources(self, rows: Sequence[Record]) -> tuple[list[Source], list[Refused]]:
        """Every piece once, rows first, then documents; and what cannot be one: rows of the wrong length, and files that cannot be read."""
        found, refused = self.of_rows(rows) if self.rows else ([], [])
        if self.documents:
            of_documents, faulty = self.of_documents()
            found, refused = [*found, *of_documents], [*refused, *faulty]
        once = {one.id: one for one in reversed(found)}
        if len(found) > len(once):
            note(f"back_translation: {len(found) - len(once)} pieces that repeat others are left out")
        if not once:
            bounds = f"{self.least_characters} to {self.most_characters} characters"
            where = " and ".join(filter(None, (self.rows and f"the source {self.rows!r}", self.documents)))
            raise DataError(f"back_translation: {where} holds no piece of {bounds} (least_characters, most_characters)")
        return [one for one in found if once[one.id] is one], refused

    def of_rows(self, rows: Sequence[Record]) -> tuple[list[Source], list[Refused]]:
        """The texts of rows."""
        found, refused = [], []
        for record in rows:
            name = self.field or next((one for one in FIELDS if one in record.fields), FIELDS[0])
            text = record.fields.get(name)
            if not isinstance(text, str):
                raise RecipeError(f"back_translation: {record.origin} has no text {name!r}{nearest(name, record.fields)}; `field` names it")
            text = text.strip("\n").rstrip()
            source = Source(text, record.origin, name == "code", parents=(record.id,))
            if self.least_characters <= len(text) <= self.most_characters:
                found.append(source)
            else:
                rule = "short text" if len(text) < self.least_characters else "long text"
                refused.append(Refused(rule, text[: self.most_characters], (record.id,), {"characters": len(text)}))
        return found, refused

    def of_documents(self) -> tuple[list[Source], list[Refused]]:
        """The pieces of the user's documents; a note says how many files there are, and what was passed over."""
        documents = read(self.documents)
        found = []
        for document in documents.found:
            try:
                pieces = divide(document, self.least_characters, self.most_characters)
            except Undivided:
                documents.passed["undivided"] += 1
                documents.faulty.append((document.path, "undivided"))
                continue
            if not pieces:
                documents.passed["without a piece of a length within the bounds"] += 1
            for piece in pieces:
                place = f"{document.path} > {piece.heading}" if piece.heading else document.path
                about = {"kind": document.kind, "end": piece.end, **({"heading": piece.heading} if piece.heading else {})}
                origin = Origin(document.path, piece.line, self.licence)
                found.append(Source(piece.text, origin, document.kind not in PROSE, place, about=about))
        passed = f"; passed over: {documents.counts()}" if documents.passed else ""
        note(f"{self.documents}: {len(found)} pieces of {len(documents.found)} files{passed}")
        return found, [Refused(f"{reason} file", path) for path, reason in documents.faulty]


def refused_by(text: str, source: Source) -> tuple[str, dict[str, Any]] | None:
    """The rule that an instruction breaks, with its facts; None for none."""
    if not text:
        return "no instruction", {}
    if words := refers_away(text):
        return "leak", {"words": words}
    return ("gives the answer away", {}) if gives_away(text, source.text) else None


def refusal(rule: str, text: str, source: Source, facts: Mapping[str, Any]) -> Refused:
    """A refused instruction, with the file and line of its piece."""
    origin = {"path": source.origin.path, "line": source.origin.line}
    return Refused(rule, text, source.parents, {"origin": origin, **facts})
