"""Training curves of a study: training and validation metric of all trials against the step."""

import dataclasses
import statistics
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tfplaybook._arguments import check_choice, check_count
from tfplaybook.runs import Curve
from tfplaybook.studies._format import format_value, shorten
from tfplaybook.studies._records import Direction, Objective, Status, Study, Trial
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES_INCHES = (7.2, 4.6)

Part = Literal["validation", "training"]
_VALIDATION = "val_"
_SOLID: dict[str, Any] = {"ls": "-", "lw": 1.8}
_DASHED: dict[str, Any] = {"ls": (0, (3, 1.5)), "lw": 1.1}
_START_FRACTION = 0.05
_HEADROOM = 1.5


@dataclasses.dataclass(frozen=True, eq=False)
class CurveLine:
    """One curve of one run in a picture of training curves.

    Args:
        trial_id: Identifier of the trial.
        part: `"validation"` or `"training"`.
        rank: Place among the completed trials, 1 for the best; None for the trials that are not
            highlighted.
        status: Status of the trial.
        curve: The curve up to its first value that is not finite, steps and values of shape (n,).
    """

    trial_id: str
    part: Part
    rank: int | None
    status: Status
    curve: Curve


@dataclasses.dataclass(frozen=True, eq=False)
class CurvesRecord:
    """What a picture of training curves shows (E2).

    Args:
        metric: The metric, named without `val_`, and which of its values are better.
        main_part: The part that is shown of every trial: `"validation"`, or `"training"` if no
            trial has a validation curve.
        lines: The curves: both parts of the highlighted trials, the main part of the others.
        divergences: Trial id and step of every infeasible run: the first step at which the
            metric was not finite, or else the last step recorded.
        y_range: Best and worst value that the axis shows; None without a finite value.
        highlighted: The trials to be coloured, best first.
        objective: What ranks them.
    """

    metric: Objective
    main_part: Part
    lines: tuple[CurveLine, ...]
    divergences: tuple[tuple[str, int], ...]
    y_range: tuple[float, float] | None
    highlighted: tuple[Trial, ...]
    objective: Objective

    def finding(self) -> str:
        """Say where the best trial was best: at which step of how many (D8, D9)."""
        curves = [
            line.curve
            for line in self.lines
            if line.rank == 1 and line.part == self.main_part and len(line.curve.values)
        ]
        if not curves:
            return ""
        bests = [best_index(curve, self.metric) for curve in curves]
        at, curve = min(
            zip(bests, curves, strict=True),
            key=lambda pair: self.metric.cost(float(pair[1].values[pair[0]])),
        )
        step, last = int(curve.steps[at]), int(curve.steps[-1])
        best = format_value(float(curve.values[at]))
        return (
            f"best trial: {self.main_part} {self.metric.name} {best} "
            f"at step {step} of {last} ({step / max(last, 1):.0%})"
        )


def curves_record(
    study: Study,
    metric: str | None = None,
    *,
    direction: Direction | None = None,
    highlight: int = 3,
) -> CurvesRecord:
    """Return what the picture of training curves shows (E2); arguments as in `plot_curves`.

    Raises:
        ValueError: If the runs have recorded other metrics but not `metric`, if its `direction`
            is needed or is neither of the two, or if `highlight` is out of range.
    """
    if check_count("highlight", highlight, minimum=0) > len(RANKED):
        raise ValueError(
            f"`highlight` must be at most {len(RANKED)}, the number of colours that can be told "
            f"apart. Received: {highlight!r}."
        )
    name = (metric or study.objective.name).removeprefix(_VALIDATION)
    names: dict[Part, str] = {"validation": _VALIDATION + name, "training": name}
    recorded = {n for trial in study.trials for run in trial.runs for n in run.curves}
    if metric is not None and recorded and recorded.isdisjoint(names.values()):
        check_choice("metric", metric, sorted(recorded))
    objective = Objective(name, direction or _direction(name, study.objective))

    best = study.ranked()[:highlight]
    ranks = {trial.trial_id: rank for rank, trial in enumerate(best, start=1)}
    main_part: Part = "validation" if names["validation"] in recorded else "training"
    lines = tuple(
        CurveLine(trial.trial_id, part, ranks.get(trial.trial_id), trial.status, curve)
        for trial in study.trials
        for part in names
        if part == main_part or trial.trial_id in ranks
        for curve in map(_until_divergence, trial.curves(names[part]))
    )
    return CurvesRecord(
        metric=objective,
        main_part=main_part,
        lines=lines,
        divergences=tuple(
            (trial.trial_id, step)
            for trial in study.infeasible
            for step in _divergence_steps(trial, names[main_part])
        ),
        y_range=_y_range(lines, objective),
        highlighted=best,
        objective=study.objective,
    )


def plot_curves(
    study: Study,
    metric: str | None = None,
    *,
    direction: Direction | None = None,
    highlight: int = 3,
    ax: "Axes | None" = None,
) -> "Axes":
    """Plot training and validation curves of all trials against the step (E2, D5).

    The best trials are coloured, validation solid and training dashed; a dot marks the best
    value of the curve. The other trials are thin grey validation curves. Curves of infeasible
    trials are thin red, end where they diverge and have a red cross there at the bad end of the
    axis (D3). The axis is clipped so that at least half of the curves that did not diverge are
    whole after the first 5% of training.

    Args:
        study: The study.
        metric: Name of the metric, with or without `val_`. Default: the objective.
        direction: `"min"` or `"max"`, which values of `metric` are better. Default: that of the
            objective; `"min"` for a loss. Needed for other metrics.
        highlight: Number of best trials in colour, 0 to 5.
        ax: Axes to draw on. Default: those of a new figure with a legend; save it with
            `ax.figure.savefig("curves.png")`.

    Raises:
        ValueError: If the runs have recorded other metrics but not `metric`, if its `direction`
            is needed or is neither of the two, or if `highlight` is out of range.
    """
    record = curves_record(study, metric, direction=direction, highlight=highlight)
    return on_axes(partial(draw_curves, record), ax, study, inches=CURVES_INCHES)


def draw_curves(record: CurvesRecord, ax: "Axes") -> "Axes":
    """Draw the record on `ax`, with labels that `ax.legend()` shows, and return `ax`."""
    clean(ax)
    ax.set_xlabel("training step", fontsize=9)
    ax.set_ylabel(shorten(record.metric.name, 40), fontsize=9)
    frame = ObjectiveAxis(
        *(record.y_range or (0.0, 0.0)), int(bool(record.divergences)), record.metric
    )
    frame.apply(ax)
    say(ax, record.finding())
    if record.y_range is None:
        say_nothing(ax, f"no trial has a curve of {record.metric.name}")

    for rank, trial in enumerate(record.highlighted, start=1):
        label = f"trial {trial.trial_id}: {record.objective.name} {format_value(trial.objective)}"
        ax.plot([], [], lw=1.8, color=RANKED[rank - 1], label=label)
    if record.highlighted and {line.part for line in record.lines} == {"training", "validation"}:
        ax.plot([], [], color=DARK, label="validation", **_SOLID)
        ax.plot([], [], color=DARK, label="training", **_DASHED)
    others = [line for line in record.lines if line.rank is None]
    if any(line.status != "infeasible" for line in others):
        ax.plot([], [], color=OTHER, lw=0.8, label=f"other trials ({record.main_part})")
    for line in record.lines:
        if line.rank is not None:
            _draw_highlighted(line, line.rank, record, frame, ax)
            continue
        style: dict[str, Any] = {"color": OTHER, "alpha": 0.6 if len(others) < 60 else 0.35}
        if line.status == "infeasible":
            style = {"color": BAD, "alpha": 0.45}
        frame.keep_inside(ax.plot(*line.curve, lw=0.8, zorder=1.5, **style)[0], ax)
    if record.divergences:
        steps = [step for _, step in record.divergences]
        ax.plot(
            steps,
            [frame.row(0)] * len(steps),
            ls="",
            marker="x",
            ms=5.5,
            mew=1.5,
            color=BAD,
            transform=ax.get_xaxis_transform(),
            clip_on=False,
            label="infeasible",
        )
    return ax


def _draw_highlighted(
    line: CurveLine, rank: int, record: CurvesRecord, frame: ObjectiveAxis, ax: "Axes"
) -> None:
    style: dict[str, Any] = {"color": RANKED[rank - 1], "zorder": 4 - 0.1 * rank}
    is_main = line.part == record.main_part
    frame.keep_inside(ax.plot(*line.curve, **(_SOLID if is_main else _DASHED), **style)[0], ax)
    if is_main and len(line.curve.values):
        best = best_index(line.curve, record.metric)
        ax.plot(line.curve.steps[best], line.curve.values[best], "o", ms=5.5, mec="white", **style)


def best_index(curve: Curve, objective: Objective) -> int:
    """Return the index of the best value of a curve that is finite and not empty; the first."""
    return int(np.argmin([objective.cost(value) for value in curve.values]))


def _direction(name: str, objective: Objective) -> Direction:
    if name == objective.name.removeprefix(_VALIDATION):
        return objective.direction
    if name.endswith("loss"):
        return "min"
    raise ValueError(
        f"`direction` must be given for {name!r}, which is not the objective: "
        'direction="min" if lower is better, "max" if higher is better.'
    )


def _until_divergence(curve: Curve) -> Curve:
    end = _first_divergence(curve)
    return Curve(curve.steps[:end], curve.values[:end])


def _first_divergence(curve: Curve) -> int:
    """Return the index of the first value that is not finite; the length if all are finite."""
    bad = np.flatnonzero(~np.isfinite(curve.values))
    return int(bad[0]) if len(bad) else len(curve.values)


def _divergence_steps(trial: Trial, name: str) -> list[int]:
    """Return where each run of an infeasible trial diverged, or else where its records end."""
    steps = []
    for run in trial.runs:
        curve = run.curves.get(name)
        if curve is not None and not np.isfinite(curve.values).all():
            steps.append(int(curve.steps[_first_divergence(curve)]))
        elif run.curves:
            steps.append(max(int(other.steps[-1]) for other in run.curves.values()))
    return steps


def _y_range(lines: tuple[CurveLine, ...], objective: Objective) -> tuple[float, float] | None:
    """Return the range to show: that of curves which did not diverge, less what few of them need.

    Its bad end is 1.5 times as far from the best value as the median over the curves of their
    worst value after the first 5% of their points. So neither a trial that learns nothing nor the
    first steps of training, which can be off by orders of magnitude, flatten the rest.
    """
    lines = tuple(line for line in lines if len(line.curve.values))
    lines = tuple(line for line in lines if line.status != "infeasible") or lines
    if not lines:
        return None
    costs = [np.array([objective.cost(v) for v in line.curve.values]) for line in lines]
    best = min(float(cost.min()) for cost in costs)
    worst = max(float(cost.max()) for cost in costs)
    later = [float(cost[int(_START_FRACTION * len(cost)) :].max()) for cost in costs]
    limit = best + _HEADROOM * (statistics.median(later) - best)
    return objective.cost(best), objective.cost(min(limit, worst))
