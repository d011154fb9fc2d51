"""Gradient norms of a trial, as `PercentileClipping` has recorded them."""

import dataclasses
import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tfplaybook._arguments import check_choice
from tfplaybook.runs import _norms_plot
from tfplaybook.studies._records import Study, Trial
from tfplaybook.studies._style import on_axes, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NORMS = "gradient_norm"
THRESHOLDS = "clip_threshold"
_CURVE_FRACTION = 0.74
_MARGIN_FRACTION = 0.02


@dataclasses.dataclass(frozen=True, eq=False)
class NormsRecord:
    """What a picture of gradient norms shows (M2).

    Args:
        trial_id: The trial.
        steps: Number of each update, int64 of shape (n,).
        norms: Norm before clipping of each update, float64 of shape (n,); may be not finite.
        thresholds: Threshold of each update, float64 of shape (n,); infinite where there was none.
        median: Median of the finite norms; NaN without one.
        percentile_90: Their 90th percentile, the playbook's threshold (M3).
        above_fraction: Fraction of the updates whose norm was above the threshold.
        non_finite: Number of norms that are not finite.
    """

    trial_id: str
    steps: np.ndarray
    norms: np.ndarray
    thresholds: np.ndarray
    median: float
    percentile_90: float
    above_fraction: float
    non_finite: int

    def finding(self) -> str:
        """Say how large norms were, and how often they were above the threshold (M3, M5)."""
        parts = []
        if math.isfinite(self.median):
            parts.append(f"norms {self.median:.2g} (median), {self.percentile_90:.2g} (90%)")
        if np.isfinite(self.thresholds).any():
            parts.append(f"{self.above_fraction:.0%} of {len(self.norms)} above the threshold")
        if self.non_finite:
            parts.append(f"{self.non_finite} not finite")
        return f"trial {self.trial_id}: " + ", ".join(parts)


def has_norms(trial: Trial) -> bool:
    """Whether a run of the trial has recorded its gradient norms."""
    return any(len(curve.steps) for curve in trial.curves(NORMS))


def norms_record(study: Study, trial_id: str | None = None) -> NormsRecord:
    """Return what the picture of a trial's gradient norms shows; arguments as in `plot_norms`.

    Raises:
        ValueError: If there is no such trial, or no norms were recorded.
    """
    with_norms = [trial for trial in (*study.ranked(), *study.trials) if has_norms(trial)]
    if trial_id is not None:
        check_choice("trial_id", trial_id, [trial.trial_id for trial in study.trials])
        with_norms = [trial for trial in with_norms if trial.trial_id == trial_id]
    if not with_norms:
        which = "No trial" if trial_id is None else f"The trial {trial_id!r}"
        raise ValueError(
            f"{which} of {study.name!r} has {'' if trial_id is None else 'not '}recorded the curve "
            f"{NORMS!r}. Search with callbacks=[PercentileClipping(monitor_only=True)], which "
            "records norms and changes nothing."
        )
    trial = with_norms[0]
    run = next(run for run in trial.runs if NORMS in run.curves)
    steps, norms = run.curves[NORMS]
    thresholds = np.full(len(steps), np.inf)
    if THRESHOLDS in run.curves:
        recorded = dict(zip(*(column.tolist() for column in run.curves[THRESHOLDS]), strict=True))
        thresholds = np.array([recorded.get(step, np.inf) for step in steps.tolist()])
    finite = norms[np.isfinite(norms)]
    return NormsRecord(
        trial_id=trial.trial_id,
        steps=steps,
        norms=norms,
        thresholds=thresholds,
        median=float(np.median(finite)) if len(finite) else math.nan,
        percentile_90=float(np.percentile(finite, 90)) if len(finite) else math.nan,
        above_fraction=float(np.mean(_norms_plot.is_clipped(norms, thresholds))),
        non_finite=len(norms) - len(finite),
    )


def plot_norms(study: Study, trial_id: str | None = None, *, ax: "Axes | None" = None) -> "Axes":
    """Plot a trial's gradient norms against the step, and their histogram beside it (K5, M2).

    Of several executions the first is drawn.

    Args:
        study: The study, searched with `tfplaybook.callbacks.PercentileClipping`.
        trial_id: The trial. Default: the best one that has recorded its norms.
        ax: Axes to draw on; the histogram takes some room at their right. Default: those of a new
            figure with a legend.

    Raises:
        ValueError: If there is no such trial, or no norms were recorded.
    """
    record = norms_record(study, trial_id)
    return on_axes(partial(draw_norms, record), ax, study, inches=(7.2, 3.9))


def draw_norms(record: NormsRecord, ax: "Axes") -> "Axes":
    """Draw the record on `ax`, with labels that `ax.legend()` shows, and return `ax`."""
    from matplotlib.ticker import MaxNLocator

    _norms_plot.draw_norms(ax, record.steps, record.norms, record.thresholds, clips=None)
    # Beside the curve, yet within the axes, where it takes part in any layout.
    first, last = int(record.steps[0]), int(record.steps[-1])
    span = max(last - first, 1)
    ax.set_xlim(first - _MARGIN_FRACTION * span, first + span / _CURVE_FRACTION)
    ticks = MaxNLocator(5, integer=True).tick_values(first, last)
    ax.set_xticks([tick for tick in ticks if first <= tick <= last])
    ax.spines["bottom"].set_bounds(first - _MARGIN_FRACTION * span, last)
    ax.xaxis.set_label_coords(_CURVE_FRACTION / 2, -0.1)
    left = _CURVE_FRACTION + 2 * _MARGIN_FRACTION
    beside = ax.inset_axes((left, 0.0, 1.0 - left, 1.0), sharey=ax)
    _norms_plot.draw_histogram(beside, record.norms, record.thresholds)
    beside.tick_params(labelleft=False)
    beside.xaxis.set_major_locator(MaxNLocator(3, integer=True, prune="both"))
    beside.xaxis.set_label_coords(0.5, -0.1)
    say(ax, record.finding())
    return ax
