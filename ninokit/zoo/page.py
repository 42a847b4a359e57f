"""Cards as Markdown: for the command line, for the hub, and for docs/zoo.md.

``python -m ninokit.zoo.page docs/zoo.md`` writes the page anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ninokit.zoo.card import Card, Measurement, SavedSteps, TaskSaving, TrainingRun, TrainingTask, WeightsFile

if TYPE_CHECKING:
    from ninokit.benchmarks.summary import Row

__all__ = ["render_card", "render_page", "short_savings"]

_UNKNOWN = "not known"
_INTRODUCTION = """\
# The zoo

Pretrained nowcasters by name, for `ninokit.attach(optimizer, model, "NAME", …)`, `ninokit.zoo.load("NAME")` and
`ninokit evaluate NAME`. This page is written by `python -m ninokit.zoo.page docs/zoo.md` from the cards in
[`zoo/`](../zoo); [its README](../zoo/README.md) says how to add one.

What was measured is in the tables. A task that is in no table was not measured. [How ninokit
measures](evaluation.md) says what the savings mean, and why those of the older protocol are no fair comparison.
"""
_SAVINGS = "Steps saved against rivals tuned alike"
_READING = """\
Saved is the share of the rival's steps to the loss that nowcasting ends with, at averaged weights (or at the trained
ones, where these validated better). The rival is the best arm without nowcasting. In brackets is the interval of 95 %
over the seeds; one that holds 0 is no claim. `≥` stands where the rival did not get there in twice the steps, `≤` where
it was there from the start. A task is `in` if the nowcaster was trained on it."""
_MEASUREMENTS = "First crossings, one untuned rate, trained weights: an older protocol, see docs/evaluation.md"


def render_page(cards: Sequence[Card]) -> str:
    """The page of a zoo.

    Args:
        cards: in the order of the page.

    Returns:
        Markdown.
    """
    rows = [(f"`{c.name}`", f"`{c.family}`", _size(c.weights), _kept(c.weights), c.description) for c in cards]
    overview = _table(("name", "family", "size", "weights", "what"), rows)
    return "\n".join([_INTRODUCTION, overview, "", *(render_card(card, "##") for card in cards)])


def render_card(card: Card, heading: str = "#") -> str:
    """A card for people.

    Args:
        card: any.
        heading: of its title.

    Returns:
        Markdown.
    """
    positions = "none" if card.positions is None else f"{card.positions} Laplacian vectors"
    arguments = ", ".join(f"{name}={value!r}" for name, value in card.arguments.items())
    facts = [
        ("family", f"`{card.family}({arguments})`"),
        ("looks at", f"{card.context} past states, positions: {positions}"),
        ("predicts", f"up to {card.max_horizon} states ahead; made for periods of some {card.period} steps"),
        ("trained on", "; ".join(map(_task, card.trained_on))),
        ("trained by", _training(card.training)),
        ("licence", card.licence),
        ("weights", _weights(card.weights)),
        *(("reference", reference) for reference in card.references),
        *(("known to fail", failure) for failure in card.known_failures),
    ]
    parts = [f"{heading} {card.name}", card.description, _table(("", ""), facts)]
    if card.savings:
        parts += [f"{heading}# {_SAVINGS}", _READING, _savings(card.savings)]
    if card.measurements:
        parts += [f"{heading}# {_MEASUREMENTS}", *map(_measurement, card.measurements)]
    return "\n\n".join(parts) + "\n"


def short_savings(card: Card) -> list[str]:
    """What a nowcaster saved, in short.

    Args:
        card: any.

    Returns:
        Lines: one of the median of the savings; of a card without them, a line a measurement, with the saving of the
        only seed, or of the median with the range of the seeds in brackets.
    """
    from ninokit.benchmarks.summary import Saving, format_saving, median_saving

    if not card.savings:
        return [f"{row.task}: steps saved {_saved(row.rows)}" for row in card.measurements]
    saved = [Saving(row.against_rival.share, row.against_rival.bound) for row in card.savings]
    return [f"steps saved against the best rival: {format_saving(median_saving(saved))} (median of {len(saved)})"]


def _savings(rows: Sequence[TaskSaving]) -> str:
    header = ("task", "steps", "in or out", "rival", "saved", "against `adamw`", "seeds", "period", "rate", "on")
    return _table(header, map(_saving, rows))


def _saving(row: TaskSaving) -> tuple[str, ...]:
    return (
        f"`{row.task}`",
        str(row.steps),
        row.distribution,
        f"`{row.rival}`",
        _interval(row.against_rival),
        _interval(row.against_adamw),
        str(row.seeds),
        str(row.period),
        f"{row.lr:g}",
        f"{row.hardware}; commit {_short(row.commit or _UNKNOWN)}",
    )


def _interval(saved: SavedSteps) -> str:
    from ninokit.benchmarks.evaluation.report import format_saved
    from ninokit.benchmarks.evaluation.savings import StepsSaved

    return format_saved(StepsSaved(saved.share, saved.low, saved.high, saved.bound, seeds=()))


def _saved(rows: Sequence[Row]) -> str:
    from ninokit.benchmarks.summary import format_saving

    if len(rows) == 1:
        return format_saving(rows[0].steps_saved)
    seeds = ", ".join(format_saving(row.steps_saved) for row in rows[:-1])
    return f"{format_saving(rows[-1].steps_saved)} (seeds: {seeds})"


def _measurement(measurement: Measurement) -> str:
    from ninokit.benchmarks.summary import format_table

    known = "in" if measurement.distribution == "in" else "outside"
    title = (
        f"`{measurement.task}` ({known} the training distribution), to a {measurement.metric} of "
        f"{measurement.target:g}; {measurement.baseline}; a nowcast every {measurement.period} steps; "
        f"{measurement.hardware}; commit {_short(measurement.commit or _UNKNOWN)}:"
    )
    parts = [title, format_table(measurement.rows)]
    if others := measurement.seeds[0].others:
        saved = [(name, _saved(measurement.rows_of(name))) for name in others]
        parts.append(
            _table(("against the same baseline", "steps saved"), [("nowcasting", _saved(measurement.rows)), *saved])
        )
    return "\n\n".join([*parts, measurement.note] if measurement.note else parts)


def _short(commits: str) -> str:
    """Commits by their first digits, as git shows them."""
    return re.sub(r"\b([0-9a-f]{7})[0-9a-f]{33}\b", r"\1", commits)


def _task(task: TrainingTask) -> str:
    figures = [
        f"{number} {noun}"
        for number, noun in ((task.trajectories, "trajectories"), (task.steps, "steps each"))
        if number is not None
    ]
    return f"{task.task} ({', '.join(figures)})" if figures else task.task


def _training(training: TrainingRun) -> str:
    known = [
        training.command and f"`{training.command}`",
        training.recipe and f"recipe `{training.recipe}`",
        training.code,
        training.commit and f"commit {_short(training.commit)}",
        training.hardware,
        training.seconds and f"{training.seconds:.0f} s",
    ]
    return ", ".join(part for part in known if part) or _UNKNOWN


def _weights(weights: WeightsFile | None) -> str:
    if weights is None:
        return _UNKNOWN
    places = "".join(f", from {url}" for url in weights.urls)
    return f"`{weights.file}`, {weights.size} bytes, sha256 `{weights.sha256}`{places}"


def _kept(weights: WeightsFile | None) -> str:
    return "fetched at first use" if weights is not None and weights.urls else "shipped"


def _size(weights: WeightsFile | None) -> str:
    return _UNKNOWN if weights is None else f"{weights.size / 1000:.0f} kB"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _main() -> None:
    from ninokit.builtin.zoo import ninokit_zoo
    from ninokit.zoo.entry import Entry

    Path(sys.argv[1]).write_text(render_page([Entry.open(folder).card for folder in ninokit_zoo()]), encoding="utf-8")


if __name__ == "__main__":
    _main()
