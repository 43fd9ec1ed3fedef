"""Secrets and personal data in a row: found, dropped or masked. What is found is never shown in a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from etude.catalog import Settings
from etude.curation.deciding import Found, decide
from etude.curation.revealing import KINDS, Kind, spans
from etude.curation.rows import Beside, Row, Verdicts
from etude.records import Record

EVERY: tuple[Kind, ...] = ("private_key", "api_key", "password", "email", "phone", "card", "iban", "ssn")


class Secrets(Settings):
    """Rows with keys, passwords or personal data in any turn; `mask_secrets` keeps such rows without what is secret.

    Reserved and made-up values do not count: `example.com` and `.test` addresses, 555-01xx and 123-456-7890 numbers, keys with
    EXAMPLE or XXXX in them, card numbers without a valid check digit or of two different digits.
    """

    kinds: tuple[Kind, ...] = EVERY
    """What is looked for."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows with secrets; facts count the finds by kind, and examples show kinds and lengths only."""
        counts: Counter[str] = Counter()

        def find(row: Row) -> Found | None:
            first = None
            for message in row.conversation.messages:
                calls = [call.arguments for call in message.tool_calls]
                for text in (message.content, message.context, *calls):
                    for start, end, kind in spans(text, self.kinds) if text else ():
                        counts[kind] += 1
                        first = first or Found(
                            f"secret: {KINDS[kind]}", f"{KINDS[kind]} of {end - start} characters in a {message.role} turn"
                        )
            return first

        verdicts = decide(rows, beside, find)
        return Verdicts(verdicts.fates, {**verdicts.facts, "found": dict(counts.most_common())})


class MaskSecrets(Settings):
    """Keys and personal data in every text of a row replaced by their kind in capitals: `[EMAIL]`, `[CARD]`, `[PHONE]`."""

    kinds: tuple[Kind, ...] = EVERY
    """What is masked."""

    def rewrite(self, record: Record) -> Record | str:
        """The Record with its secrets masked, or the same Record where there are none."""
        fields = changed(record.fields, lambda text: mask(text, self.kinds))
        return record if fields == record.fields else replace(record, fields=fields)


def mask(text: str, kinds: Sequence[Kind] = EVERY) -> str:
    """A text with each secret replaced by its kind."""
    parts, done = [], 0
    for start, end, kind in spans(text, kinds):
        parts += [text[done:start], f"[{kind.upper()}]"]
        done = end
    return "".join([*parts, text[done:]]) if parts else text


def changed(value: Any, change: Any) -> Any:
    """A JSON-like value with every text in it changed; keys stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: changed(inner, change) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [changed(inner, change) for inner in value]
    return value
