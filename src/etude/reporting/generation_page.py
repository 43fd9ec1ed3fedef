"""The page of `etude generate`: generation.html, one file without a script, and the same as generation.md.

As in the report, what rows and models say reaches the page only through the template engine's automatic escaping and `visible`.
"""

from __future__ import annotations

from pathlib import Path

from etude import journal
from etude.reporting import generated_charts as growth
from etude.reporting import words
from etude.reporting.generated import Generated, Generation, Levels, Tree
from etude.reporting.markdown import fence, inline, table
from etude.reporting.page import environment


def write(found: Generation, folder: Path) -> None:
    """Write generation.html and generation.md into `folder`; equal findings give equal bytes.

    Each file appears whole or not at all. Raises NoSpace when the disk is full or read-only.
    """
    html, text = page(found), markdown(found)
    journal.write_text(folder / "generation.md", text)
    journal.write_text(folder / "generation.html", html)


def page(found: Generation) -> str:
    """The whole HTML page as text."""
    return str(environment().get_template("generation.html").render(g=found, spent=growth.spent(found)))


def markdown(found: Generation) -> str:
    """The same as text, for a pull request or a terminal."""
    blocks = [f"# Made data: {inline(found.name)}", *tables(found)]
    for one in found.strategies:
        blocks += examples(one)
    return "\n\n".join(blocks) + "\n"


def tables(found: Generation) -> list[str]:
    """The numbers of every strategy, as the report has them too."""
    blocks = [block for one in found.strategies for block in strategy(one)]
    if found.llms:
        head = ["LLM", "Model", "Asked by", ">Requests", ">Tokens in", ">Tokens out", ">Cost"]
        rows = [
            [
                inline(one.name),
                inline(words.clip(one.model, 80)),
                inline(", ".join(one.used_by)),
                *(words.count(n) for n in (one.requests, one.input, one.output)),
                f"{one.cost:.4f} {inline(one.currency)}".strip() if one.cost is not None else "unknown" if one.requests else words.MISSING,
            ]
            for one in found.llms
        ]
        blocks += ["### LLMs", table(head, rows)]
    return blocks


def strategy(one: Generated) -> list[str]:
    """One strategy: what became of it, rules, novelty, operations, lineage, levels."""
    blocks = [f"### {inline(one.name)} ({inline(one.strategy)})", inline(growth.sentence(one))]
    before = f", {one.from_journal:,} of them from before" if one.from_journal else ""
    blocks.append(f"{one.asked + one.from_journal:,} replies{before}; {one.tokens:,} tokens in {'the new ones' if before else 'them'}.")
    tried = one.made + one.lost
    if one.refused:
        rows = [[inline(words.clip(rule, 80)), f"{n:,}", words.share(n, tried)] for rule, n, *_ in growth.rules(one)]
        blocks.append(table(["Rule", ">Refused", ">Share of all"], rows))
    like = growth.mean_likeness(one.stretches)
    if like is not None:
        known = [s for s in one.stretches if s.similarity is not None]
        some = known[:: max(1, -(-len(known) // 8))]
        blocks.append(f"Likeness of new instructions to the nearest seed or earlier one (ROUGE-L): {words.number(like)} in the mean.")
        rows = [[f"{s.start + 1:,}", f"{s.compared:,}", words.number(s.similarity)] for s in some]
        blocks.append(table(["From outcome", ">Compared", ">ROUGE-L"], rows))
    if one.grown:
        numbers = growth.rounds_of(one)[:20]
        head = ["Operation", *(f">Round {number:,}" for number in numbers), ">Made", ">Refused"]
        rows = [
            [
                inline(words.clip(name.replace("_", " "), 60)),
                *(f"{both[0]:,} of {sum(both):,}" if both else words.MISSING for both in cells[:20]),
                f"{made:,}",
                f"{refused:,}",
            ]
            for name, cells, made, refused, _ in growth.by_operation(one)[:40]
        ]
        blocks.append(table(head, rows))
        blocks += [outline(tree) for tree in one.grown.trees[:2]]
    if one.levels:
        blocks.append(leveled(one.levels))
    return blocks


def outline(tree: Tree) -> str:
    """A tree as a nested list."""
    lines = []
    for twig in tree.twigs:
        step = "  " * growth.inset(twig)
        about = f"round {twig.round:,}, {inline(twig.operation.replace('_', ' '))}: " if twig.of >= 0 else ""
        more = f" (and {twig.more:,} more rows made of it)" if twig.more else ""
        lines.append(f"{step}- {about}{inline(words.name(twig.text or f'row {twig.id}', 200))}{more}")
        lines += [
            f"{step}  - × round {number:,}, {inline(operation.replace('_', ' '))}: {inline(words.name(rule, 60))}"
            for number, operation, rule, _ in twig.lost
        ]
    return "\n".join(lines)


def leveled(levels: Levels) -> str:
    """Tokens an answer by level of reasoning, as a table."""
    head = ["Level", ">Rows", ">Mean tokens an answer", ">Median", ">Longest"]
    return table(head, [[inline(level), *cells] for level, *cells, _ in growth.level_lines(levels)])


def examples(one: Generated) -> list[str]:
    """A made row or two, and the first text of each rule."""
    blocks = []
    for row in one.examples[:2]:
        about = ", ".join(part for part in (inline(words.name(row.how, 200)), inline(words.name(row.origin))) if part)
        asked = row.text + (f"\n\n{row.context}" if row.context else "")
        blocks.append(f"**Made by {inline(one.name)}**, outcome {row.number + 1:,}{f' ({about})' if about else ''}")
        blocks += [fence(words.clip(asked, 600)), fence(words.clip(row.answer, 600))]
    for rule, total, some in growth.refused_by_rule(one):
        first = some[0]
        near = f"; nearest: {inline(words.name(first.nearest, 200))}" if first.nearest else ""
        blocks.append(f"**{inline(words.name(rule, 80))}**, {total:,} refused by {inline(one.name)}{near}")
        blocks.append(fence(words.clip(first.text, 400)))
    return blocks
