"""The picture of a clipped run: norm and threshold against the step, and all norms' histogram."""

from typing import TYPE_CHECKING

import numpy as np

from tfplaybook.runs._norms_plot import draw_histogram, draw_norms

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
