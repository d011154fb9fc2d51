"""The picture of a clipped run: norm and threshold against the step, and all norms' histogram."""

from typing import TYPE_CHECKING

import numpy as np

from tfplaybook.callbacks._clipping_advice import is_clipped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NORM = "#8c96a3"
_CLIPPED = "#e69f00"
_THRESHOLD = "#0072b2"
_BAD = "#d62728"
_BINS = 40


def plot_clipping(
    steps: np.ndarray, norms: np.ndarray, thresholds: np.ndarray, *, clips: bool = True
) -> "Figure":
    """Return a figure with both parts; arguments as in `advise`."""
    # Not pyplot's, so that nobody needs to close it.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.6), dpi=150, layout="constrained")
    curve, histogram = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    draw_norms(curve, steps, norms, thresholds, clips=clips)
    draw_histogram(histogram, norms, thresholds)
    if len(norms):
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def draw_norms(
    ax: "Axes",
    steps: np.ndarray,
    norms: np.ndarray,
    thresholds: np.ndarray,
    *,
    clips: bool = True,
) -> "Axes":
    """Draw norm and threshold against the step; a norm that is not finite is a cross at the top."""
    _clean(ax)
    ax.set_xlabel("update", fontsize=9)
    ax.set_ylabel("gradient norm before clipping", fontsize=9)
    if not len(norms):
        ax.text(
            0.5, 0.5, "no update was recorded", transform=ax.transAxes, ha="center", color=_NORM
        )
        return ax
    finite, clipped = np.isfinite(norms), is_clipped(norms, thresholds)
    if np.any(norms[finite] > 0.0):
        ax.set_yscale("log", nonpositive="clip")
    ax.plot(steps[finite], norms[finite], color=_NORM, lw=0.8, label="norm")
    label = f"{'clipped' if clips else 'would be clipped'}: {np.mean(clipped):.1%} of the updates"
    ax.plot(steps[clipped], norms[clipped], ".", color=_CLIPPED, ms=3.5, label=label)
    if np.any(np.isfinite(thresholds)):
        shown = np.where(np.isfinite(thresholds), thresholds, np.nan)
        ax.plot(steps, shown, color=_THRESHOLD, lw=1.6, label="threshold")
    if not finite.all():
        ax.plot(
            steps[~finite],
            np.full(np.count_nonzero(~finite), 0.97),
            "x",
            color=_BAD,
            transform=ax.get_xaxis_transform(),
            label=f"not finite: {np.count_nonzero(~finite)}",
        )
    return ax


def draw_histogram(ax: "Axes", norms: np.ndarray, thresholds: np.ndarray) -> "Axes":
    """Draw the histogram of all finite norms, lying, with the last threshold."""
    _clean(ax)
    ax.set_xlabel("updates", fontsize=9)
    drawn = norms[np.isfinite(norms) & (norms > 0.0)]
    if len(drawn):
        low, high = drawn.min() / 1.01, drawn.max() * 1.01
        bins = np.geomspace(low, high, _BINS)
        ax.hist(drawn, bins=bins.tolist(), orientation="horizontal", color=_NORM)
    if len(thresholds) and np.isfinite(thresholds[-1]):
        ax.axhline(thresholds[-1], color=_THRESHOLD, lw=1.6)
    return ax


def _clean(ax: "Axes") -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#e3e6ea", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8)
