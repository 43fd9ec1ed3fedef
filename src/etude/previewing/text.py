"""The preview for a terminal. Characters that do not print are escaped, so that no row can drive it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from etude.previewing.samples import Sample, Token, Turn
from etude.previewing.statistics import QUANTILES, DataSet

if TYPE_CHECKING:
    from etude.previewing import Check, Preview

WORDS = 400
"""Characters shown of one message's words; the tokens below them show the rest."""

RUN = 600
"""Tokens shown of a run that is trained, untrained or cut as a whole: so many, half of them at each end."""

WIDTH = 32
"""Characters of the longest bar of a histogram."""

PAINTS = {"trained": ("\x1b[4;30;42m", "\x1b[0m"), "cut": ("\x1b[9;2m", "\x1b[0m"), "": ("", "")}
MARKS = {"trained": ("⟦", "⟧"), "cut": ("⟨cut: ", "⟩"), "": ("", "")}


def as_text(found: Preview, colour: bool = False) -> str:
    """The preview for a terminal: each sample's messages, its tokens apart at `│` with the trained ones green and underlined,
    or in `⟦ ⟧` without colour, then its ids; the numbers of each data set; the checks."""
    lines = [f"format {found.format}; an answer ends with {' or '.join(map(visible, found.stops))}"]
    lines += [f"note: {visible(note)}" for note in found.notes]
    for sample in found.samples:
        lines += ["", *sample_lines(sample, colour)]
    for one in found.sets:
        lines += ["", *set_lines(one)]
    if not found.sets:
        lines += ["", "there are no rows"]
    lines.append("")
    for check in found.checks:
        lines += check_lines(check, colour)
    return "\n".join(lines)


def sample_lines(sample: Sample, colour: bool) -> Iterator[str]:
    """One example: where it is from, its words, its tokens, their ids."""
    yield f"{visible(sample.origin)} ({visible(sample.data)}): {numbers(sample)}"
    if sample.tools:
        yield f"  tools: {visible(', '.join(sample.tools))}"
    for turn in sample.turns:
        yield from turn_lines(turn)
    for name, tokens in sides(sample):
        yield f"  --{name}"
        yield from painted(tokens, colour, on_lines, "│").replace("\\n│", "\\n│\n").replace("\n\n", "\n").split("\n")
    yield "ids " + painted(sample.tokens, colour, lambda t: " ".join(map(str, t.ids)), " ")


def sides(sample: Sample) -> list[tuple[str, Sequence[Token]]]:
    """What is shown under each heading: all tokens, or an encoder-decoder's source and target."""
    if sample.source is None:
        return [("", sample.tokens)]
    parts = [("source", sample.tokens[: sample.source]), ("target", sample.tokens[sample.source :])]
    return [(f" {name}, {count(sum(len(t.ids) for t in own if not t.cut), 'token')}", own) for name, own in parts]


def on_lines(token: Token) -> str:
    """A token's text; one that begins with a line break, and goes on, begins a line."""
    return ("\n" if token.text[:1] == "\n" and token.text.strip("\n") else "") + visible(token.text)


def numbers(sample: Sample) -> str:
    """How many tokens an example has, and what truncation did to it."""
    kept = [t for t in sample.tokens if not t.cut]
    said = [f"{sum(len(t.ids) for t in kept):,} tokens", f"{sum(len(t.ids) for t in kept if t.trained):,} trained"]
    if sample.cut:
        said.append(f"{sample.cut:,} cut out of the prompt")
    if sample.parts > 1:
        said.append(
            f"the example of answer {sample.part} of {sample.parts} (the format rewrites earlier turns, so each answer has its own)"
        )
    if sample.dropped:
        said.append(f"DROPPED, {visible(sample.dropped)}")
    return ", ".join(said)


def turn_lines(turn: Turn) -> Iterator[str]:
    """One message in words, its tool calls on lines of their own."""
    what = " ".join(part for part in (turn.name, f"(call {turn.call_id})" if turn.call_id else "") if part)
    said = {None: "", True: " (to be trained)", False: " (not to be trained)"}[turn.trained]
    if turn.text or not turn.calls:
        first, *more = clip(turn.text, WORDS).split("\n")
        yield f"  {visible(turn.role)}{f' {visible(what)}' if what else ''}{said}: {visible(first)}"
        yield from (f"    {visible(line)}".rstrip() for line in more)
    for call in turn.calls:
        yield f"  {visible(turn.role)}{said} calls {visible(clip(call, WORDS))}"


def set_lines(one: DataSet) -> Iterator[str]:
    """The numbers of one data set."""
    yield (
        f"{visible(one.name)}: {count(one.rows, 'row')}, {count(one.examples, 'example')}, {count(one.tokens, 'token')}, "
        f"{one.trained:,} trained ({one.share:.1%})"
    )
    if one.roles:
        width = max(len(visible(role.name)) for role in one.roles)
        size = max(len(f"{role.tokens:,}") for role in one.roles)
        for role in one.roles:
            yield f"  {visible(role.name):{width}}  {role.tokens:>{size},} tokens, {role.trained:>{size},} trained ({role.share:.1%})"
    if one.lengths:
        yield "  tokens an example: " + ", ".join(f"{name} {n:,}" for name, n in zip(quantile_names(), one.lengths, strict=True))
        yield from histogram_lines(one.histogram)
    yield (
        f"  {one.truncated:,} cut{f' ({one.cut:,} tokens taken)' if one.cut else ''}, {one.untrained:,} without a trained token, "
        f"{count(one.unknown, 'unknown token')}"
    )
    if one.excused or one.calls:
        yield f"  {count(one.excused, 'answer')} not to be trained, {count(one.calls, 'tool call')}"
    for reason, n in one.dropped:
        yield f"  {n:,} dropped: {visible(reason)}"


def histogram_lines(bars: Sequence[tuple[int, int, int]]) -> Iterator[str]:
    """A histogram as rows of blocks; a bar of something is never of nothing."""
    most = max((n for _, _, n in bars), default=0)
    names = [f"{low:,}" if below == low + 1 else f"{low:,} to {below - 1:,}" for low, below, _ in bars]
    for name, (_, _, n) in zip(names, bars, strict=True):
        yield f"    {name:>{max(map(len, names))}} {'█' * max(round(WIDTH * n / most), n > 0)}{' ' if n else ''}{n:,}"


def quantile_names() -> Iterable[str]:
    """The QUANTILES in words."""
    named = {0.0: "shortest", 0.5: "median", 1.0: "longest"}
    return [named.get(q, f"{q:.0%}") for q in QUANTILES]


def check_lines(check: Check, colour: bool) -> Iterator[str]:
    """One check, and the first rows that broke it."""
    start, end = ("\x1b[31m", "\x1b[0m") if colour and check.broken else ("", "")
    broken = f": broken by {count(check.broken, 'row')}" if check.broken else ""
    yield f"{start}{'NO' if check.broken else 'ok'}  {check.name}{broken}{end}"
    for example in check.examples:
        yield f"{start}      {visible(example)}{end}"
    if check.broken > len(check.examples):
        yield f"{start}      and {check.broken - len(check.examples):,} more{end}"


def state(token: Token) -> str:
    """What becomes of a token: `trained`, `cut`, or "" where the model only reads it."""
    return "cut" if token.cut else "trained" if token.trained else ""


def painted(shown: Sequence[Token], colour: bool, word: Callable[[Token], str], border: str) -> str:
    """The tokens' words between borders, runs of trained or cut ones coloured or bracketed, the middle of long runs left out."""
    runs = []
    for kind, run in groupby(shown, key=state):
        start, end = (PAINTS if colour else MARKS)[kind]
        runs.append(f"{start}{border.join(shortened([word(token) for token in run], RUN))}{end}")
    return border.join(runs)


def shortened(words: list[str], most: int) -> list[str]:
    """A list of words, the middle of a long one as a word that counts it."""
    left = len(words) - most
    return words if left <= 0 else [*words[: most // 2], f" … {left:,} more tokens … ", *words[len(words) - most // 2 :]]


def clip(text: str, most: int) -> str:
    """The text, cut after `most` characters with the number of those left out."""
    return text if len(text) <= most else f"{text[:most]} … {len(text) - most:,} more characters"


def count(n: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def visible(text: str) -> str:
    """The text with every character that does not print (control, bidirectional, surrogate) escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
