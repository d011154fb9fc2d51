"""The basic hyperparameter axis plot: the objective of every trial against one hyperparameter."""

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from tfplaybook.studies._clipping import is_beyond, shown_range
from tfplaybook.studies._format import format_value, shorten
from tfplaybook.studies._records import Objective, Study, Trial, Value
from tfplaybook.studies._refine import Refinement
from tfplaybook.studies._scales import Scale, set_x_axis
from tfplaybook.studies._style import (
    BAD,
    MARKED,
    OTHER,
    RANKED,
    ObjectiveAxis,
    clean,
    on_axes,
    say,
    say_nothing,
)
from tfplaybook.studies._units import UnitAxis, has_place, unit_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CATEGORY_WIDTH = 0.6


@dataclasses.dataclass(frozen=True)
class AxisPoint:
    """One trial in an axis plot.

    Args:
        trial_id: Identifier of the trial.
        x: Value of the hyperparameter; on a categorical axis the index of its category plus an
            offset that keeps the trials of one category apart.
        y: The objective, None unless the trial is completed.
        rank: Place among the completed trials of the study, 1 for the best; None for others.
        place: `"inside"` the range that is shown in full, `"beyond"` its bad end, or
            `"infeasible"` or `"failed"` for a trial without an objective.
    """

    trial_id: str
    x: float
    y: float | None
    rank: int | None
    place: Literal["inside", "beyond", "infeasible", "failed"]


@dataclasses.dataclass(frozen=True)
class AxisPlotRecord:
    """What an axis plot shows (E1).

    Args:
        name: Name of the hyperparameter.
        objective: The objective on the y axis.
        scale: Scale of the x axis, the one in which the hyperparameter was sampled.
        x_range: Ends of the searched range, widened to trials outside it; for `"categorical"`
            half a category beyond the first and last.
        bounds: Ends of the searched range; None if they are not known, or for categories.
        y_range: Best and worst objective of the study inside the picture; None without one.
        points: All trials that have the hyperparameter and an outcome, in the order of their ids.
        categories: Values on a categorical axis, from left to right.
        left_out: Ids of the trials whose value has no place on the axis, such as 0 on a log scale.
        box: Parts of the x axis in the box of a `Refinement`; empty if none was given.
    """

    name: str
    objective: Objective
    scale: Scale
    x_range: tuple[float, float]
    bounds: tuple[float, float] | None
    y_range: tuple[float, float] | None
    points: tuple[AxisPoint, ...]
    categories: tuple[Value, ...] = ()
    left_out: tuple[str, ...] = ()
    box: tuple[tuple[float, float], ...] = ()

    def finding(self) -> str:
        """Say where the best trials are, such as `"best 3 at 0.01 to 0.03, 50% to 62% of the ..."`.

        The percentages are those of the searched range on its scale: near 0% or 100% the best
        values may lie outside it (D1).
        """
        best = sorted(
            (point for point in self.points if point.rank is not None),
            key=lambda point: point.rank or 0,
        )[: len(MARKED)]
        if not best:
            return "no completed trial"
        which = "best" if len(best) == 1 else f"best {len(best)}"
        if best[-1].rank != len(best):
            which += " of those that have it"
        if self.scale == "categorical":
            names = [format_value(self.categories[round(point.x)]) for point in best]
            counts = {name: names.count(name) for name in dict.fromkeys(names)}
            parts = [name if n == len(best) else f"{name} ({n})" for name, n in counts.items()]
            return f"{which} at {', '.join(shorten(part, 24) for part in parts)}"
        low, high = min(point.x for point in best), max(point.x for point in best)
        where = f"{which} at {_span(format_value(low), format_value(high))}"
        if self.bounds is None or self.bounds[0] == self.bounds[1]:
            return where
        axis = UnitAxis(self.name, self.scale, self.bounds)
        first, last = axis.place(low), axis.place(high)
        if first is None or last is None:
            return where
        return f"{where}, {_span(f'{first:.0%}', f'{last:.0%}')} of the range"


def axis_plot_record(
    study: Study, name: str, *, refinement: Refinement | None = None
) -> AxisPlotRecord:
    """Return what the axis plot of hyperparameter `name` shows (E1).

    Running trials and trials in which the hyperparameter does not exist are not in it. Those whose
    value has no place on the axis (text, or 0 on a log scale) are `left_out`. Completed trials
    that are worse than `best + 3 (median - best)` of the objective are `"beyond"`.

    Raises:
        ValueError: If the study's space has no such hyperparameter.
    """
    axis = unit_axis(study, name)
    ended = [t for t in study.trials if name in t.values and t.status != "running"]
    trials = [t for t in ended if has_place(t.values[name], axis.scale)]
    shown = {t.trial_id for t in trials}
    values: list[Any] = [t.values[name] for t in trials]
    if axis.scale == "categorical":
        xs = spread([axis.categories.index(value) for value in values])
        x_range = (-0.5, max(len(axis.categories), 1) - 0.5)
    else:
        xs = [float(value) for value in values]
        x_range = axis.range

    limit, y_range = shown_range(study)
    ranks = {trial.trial_id: rank for rank, trial in enumerate(study.ranked(), start=1)}
    points = tuple(
        _point(trial, x, ranks.get(trial.trial_id), limit, study.objective)
        for trial, x in zip(trials, xs, strict=True)
    )
    return AxisPlotRecord(
        name=name,
        objective=study.objective,
        scale=axis.scale,
        x_range=x_range,
        bounds=axis.bounds,
        y_range=y_range,
        points=points,
        categories=axis.categories,
        left_out=tuple(t.trial_id for t in ended if t.trial_id not in shown),
        box=() if refinement is None else _box(refinement.box(name), axis),
    )


def plot_axis(
    study: Study,
    name: str,
    *,
    refinement: Refinement | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Plot the objective of every trial against hyperparameter `name` (E1).

    The best three trials are coloured, as in `plot_curves`. Infeasible and failed trials are red
    crosses at the bad end of the axis, the top if lower is better (D3); next to them triangles
    stand for completed trials too bad for the axis. Dotted lines are the ends of the searched
    range, if they are known: a best trial near one of them asks for a wider range (D1). The title
    says where the best three are in the range, and counts the trials whose value has no place on
    the axis.

    Args:
        study: The study.
        name: Name of a hyperparameter of its space.
        refinement: What `study.refine()` returned, whose box is shaded.
        ax: Axes to draw on. Default: those of a new figure with a legend; save it with
            `ax.figure.savefig("axis.png")`.

    Raises:
        ValueError: If the study's space has no such hyperparameter.
    """
    record = axis_plot_record(study, name, refinement=refinement)
    return on_axes(partial(draw_axis_plot, record), ax, study, inches=(5.0, 3.9))


def draw_axis_plot(record: AxisPlotRecord, ax: "Axes") -> "Axes":
    """Draw the record on `ax`, with labels that `ax.legend()` shows, and return `ax`."""
    clean(ax)
    set_x_axis(ax, record.name, record.scale, record.x_range, record.categories, record.bounds)
    ax.set_ylabel(shorten(record.objective.name, 30), fontsize=9)
    count = len(record.left_out)
    left_out = f"{count} trial{'' if count == 1 else 's'} off this scale left out" if count else ""
    say(ax, record.finding(), left_out)
    places = {point.place for point in record.points}
    is_bad = bool(places & {"infeasible", "failed"})
    frame = ObjectiveAxis(
        *(record.y_range or (0.0, 0.0)), int("beyond" in places) + int(is_bad), record.objective
    )
    frame.apply(ax)
    for first, last in record.box:
        ax.axvspan(first, last, color=OTHER, alpha=0.12, lw=0, zorder=0)
    if record.y_range is None:
        say_nothing(ax, "no completed trial", has_x=True)

    def at_edge(place: str, row: int, **style: Any) -> None:
        xs = [point.x for point in record.points if point.place == place]
        if xs:
            ys = [frame.row(row)] * len(xs)
            ax.plot(xs, ys, ls="", transform=ax.get_xaxis_transform(), clip_on=False, **style)

    inside = [
        (p.rank, p.x, p.y)
        for p in record.points
        if p.place == "inside" and p.rank is not None and p.y is not None
    ]
    others = [(x, y) for rank, x, y in inside if rank > len(MARKED)]
    if others:
        xs, ys = zip(*others, strict=True)
        size = 4.5 if len(others) < 60 else 3.5
        ax.plot(
            xs, ys, ls="", marker="o", ms=size, mew=0, color=OTHER, alpha=0.75, label="completed"
        )
    ids = {point.rank: point.trial_id for point in record.points}
    for rank, x, y in sorted(entry for entry in inside if entry[0] <= len(MARKED)):
        ax.plot(
            [x],
            [y],
            ls="",
            marker="*" if rank == 1 else "o",
            ms=12 if rank == 1 else 7,
            mec="white",
            mew=0.8,
            color=RANKED[rank - 1],
            zorder=5 - 0.1 * rank,
            label=f"{MARKED[rank - 1]}: trial {ids[rank]}",
        )
    away = "^" if record.objective.direction == "min" else "v"
    at_edge("beyond", 0, marker=away, ms=5, mew=0, color=OTHER, label="worse than the axis shows")
    last = frame.rows - 1
    at_edge("infeasible", last, marker="x", ms=5.5, mew=1.5, color=BAD, label="infeasible")
    at_edge("failed", last, marker="+", ms=7, mew=1.5, color=BAD, label="failed")
    return ax


def _box(box: tuple[Value, ...], axis: UnitAxis) -> tuple[tuple[float, float], ...]:
    if axis.scale != "categorical":
        low, high = (float(end) for end in box)
        return ((low, high),)
    indices = [axis.categories.index(value) for value in box]
    return tuple((index - 0.5, index + 0.5) for index in indices)


def spread(indices: list[int]) -> list[float]:
    """Offset equal indices evenly around their integer, without randomness."""
    seen: dict[int, int] = {}
    positions = []
    for index in indices:
        count = indices.count(index)
        gap = min(0.12, _CATEGORY_WIDTH / max(count - 1, 1))
        positions.append(index + gap * (seen.get(index, 0) - (count - 1) / 2))
        seen[index] = seen.get(index, 0) + 1
    return positions


def _span(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _point(
    trial: Trial, x: float, rank: int | None, limit: float | None, objective: Objective
) -> AxisPoint:
    if trial.status == "completed" and trial.objective is not None:
        place: Any = "beyond" if is_beyond(trial.objective, limit, objective) else "inside"
        return AxisPoint(trial.trial_id, x, trial.objective, rank, place)
    place = "failed" if trial.status == "failed" else "infeasible"
    return AxisPoint(trial.trial_id, x, None, None, place)
