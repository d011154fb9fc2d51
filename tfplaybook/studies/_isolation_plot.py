"""The isolation plot: the best trial at each value of one hyperparameter."""

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tfplaybook._arguments import check_count
from tfplaybook.studies._clipping import is_beyond, shown_range
from tfplaybook.studies._format import format_value, shorten
from tfplaybook.studies._records import Hyperparameter, Objective, Study, Trial, Value
from tfplaybook.studies._style import (
    BAD,
    DARK,
    OTHER,
    RANKED,
    ObjectiveAxis,
    clean,
    on_axes,
    say,
    say_nothing,
)
from tfplaybook.studies._units import UnitAxis, label_axis, unit_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BUCKETS = 5
# With more values than this a picture of single values is hard to read.
_MOST_VALUES = 12
_FILL_FRACTION = 0.7
_GAP = 0.005


@dataclasses.dataclass(frozen=True)
class IsolationBucket:
    """The trials at one value of a hyperparameter, or in one part of its range.

    Args:
        low: Where it begins, as a fraction of the axis.
        high: Where it ends; equal to `low` for a single value.
        values: The value, or the ends of the part.
        completed: Number of completed trials in it.
        infeasible: Number of infeasible and failed trials in it.
        best: The best objective; None without a completed trial.
        trial_id: The trial that has it.
        place: Where on the axis that trial is.
    """

    low: float
    high: float
    values: tuple[Value, ...]
    completed: int
    infeasible: int
    best: float | None
    trial_id: str | None
    place: float | None

    @property
    def label(self) -> str:
        """The value, or the two ends of the part."""
        return " to ".join(shorten(f"{v:.3g}" if _is_float(v) else str(v), 24) for v in self.values)


@dataclasses.dataclass(frozen=True)
class IsolationRecord:
    """What an isolation plot shows (E3).

    Args:
        axis: The axis of the hyperparameter.
        objective: The objective.
        buckets: The buckets from left to right.
        points: Place and objective of every completed trial on the axis.
        limit: The worst objective that is shown in full; None if all are.
        y_range: Best and worst objective inside the picture; None without one.
        left_out: Ids of the trials whose value has no place on the axis, such as 0 on a log scale.
    """

    axis: UnitAxis
    objective: Objective
    buckets: tuple[IsolationBucket, ...]
    points: tuple[tuple[float, float], ...]
    limit: float | None
    y_range: tuple[float, float] | None
    left_out: tuple[str, ...] = ()

    def is_shown(self, objective: float) -> bool:
        """Whether an objective is within the range that is shown in full."""
        return not is_beyond(objective, self.limit, self.objective)

    def finding(self) -> str:
        """Say which bucket is best, and by how much the next one is behind."""
        ranked = sorted(
            (b for b in self.buckets if b.best is not None),
            key=lambda bucket: self.objective.cost(bucket.best or 0.0),
        )
        if not ranked:
            return "no completed trial"
        first, *others = (f"{format_value(b.best)} (n={b.completed})" for b in ranked)
        place = ranked[0].label
        # A range is long, and the picture shows where it is.
        named = f"{ranked[1].label}: " if others and len(ranked[1].values) == 1 else ""
        return f"best at {place}: {first}" + (f"; next {named}{others[0]}" if others else "")


def isolation_record(study: Study, name: str, *, buckets: int = BUCKETS) -> IsolationRecord:
    """Return what the isolation plot of hyperparameter `name` shows; arguments as there.

    Raises:
        ValueError: If the study's space has no such hyperparameter, or `buckets` is no positive
            integer.
    """
    count = check_count("buckets", buckets, minimum=1)
    axis = unit_axis(study, name)
    ended = [t for t in study.trials if t.status != "running" and name in t.values]
    places = [(axis.place(trial.values[name]), trial) for trial in ended]
    placed = [(place, trial) for place, trial in places if place is not None]
    values = list(dict.fromkeys(trial.values[name] for _, trial in placed))
    edges: list[tuple[float, float, tuple[Value, ...]]]
    if axis.scale == "categorical":
        edges = [(x, x, (v,)) for v in axis.categories if (x := axis.place(v)) is not None]
    elif _is_discrete(study.hyperparameter(name), values, len(placed)):
        singles = sorted((axis.place(value) or 0.0, value) for value in values)
        edges = [(place, place, (value,)) for place, value in singles]
    else:
        ends = [i / count for i in range(count + 1)]
        edges = [
            (low, high, (axis.value(low), axis.value(high)))
            for low, high in itertools.pairwise(ends)
        ]
    limit, y_range = shown_range(study)
    return IsolationRecord(
        axis=axis,
        objective=study.objective,
        buckets=tuple(_bucket(*edge, placed, study.objective) for edge in edges),
        points=tuple(
            (x, t.objective)
            for x, t in placed
            if t.status == "completed" and t.objective is not None
        ),
        limit=limit,
        y_range=y_range,
        left_out=tuple(trial.trial_id for place, trial in places if place is None),
    )


def plot_isolation(
    study: Study, name: str, *, buckets: int = BUCKETS, ax: "Axes | None" = None
) -> "Axes":
    """Plot the best objective at each value of hyperparameter `name` (E3).

    All others are optimized over: of each value only the best trial counts, which is fair as far
    as each has as many trials (E4). A continuous hyperparameter is cut into buckets of equal width
    on the scale of its sampling; one with at most 12 values, and many trials at each, is not. Above
    every bucket stand its number of completed trials and, in red, of those without an objective.
    Triangles at the bad end are completed trials too bad for the axis; the title counts them, and
    the trials whose value has no place on the axis.

    Args:
        study: The study.
        name: Name of a hyperparameter of its space, usually a scientific one (C1).
        buckets: Into how many parts a continuous one is cut. The default follows the five values of
            the playbook's figure 2; it names no number.
        ax: Axes to draw on. Default: those of a new figure with a legend.

    Raises:
        ValueError: If the study's space has no such hyperparameter, or `buckets` is no positive
            integer.
    """
    record = isolation_record(study, name, buckets=buckets)
    return on_axes(partial(draw_isolation, record), ax, study, inches=(5.0, 3.9))


def draw_isolation(record: IsolationRecord, ax: "Axes") -> "Axes":
    """Draw the record on `ax`, with labels that `ax.legend()` shows, and return `ax`."""
    clean(ax)
    label_axis(ax.xaxis, record.axis)
    ax.set_ylabel(shorten(record.objective.name, 30), fontsize=9)

    beyond = [x for x, y in record.points if not record.is_shown(y)]
    frame = ObjectiveAxis(*(record.y_range or (0.0, 0.0)), 1 + bool(beyond), record.objective)
    frame.apply(ax, shaded=False)
    say(
        ax,
        record.finding(),
        _how_many(len(beyond), "worse than the axis shows"),
        _how_many(len(record.left_out), "off this scale left out"),
    )
    if record.y_range is None:
        say_nothing(ax, "no completed trial", has_x=True)

    shown = [(x, y) for x, y in record.points if record.is_shown(y)]
    if shown:
        xs, ys = zip(*shown, strict=True)
        ax.plot(xs, ys, ls="", marker="o", ms=3.5, mew=0, color=OTHER, alpha=0.6, label="completed")
    drawn = [(b.best, b) for b in record.buckets if b.best is not None and record.is_shown(b.best)]
    _, best = min(drawn, key=lambda pair: record.objective.cost(pair[0]), default=(None, None))
    half = _half_width(record)
    for height, bucket in drawn:
        if bucket.low == bucket.high:
            ends = (bucket.low - half, bucket.high + half)
        else:
            ends = (bucket.low + _GAP, bucket.high - _GAP)
        is_best = bucket is best
        style: dict[str, Any] = {"color": RANKED[0] if is_best else DARK, "zorder": 3}
        label = "best of all" if is_best else "best of its bucket"
        style["solid_capstyle"] = "butt"
        ax.plot(ends, (height, height), lw=3.0 if is_best else 2.0, label=label, **style)
        if is_best and bucket.place is not None:
            ax.plot([bucket.place], [height], "*", ms=12, mec="white", mew=0.8, **style)
    if beyond:
        away = "^" if record.objective.direction == "min" else "v"
        style = {"color": OTHER, "transform": ax.get_xaxis_transform(), "clip_on": False}
        label = "worse than the axis shows"
        places = _beside_each_other(beyond, half)
        ax.plot(places, [frame.row(0)] * len(places), away, ms=5, mew=0, label=label, **style)
    for bucket in record.buckets:
        _count(bucket, frame.row(frame.rows - 1), ax)
    return ax


def _count(bucket: IsolationBucket, height: float, ax: "Axes") -> None:
    """Write the numbers of trials of a bucket beside each other, without a box of their own."""
    middle = (bucket.low + bucket.high) / 2
    parts = [(f"{bucket.completed}", DARK)]
    if bucket.infeasible:
        parts.append((f"+{bucket.infeasible}", BAD))
    for index, (text, color) in enumerate(parts):
        offset = (index - (len(parts) - 1) / 2) * 16
        ax.annotate(
            text,
            (middle, height),
            xycoords=ax.get_xaxis_transform(),
            xytext=(offset, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7.5,
            color=color,
        )


def _how_many(trials: int, what: str) -> str:
    return f"{trials} trial{'' if trials == 1 else 's'} {what}" if trials else ""


def _beside_each_other(places: Sequence[float], half: float) -> list[float]:
    """Move marks of the same place apart, by no more than `half` to either side."""
    counts, seen = Counter(places), Counter[float]()
    moved = []
    for place in places:
        step = half * min(0.25, 2 / counts[place])
        moved.append(place + (seen[place] - (counts[place] - 1) / 2) * step)
        seen[place] += 1
    return moved


def _half_width(record: IsolationRecord) -> float:
    places = [bucket.low for bucket in record.buckets]
    gaps = [b - a for a, b in itertools.pairwise(places)]
    return _FILL_FRACTION / 2 * min(gaps, default=0.5)


def _is_discrete(hyperparameter: Hyperparameter, values: list[Any], trials: int) -> bool:
    if len(values) > _MOST_VALUES:
        return False
    is_grid = hyperparameter.kind == "int" or hyperparameter.step is not None
    return is_grid or 2 * len(values) <= trials


def _bucket(
    low: float,
    high: float,
    values: tuple[Value, ...],
    placed: list[tuple[float, Trial]],
    objective: Objective,
) -> IsolationBucket:
    # The last part contains its upper end.
    inside = [
        (x, trial)
        for x, trial in placed
        if (
            math.isclose(x, low, abs_tol=1e-9) if low == high else low <= x < high or x == high == 1
        )
    ]
    completed = [(x, trial) for x, trial in inside if _has_objective(trial)]
    best = min(completed, key=lambda pair: objective.cost(pair[1].objective or 0.0), default=None)
    return IsolationBucket(
        low=low,
        high=high,
        values=values,
        completed=len(completed),
        infeasible=len(inside) - len(completed),
        best=best and best[1].objective,
        trial_id=best and best[1].trial_id,
        place=best and best[0],
    )


def _has_objective(trial: Trial) -> bool:
    return trial.status == "completed" and trial.objective is not None


def _is_float(value: Value) -> bool:
    return isinstance(value, float)
