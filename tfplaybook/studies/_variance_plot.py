"""The trial-variance strip: what came of training the same configuration again."""

import dataclasses
import math
import statistics
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tfplaybook._arguments import check_count
from tfplaybook.runs import Curve
from tfplaybook.studies._format import shorten
from tfplaybook.studies._records import Objective, Study, Trial
from tfplaybook.studies._style import DARK, OTHER, RANKED, clean, on_axes, say, say_nothing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_STRIPS = 20


@dataclasses.dataclass(frozen=True)
class VarianceStrip:
    """The trainings of one configuration.

    Args:
        trial_ids: The trials that have this configuration.
        values: The best objective of each training.
    """

    trial_ids: tuple[str, ...]
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean of the values."""
        return statistics.fmean(self.values)

    @property
    def label(self) -> str:
        """The trial, or the first of them."""
        first, *others = self.trial_ids
        return f"{first} +{len(others)}" if others else first


@dataclasses.dataclass(frozen=True)
class VarianceRecord:
    """What a trial-variance strip shows (F1).

    Args:
        objective: The objective.
        strips: The configurations that were trained more than once, best mean first.
        within: Standard deviation of one training about the mean of its configuration, pooled over
            the configurations; None without a repeat.
        between: Standard deviation of the objectives of all configurations; None for fewer than
            two.
        configurations: Number of configurations behind `between`.
    """

    objective: Objective
    strips: tuple[VarianceStrip, ...]
    within: float | None
    between: float | None
    configurations: int

    def finding(self) -> str:
        """Say how much retraining alone changes the objective, beside how much choice does."""
        if self.within is None:
            return "no configuration was trained more than once"
        trained = sum(len(strip.values) for strip in self.strips)
        parts = [f"retraining changes it by {self.within:.2g} (sd of {trained} trainings)"]
        if self.between is not None:
            parts.append(f"{self.configurations} configurations differ by {self.between:.2g}")
        return "; ".join(parts)


def variance_record(study: Study) -> VarianceRecord:
    """Return what the trial-variance strip of the study shows (F1).

    Trials with equal hyperparameters are trainings of one configuration, as are the executions of
    one trial. Only completed trials count.
    """
    groups: dict[tuple[tuple[str, object], ...], list[Trial]] = {}
    for trial in study.ranked():
        # True and 1 are equal, but not as hyperparameters.
        key = tuple(sorted((n, (type(v).__name__, v)) for n, v in trial.values.items()))
        groups.setdefault(key, []).append(trial)
    strips = [
        VarianceStrip(
            tuple(sorted(trial.trial_id for trial in trials)),
            tuple(value for trial in trials for value in trainings(trial, study.objective)),
        )
        for trials in groups.values()
    ]
    repeated = [strip for strip in strips if len(strip.values) > 1]
    freedom = sum(len(strip.values) - 1 for strip in repeated)
    squares = sum((v - strip.mean) ** 2 for strip in repeated for v in strip.values)
    means = [strip.mean for strip in strips]
    return VarianceRecord(
        objective=study.objective,
        strips=tuple(sorted(repeated, key=lambda strip: study.objective.cost(strip.mean))),
        within=math.sqrt(squares / freedom) if freedom else None,
        between=statistics.stdev(means) if len(means) > 1 else None,
        configurations=len(means),
    )


def trainings(trial: Trial, objective: Objective) -> tuple[float, ...]:
    """Return the objective of each execution of a completed trial.

    It is the best value of the objective's curve (D11); of a trial without such curves, the
    objective of the trial.
    """
    bests = [_best(curve, objective) for curve in trial.curves(objective.name)]
    values = tuple(value for value in bests if value is not None)
    if values:
        return values
    return () if trial.objective is None else (trial.objective,)


def plot_variance(study: Study, *, most: int = _MOST_STRIPS, ax: "Axes | None" = None) -> "Axes":
    """Plot the objective of every training of the configurations trained more than once (F1).

    Points in a row differ by seeds alone; the bar is their mean. The grey band is as wide as one
    standard deviation to both sides of the best mean: configurations within it are not told apart
    by one training each (F3).

    Args:
        study: The study. Repeats are executions of a trial, and trials with equal hyperparameters.
        most: Number of configurations to draw, best first.
        ax: Axes to draw on. Default: those of a new figure with a legend.

    Raises:
        ValueError: If `most` is not a positive integer.
    """
    check_count("most", most, minimum=1)
    record = variance_record(study)
    inches = (5.0, 1.7 + 0.24 * min(max(len(record.strips), 4), most))
    return on_axes(partial(draw_variance, record, most=most), ax, study, inches=inches)


def draw_variance(record: VarianceRecord, ax: "Axes", *, most: int = _MOST_STRIPS) -> "Axes":
    """Draw the record on `ax`, with labels that `ax.legend()` shows, and return `ax`."""
    clean(ax)
    ax.grid(visible=False)
    ax.set_xlabel(shorten(record.objective.name, 40), fontsize=9)
    strips = record.strips[:most]
    left_out = len(record.strips) - len(strips)
    say(ax, record.finding(), f"best {most} of {len(record.strips)} shown" if left_out else "")
    if not strips or record.within is None:
        say_nothing(ax, "nothing was trained twice")
        return ax
    ax.set_ylabel("trial", fontsize=9)
    ax.set_yticks(range(len(strips)), [shorten(strip.label, 16) for strip in strips])
    ax.set_ylim(len(strips) - 0.4, -0.6)
    best = strips[0].mean
    label = "best mean ± 1 sd of a training"
    ax.axvspan(
        best - record.within, best + record.within, color=OTHER, alpha=0.18, lw=0, label=label
    )
    for index, strip in enumerate(strips):
        color = RANKED[0] if index == 0 else DARK
        ax.plot(
            strip.values, [index] * len(strip.values), "o", ms=4.5, mew=0, alpha=0.7, color=color
        )
        ax.plot([strip.mean, strip.mean], [index - 0.3, index + 0.3], color=color, lw=2.0)
    return ax


def _best(curve: Curve, objective: Objective) -> float | None:
    finite = curve.values[np.isfinite(curve.values)]
    if not len(finite):
        return None
    return float(finite.min() if objective.direction == "min" else finite.max())
