"""The slice: two hyperparameters against each other, coloured by the objective."""

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tfplaybook.studies._clipping import is_beyond, shown_range
from tfplaybook.studies._format import format_value, shorten
from tfplaybook.studies._records import Objective, Study
from tfplaybook.studies._style import BAD, EDGE, MARKED, OTHER, RANKED, clean, on_axes, say
from tfplaybook.studies._units import UnitAxis, label_axis, unit_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = "cividis"


@dataclasses.dataclass(frozen=True)
class SlicePoint:
    """One trial in a slice.

    Args:
        trial_id: Identifier of the trial.
        x: Its value of the first hyperparameter, as a fraction of the axis.
        y: Its value of the second one.
        objective: The objective, None unless the trial is completed.
        rank: Place among the completed trials of the study, 1 for the best; None for others.
        place: As in `AxisPoint`.
    """

    trial_id: str
    x: float
    y: float
    objective: float | None
    rank: int | None
    place: Literal["inside", "beyond", "infeasible", "failed"]


@dataclasses.dataclass(frozen=True)
class SliceRecord:
    """What a slice shows.

    Args:
        x: The axis of the first hyperparameter.
        y: The axis of the second one.
        objective: The objective, which gives the colour.
        color_range: Best and worst objective among the colours; None without a completed trial.
        points: The trials that have ended and have both, in the order of their ids.
    """

    x: UnitAxis
    y: UnitAxis
    objective: Objective
    color_range: tuple[float, float] | None
    points: tuple[SlicePoint, ...]

    def finding(self) -> str:
        """Say where the best trial is, and how many trials have no objective."""
        if not self.points:
            return "no trial that has ended has both"
        lost = sum(point.place in ("infeasible", "failed") for point in self.points)
        losses = f"{lost} of {len(self.points)} without an objective"
        best = min(
            (point for point in self.points if point.rank is not None),
            key=lambda point: point.rank or 0,
            default=None,
        )
        if best is None:
            return losses
        at = ", ".join(
            f"{shorten(axis.name.partition(' (')[0], 20)} {_value(axis, place)}"
            for axis, place in ((self.x, best.x), (self.y, best.y))
        )
        return f"best at {at}" + (f"; {losses}" if lost else "")


def slice_record(study: Study, x: str, y: str) -> SliceRecord:
    """Return what the slice of hyperparameters `x` and `y` shows.

    Raises:
        ValueError: If the study's space has no such hyperparameter.
    """
    axes = unit_axis(study, x), unit_axis(study, y)
    limit, color_range = shown_range(study)
    ranks = {trial.trial_id: rank for rank, trial in enumerate(study.ranked(), start=1)}
    points = []
    for trial in study.trials:
        places = [axis.place(trial.values.get(axis.name)) for axis in axes]
        if trial.status == "running" or places[0] is None or places[1] is None:
            continue
        place: Any = "failed" if trial.status == "failed" else "infeasible"
        value = trial.objective if trial.status == "completed" else None
        if value is not None:
            place = "beyond" if is_beyond(value, limit, study.objective) else "inside"
        rank = ranks.get(trial.trial_id)
        points.append(SlicePoint(trial.trial_id, places[0], places[1], value, rank, place))
    return SliceRecord(*axes, study.objective, color_range, tuple(points))


def plot_slice(study: Study, x: str, y: str, *, ax: "Axes | None" = None) -> "Axes":
    """Plot two hyperparameters of every trial against each other, coloured by the objective.

    With the learning rate as `x` it shows how the best rate and the edge of the infeasible region
    move with `y` (C2, D4). Dark is good; trials too bad for the colours are hollow, infeasible and
    failed ones red crosses, and the best three ringed in their colours of the other pictures.
    Dotted lines are the ends of the searched ranges, if they are known.

    Args:
        study: The study.
        x: Name of the hyperparameter on the horizontal axis.
        y: Name of the one on the vertical axis.
        ax: Axes to draw on; the colour bar takes some of their room. Default: those of a new
            figure with a legend.

    Raises:
        ValueError: If the study's space has no such hyperparameter.
    """
    record = slice_record(study, x, y)
    return on_axes(partial(draw_slice, record), ax, study, inches=(5.4, 4.2))


def draw_slice(record: SliceRecord, ax: "Axes", *, color_bar: bool = True) -> "Axes":
    """Draw the record on `ax`, with labels that `ax.legend()` shows, and return `ax`."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    clean(ax)
    ax.grid(visible=False)
    label_axis(ax.xaxis, record.x)
    label_axis(ax.yaxis, record.y)
    say(ax, record.finding())

    low, high = sorted(record.color_range or (0.0, 0.0))
    norm = Normalize(low, high if high > low else low + 1.0)
    colors = _COLORS if record.objective.direction == "min" else f"{_COLORS}_r"
    mappable = ScalarMappable(norm, colors)

    def at(*places: str) -> list[SlicePoint]:
        return [point for point in record.points if point.place in places]

    def draw(points: list[SlicePoint], **style: Any) -> None:
        if points:
            style = {"ls": "", "clip_on": False, **style}
            ax.plot([p.x for p in points], [p.y for p in points], **style)

    inside = at("inside")
    # The best are drawn last, on top.
    for point in sorted(inside, key=lambda p: -(p.rank or 0)):
        color = mappable.to_rgba(np.array([point.objective]))[0]
        draw([point], marker="o", ms=6, mfc=color, mec="#5a616b", mew=0.4)
    draw(
        at("beyond"),
        marker="o",
        ms=5,
        mfc="none",
        mec=OTHER,
        mew=1.0,
        label="worse than the colours",
    )
    draw(at("infeasible"), marker="x", ms=5.5, mew=1.5, color=BAD, label="infeasible")
    draw(at("failed"), marker="+", ms=7, mew=1.5, color=BAD, label="failed")
    for point in sorted(inside, key=lambda p: p.rank or 0)[: len(MARKED)]:
        rank = point.rank or 0
        if rank <= len(MARKED):
            label = f"{MARKED[rank - 1]}: trial {point.trial_id}"
            ring = {"mec": RANKED[rank - 1], "mew": 2.2, "mfc": "none", "label": label}
            draw([point], marker="o", ms=11, zorder=4, **ring)
    if color_bar and low < high:
        bar = ax.figure.colorbar(mappable, ax=ax, pad=0.02, aspect=25)
        bar.set_label(shorten(record.objective.name, 30), fontsize=8)
        bar.ax.tick_params(labelsize=7, color=EDGE)
        bar.outline.set_visible(False)
    return ax


def _value(axis: UnitAxis, place: float) -> str:
    if axis.categories:
        return shorten(format_value(axis.categories[round(place * (len(axis.categories) - 1))]), 14)
    return f"{axis.value(place):.3g}"
