"""A study's report.html, report.md and results.json.

As in a run's report, names and reasons reach the page only through the template engine's automatic escaping and through `visible`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from etude import journal
from etude.comparison import Comparison
from etude.reporting import study_charts, study_curves, study_words
from etude.reporting.page import WHOLE, environment, flat
from etude.reporting.studied import Studied, results
from etude.reporting.study_markdown import markdown, others, plan, remarks


def write(found: Studied, folder: Path) -> None:
    """Write the three files into the study's folder; equal findings give equal bytes.

    Each file appears whole or not at all. Raises NoSpace when the disk is full or read-only.
    """
    html, text = page(found), markdown(found)
    journal.write_json(folder / "results.json", writable(results(found)))
    journal.write_text(folder / "report.md", text)
    journal.write_text(folder / "report.html", html)


def writable(value: Any) -> Any:
    """Plain data whose texts UTF-8 can hold: halves of surrogate pairs become question marks."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {writable(key): writable(one) for key, one in value.items()}
    return [writable(one) for one in value] if isinstance(value, list | tuple) else value


@lru_cache(maxsize=1)
def engine() -> Any:
    """The template engine with what this page needs."""
    made = environment()
    made.globals.update(study=study_words, studied=study_charts)
    return made


def page(found: Studied) -> str:
    """The whole HTML page as text."""
    primary: dict[str, Comparison] = {arm.name: arm.against[found.metric] for arm in found.arms if found.metric in arm.against}
    rows = study_curves.ordered(found)
    return str(
        engine()
        .get_template("study.html")
        .render(
            found=found,
            sentence=WHOLE.sub(lambda part: part[0].replace(" ", "\u00a0"), study_words.sentence(found)),
            primary=primary,
            leading=next((kind for kind in ("better", "worse") if kind in map(study_words.kind, primary.values())), "none"),
            half=study_charts.reach(found),
            dots=study_charts.dots(found),
            costs=study_charts.costs(found),
            alike=study_charts.alike(found),
            curves=study_curves.curves(found),
            growth=study_curves.growth(found),
            rows=rows,
            others=others(found),
            probes=list(dict.fromkeys(probe for arm in found.arms for probe in arm.cost.forgetting)),
            lacking=[arm for arm in found.arms if arm.failed],
            remarks=remarks(found),
            plan=plan(found),
            paragraph=study_words.paragraph(found),
            manifest=list(flat(found.manifest)),
        )
    )
