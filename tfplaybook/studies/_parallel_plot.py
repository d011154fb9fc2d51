"""Parallel coordinates: every trial as a line through all hyperparameters and its objective."""

import dataclasses
import itertools
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tfplaybook.studies._clipping import is_beyond, shown_range
from tfplaybook.studies._format import format_value, in_two_lines, shorten
from tfplaybook.studies._records import Objective, Status, Study, Trial
from tfplaybook.studies._style import BAD, DARK, EDGE, MARKED, RANKED, on_axes, say, say_nothing
from tfplaybook.studies._units import UnitAxis, unit_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Where trials end that have no objective, or one that is too bad for the axis.
_OFF_AXIS = 0.07
_AGREEMENT_FRACTION = 0.25


@dataclasses.dataclass(frozen=True)
class ParallelLine:
    """One trial in parallel coordinates.

    Args:
        trial_id: Identifier of the trial.
        status: Its status.
        rank: Place among the completed trials, 1 for the best; None for others.
        places: Where it crosses each axis, as a fraction of the axis; None where it has no value.
        end: Where it ends on the axis of the objective: below 0 or above 1 off its bad end.
    """

    trial_id: str
    status: Status
    rank: int | None
    places: tuple[float | None, ...]
    end: float


@dataclasses.dataclass(frozen=True)
class ParallelRecord:
    """What parallel coordinates show.

    Args:
        axes: The axes of the varied hyperparameters, in declared order.
        objective: The objective, on the last axis.
        y_range: Best and worst objective on that axis; None without a completed trial.
        lines: The trials that have ended, in the order of their ids.
    """

    axes: tuple[UnitAxis, ...]
    objective: Objective
    y_range: tuple[float, float] | None
    lines: tuple[ParallelLine, ...]

    def finding(self) -> str:
        """Say on which axes the best three are within a quarter of the range."""
        best = [line for line in self.lines if line.rank is not None and line.rank <= 3]
        if not best:
            return "no completed trial"
        if len(best) < 3:
            return f"{len(best)} completed trial{'' if len(best) == 1 else 's'}"
        agreed = []
        for index, axis in enumerate(self.axes):
            places = [p for line in best if (p := line.places[index]) is not None]
            spread = max(places, default=1.0) - min(places, default=0.0)
            if len(places) == 3 and spread <= _AGREEMENT_FRACTION:
                agreed.append(f"{shorten(axis.name, 24)} ({spread:.0%})")
        if agreed:
            return f"best 3 within a quarter of the range in {', '.join(agreed)}"
        return "best 3 are apart by more than a quarter of the range in every hyperparameter"


def parallel_record(study: Study) -> ParallelRecord:
    """Return what the parallel coordinates of the study's varied hyperparameters show."""
    axes = tuple(unit_axis(study, h.name) for h in study.varied)
    limit, y_range = shown_range(study)
    ranks = {trial.trial_id: rank for rank, trial in enumerate(study.ranked(), start=1)}
    return ParallelRecord(
        axes=axes,
        objective=study.objective,
        y_range=y_range,
        lines=tuple(
            ParallelLine(
                trial_id=trial.trial_id,
                status=trial.status,
                rank=ranks.get(trial.trial_id),
                places=tuple(axis.place(trial.values.get(axis.name)) for axis in axes),
                end=_end(trial, limit, y_range, study.objective),
            )
            for trial in study.trials
            if trial.status != "running"
        ),
    )


def plot_parallel(study: Study, *, ax: "Axes | None" = None) -> "Axes":
    """Plot every trial as a line through the varied hyperparameters to its objective.

    Each axis is on the scale of its sampling. The best three trials are coloured as in the other
    pictures, the others are the darker the better they are, and trials without an objective are
    dashed red lines that end off the bad end of the last axis. Where a trial does not have a
    hyperparameter, its line has no mark and goes on thin and dotted to the next that it has (C4).

    Args:
        study: The study.
        ax: Axes to draw on. Default: those of a new figure with a legend.
    """
    record = parallel_record(study)
    width = min(max(1.25 * (len(record.axes) + 1) + 1.0, 5.0), 14.0)
    return on_axes(partial(draw_parallel, record), ax, study, inches=(width, 4.2), columns=5)


def draw_parallel(record: ParallelRecord, ax: "Axes") -> "Axes":
    """Draw the record on `ax`, with labels that `ax.legend()` shows, and return `ax`."""
    ax.spines[:].set_visible(False)
    ax.set_yticks([])
    band = 1.5 * _OFF_AXIS
    ax.set_ylim(*((-0.03, 1.0 + band) if record.objective.direction == "min" else (-band, 1.03)))
    say(ax, record.finding())
    last = len(record.axes)
    ax.set_xlim(-0.15, last + 0.35)
    names = [in_two_lines(axis.name, 22) for axis in record.axes]
    ax.set_xticks(range(last + 1), [*names, shorten(record.objective.name, 22)], fontsize=8)
    ax.tick_params(axis="x", length=0)
    if max((len(line) for name in names for line in name.splitlines()), default=0) > 14:
        for label in ax.get_xticklabels():
            label.set(rotation=20, horizontalalignment="right", rotation_mode="anchor")
    if not record.lines:
        say_nothing(ax, "no trial has ended")
    for line in sorted(record.lines, key=lambda line: line.rank or math.inf):
        _draw_line(line, len(record.lines), ax)
    for index, axis in enumerate(record.axes):
        _draw_axis(index, axis.ticks(), ax)
    if record.y_range is not None:
        _draw_axis(last, _objective_ticks(record.y_range), ax)
    return ax


def _draw_line(line: ParallelLine, count: int, ax: "Axes") -> None:
    xs = range(len(line.places) + 1)
    ys = [math.nan if p is None else p for p in (*line.places, line.end)]
    crowd = min(30 / count, 1.0)
    style: dict[str, Any] = {"lw": 0.9, "solid_capstyle": "round"}
    if line.rank is None:
        label = "infeasible" if line.status == "infeasible" else "failed"
        style |= {"color": BAD, "alpha": 0.15 + 0.4 * crowd, "ls": (0, (3, 2)), "label": label}
        ax.plot(xs[-1:], ys[-1:], "x", color=BAD, ms=5, mew=1.5)
    elif line.rank <= len(MARKED):
        label = f"{MARKED[line.rank - 1]}: trial {line.trial_id}"
        style |= {"color": RANKED[line.rank - 1], "lw": 2.2, "label": label}
        style["zorder"] = 4 - 0.1 * line.rank
    else:
        goodness = 1.0 - line.rank / count
        alpha = (0.1 + 0.65 * goodness) * (0.25 + 0.75 * crowd)
        style |= {"color": DARK, "alpha": alpha, "label": "completed"}
    ax.plot(xs, ys, **style)
    has_value = [x for x, y in zip(xs, ys, strict=True) if not math.isnan(y)]
    bridge = {**style, "lw": style["lw"] / 2, "ls": (0, (1, 2)), "label": None}
    for start, end in itertools.pairwise(has_value):
        if end > start + 1:
            ax.plot([start, end], [ys[start], ys[end]], **bridge)


def _draw_axis(index: int, ticks: list[tuple[float, str]], ax: "Axes") -> None:
    ax.plot([index, index], [0.0, 1.0], color=EDGE, lw=1.2, zorder=1.8)
    for place, label in ticks:
        ax.plot([index, index + 0.03], [place, place], color=DARK, lw=0.8, zorder=5)
        ax.text(
            index + 0.05,
            place,
            label,
            fontsize=7,
            va="center",
            zorder=6,
            bbox={"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 0.6},
        )


def _objective_ticks(y_range: tuple[float, float]) -> list[tuple[float, str]]:
    low, high = sorted(y_range)
    return UnitAxis("", "linear", (low, high)).ticks() if low < high else [(0.5, format_value(low))]


def _end(
    trial: Trial,
    limit: float | None,
    y_range: tuple[float, float] | None,
    objective: Objective,
) -> float:
    off = 1.0 + _OFF_AXIS if objective.direction == "min" else -_OFF_AXIS
    if trial.status != "completed" or trial.objective is None or y_range is None:
        return off
    if is_beyond(trial.objective, limit, objective):
        return off
    low, high = sorted(y_range)
    return float(np.interp(trial.objective, (low, high), (0.0, 1.0))) if low < high else 0.5
