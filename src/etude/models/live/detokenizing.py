"""An answer's tokens as text while they come: no half characters, and nothing that may yet become a stop text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from etude.encoding import Encoder

HALF = "\ufffd"
"""What a tokenizer writes for bytes that are no character (yet)."""


class Detokenizer:
    """The text of tokens as far as it is certain. The pieces joined are the beginning of the text of all ids."""

    def __init__(self, encoder: Encoder, stop: Sequence[str] = ()) -> None:
        self.encoder = encoder
        self.stop = [text for text in stop if text]
        self.ids: list[int] = []
        self.first = self.upto = 0
        self.held = ""
        """Text that is certain, but may be the beginning of a stop text."""
        self.given = 0
        """Characters given out."""

    def push(self, token: int) -> str:
        """The next token; returns the text that became certain with it, "" where none did."""
        self.ids.append(token)
        # only the last few tokens are decoded: a token's text depends on those around it (half characters, first spaces)
        before = self.encoder.text(self.ids[self.first : self.upto])
        now = self.encoder.text(self.ids[self.first :])
        if now.endswith(HALF) or len(now) <= len(before):
            return ""
        self.first, self.upto = self.upto, len(self.ids)
        return self._settle(self.held + now[len(before) :])

    def rest(self, whole: str) -> str:
        """What is missing of the answer's final text, when it has ended."""
        missing = whole[self.given :]
        self.given = len(whole)
        return missing

    def _settle(self, text: str) -> str:
        keep = max((overlap(text, stop) for stop in self.stop), default=0)
        self.held = text[len(text) - keep :]
        certain = text[: len(text) - keep]
        self.given += len(certain)
        return certain


def overlap(text: str, stop: str) -> int:
    """Characters at the end of `text` from where a stop text begins that may be completed, or is complete."""
    if (found := text.find(stop)) >= 0:
        return len(text) - found
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-size:])), 0)


def byte_reader(encoder: Encoder) -> Callable[[int], bytes]:
    """A function from a token's id to its bytes: those a byte-level vocabulary spells, else its text in UTF-8."""
    tokenizer = encoder.tokenizer
    spelled = {char: byte for byte, char in byte_characters().items()}

    def read(token: int) -> bytes:
        name = tokenizer.convert_ids_to_tokens(token)
        text = tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if HALF not in text or not name:
            return str(text).encode("utf-8", "replace")
        if len(name) == 6 and name.startswith("<0x"):
            return bytes([int(name[3:5], 16)])
        if all(char in spelled for char in name):
            return bytes(spelled[char] for char in name)
        return str(text).encode("utf-8", "replace")

    return read


def byte_characters() -> dict[int, str]:
    """Byte -> the character that byte-level vocabularies write for it (Radford et al. 2019): printable Latin-1 for itself,
    the others from U+0100 on in order."""
    shown = {byte for byte in range(256) if 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255}
    others = iter(range(256, 512))
    return {byte: chr(byte) if byte in shown else chr(next(others)) for byte in range(256)}
