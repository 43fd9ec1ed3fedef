"""Conversations: a list of messages a row, in OpenAI's spelling (`messages`) or ShareGPT's (`sharegpt`).

Both read every spelling that `turns` understands; they differ in the keys where they look. The Record's
fields are `messages` and, where there are some, `tools`, in the one form of `turns`, mended where the
recipe chose so: the row's id is the hash of these fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from etude.catalog import Settings
from etude.failures import nearest
from etude.records import BadRow, Record
from etude.sources.keys import DataPath, FileEncoding, FileKind, Keep, Licence, Limit, Task, Where, Worded
from etude.sources.mending import Mend, Mended, ordered
from etude.sources.reading import Build, FileSource, hint, inputs_of, pick, read_file, text_of
from etude.sources.rows import Unusable
from etude.sources.turns import Spelling, tools, turns

MESSAGES = ("messages", "conversations", "conversation", "dialogue", "turns")
CONVERSATIONS = ("conversations", "conversation", "items", "messages")
TOOLS = ("tools", "functions")
TARGETS = ("system", "user", "assistant", "tool", "function_call")


def known_roles(given: dict[str, str]) -> dict[str, str]:
    """The same map, or a placed pydantic error for a role of ours that does not exist."""
    for spelling, role in given.items():
        if role not in TARGETS:
            raise PydanticCustomError(
                "role",
                "'{spelling}' leads to '{role}', which is no role{hint}",
                {"spelling": spelling, "role": role, "hint": nearest(role, TARGETS)},
            )
    return given


ListKey = Annotated[str | None, Field(min_length=1, description="The key that holds the list of messages; None: the usual ones.")]
RoleKey = Annotated[str | None, Field(min_length=1, description="The key of a message that says who speaks; None: `role` or `from`.")]
ContentKey = Annotated[
    str | None, Field(min_length=1, description="The key of a message that holds its text; None: `content`, `value` or `text`.")
]
Roles = Annotated[
    dict[str, str],
    AfterValidator(known_roles),
    Field(description="Further spellings of roles, e.g. `{Kunde: user}`; to system, user, assistant, tool or function_call."),
]
SystemKey = Annotated[
    str | None, Field(min_length=1, description="The key of a row that holds a system text beside the messages; None: `system`.")
]
ToolsKey = Annotated[str | None, Field(min_length=1, description="The key of a row that holds its tools; None: `tools` or `functions`.")]


class Spelled(FileSource, Protocol):
    """A source of conversations with the settings of their spelling."""

    @property
    def messages(self) -> str | None:
        """The key of the list."""

    @property
    def role(self) -> str | None:
        """The key of who speaks."""

    @property
    def content(self) -> str | None:
        """The key of what is said."""

    @property
    def roles(self) -> dict[str, str]:
        """Further spellings."""

    @property
    def system(self) -> str | None:
        """The key of a system text."""

    @property
    def tools(self) -> str | None:
        """The key of the tools."""

    @property
    def mend(self) -> tuple[Any, ...]:
        """The rules that mend."""


class Messages(Settings):
    """Conversations as OpenAI's chat rows hold them: `messages` of `role` and `content`, tool calls and results, `tools`."""

    usual: ClassVar[tuple[str, ...]] = MESSAGES
    path: DataPath
    messages: ListKey = None
    role: RoleKey = None
    content: ContentKey = None
    roles: Roles = Field(default={})
    system: SystemKey = None
    tools: ToolsKey = None
    mend: Mend = ()
    template: Worded = None
    where: Where = None
    limit: Limit = None
    keep: Keep = ()
    container: FileKind = None
    encoding: FileEncoding = "utf-8"
    licence: Licence = ""
    task: Task = None

    def read(self, name: str) -> Iterator[Record | BadRow]:
        """Every row in file order. Raises DataError for an unusable file, RecipeError for a key no row has."""
        return conversations(self, name, self.usual)

    def inputs(self) -> dict[str, str]:
        """Path -> SHA-256 of every file."""
        return inputs_of(self)


class ShareGPT(Messages):
    """Conversations as ShareGPT's rows hold them: `conversations` of `from` (human, gpt, function_call, observation) and `value`."""

    usual: ClassVar[tuple[str, ...]] = CONVERSATIONS


def conversations(source: Spelled, name: str, usual: tuple[str, ...]) -> Iterator[Record | BadRow]:
    """The conversations of a source; `usual` are the keys of the list of messages where the recipe names none."""
    mended = Mended(name)

    def shape(columns: list[str]) -> Build:
        keys = (pick(columns, usual, source.messages), source.system or "system", pick(columns, TOOLS, source.tools))
        spelling = Spelling(source.role, source.content, source.roles, "drop_empty" in source.mend)
        return partial(conversation, keys, spelling, source.mend, mended)

    try:
        yield from read_file(source, name, shape, named=(source.messages, source.system, source.tools))
    finally:
        mended.tell()


def conversation(
    keys: tuple[str, str, str], spelling: Spelling, mend: tuple[Any, ...], mended: Mended, cells: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of one row: `messages` and perhaps `tools`; raises Unusable with the reason."""
    listed, system, functions = keys
    if listed not in cells:
        raise Unusable(f"{listed!r} is missing{hint(listed, cells)}")
    found = turns(cells[listed], spelling, f"{listed!r}")
    if beside := text_of(dict(cells), system, optional=True):
        if any(one["role"] == "system" for one in found):
            raise Unusable(f"there is a system turn and the key {system!r} beside it")
        found.insert(0, {"role": "system", "content": beside})
    return worded(found, mend, mended, tools(cells.get(functions)))


def worded(found: list[dict[str, Any]], mend: tuple[Any, ...], mended: Mended, functions: list[dict[str, Any]]) -> dict[str, Any]:
    """The fields of a conversation, its turns in order; raises Unusable for an order that no chosen rule mends."""
    messages, rules = ordered(found, mend)
    mended.count(rules)
    return {"messages": messages, **({"tools": functions} if functions else {})}
