"""Drawing the gradient norms of a run: against the step, and as a histogram."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NORM = "#8c96a3"
_CLIPPED = "#e69f00"
_THRESHOLD = "#0072b2"
_BAD = "#d62728"
_BINS = 40


def is_clipped(norms: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return where a finite norm is above its threshold, bool (n,)."""
    return np.isfinite(norms) & (norms > thresholds)


def draw_norms(
    ax: "Axes",
    steps: np.ndarray,
    norms: np.ndarray,
    thresholds: np.ndarray,
    *,
    clips: bool | None = True,
) -> "Axes":
    """Draw norm and threshold against the step; a norm that is not finite is a cross at the top.

    Args:
        ax: Axes to draw on.
        steps: Number of each update, int (n,), ascending.
        norms: Norm before clipping of each update, float (n,); may be not finite.
        thresholds: Threshold of each update, float (n,); infinite where nothing is clipped.
        clips: Whether the updates were clipped, or only observed; None if that is not known.
    """
    _clean(ax)
    ax.set_xlabel("update", fontsize=9)
    ax.set_ylabel("gradient norm before clipping", fontsize=9)
    if not len(norms):
        ax.text(
            0.5, 0.5, "no update was recorded", transform=ax.transAxes, ha="center", color=_NORM
        )
        return ax
    finite, clipped = np.isfinite(norms), is_clipped(norms, thresholds)
    positive = norms[finite & (norms > 0.0)]
    if len(positive):
        _set_log(ax, float(positive.max() / positive.min()))
    ax.plot(steps[finite], norms[finite], color=_NORM, lw=0.8, label="norm")
    verb = {True: "clipped", False: "would be clipped", None: "above the threshold"}[clips]
    label = f"{verb}: {np.mean(clipped):.1%} of the updates"
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


def _set_log(ax: "Axes", ratio: float) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    ax.set_yscale("log", nonpositive="clip")
    # Within two decades powers of ten are too few, and matplotlib's labels in between overlap.
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < 100 else (1,)))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def _clean(ax: "Axes") -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#e3e6ea", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8)
