"""The x axis of an axis plot, on the scale in which the hyperparameter was sampled."""

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from tfplaybook.studies._format import format_value, in_two_lines, shorten
from tfplaybook.studies._records import Value
from tfplaybook.studies._style import EDGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Scale = Literal["linear", "log", "reverse_log", "categorical"]
_PAD_FRACTION = 0.05
# As many characters as fit below one panel of a grid.
LABEL_LENGTH = 38


def set_x_axis(
    ax: "Axes",
    name: str,
    scale: Scale,
    x_range: tuple[float, float],
    categories: tuple[Value, ...],
    bounds: tuple[float, float] | None,
) -> None:
    """Set scale, limits, ticks and label; dotted lines mark the ends of the searched range."""
    low, high = x_range
    suffix = f" ({scale.replace('_', ' ')})" if "log" in scale else ""
    ax.set_xlabel(in_two_lines(name, LABEL_LENGTH - len(suffix)) + suffix, fontsize=9)
    if scale == "categorical":
        _set_categorical(ax, x_range, categories)
    elif low == high:
        ax.set_xticks([low], [format_value(low)])
    else:
        for end in bounds or ():
            ax.axvline(end, color=EDGE, linewidth=0.8, linestyle=":", zorder=0)
        {"linear": _set_linear, "log": _set_log, "reverse_log": _set_reverse_log}[scale](
            ax, low, high
        )


def _set_categorical(
    ax: "Axes", x_range: tuple[float, float], categories: tuple[Value, ...]
) -> None:
    names = [shorten(format_value(value), 14) for value in categories]
    ax.set_xticks(range(len(names)), names)
    ax.set_xlim(*x_range)
    if sum(map(len, names)) > 24:
        ax.tick_params(axis="x", rotation=25)
        for label in ax.get_xticklabels():
            label.set(horizontalalignment="right", rotation_mode="anchor")


def _set_linear(ax: "Axes", low: float, high: float) -> None:
    from matplotlib.ticker import MaxNLocator

    pad = _PAD_FRACTION * (high - low)
    ax.set_xlim(low - pad, high + pad)
    ax.xaxis.set_major_locator(MaxNLocator(5, min_n_ticks=3))


def _set_log(ax: "Axes", low: float, high: float) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    ax.set_xscale("log")
    factor = (high / low) ** _PAD_FRACTION
    ax.set_xlim(low / factor, high * factor)
    ax.xaxis.set_minor_locator(NullLocator())
    if high / low >= 100:
        ax.xaxis.set_major_locator(LogLocator(numticks=6))
        return
    # Within two decades powers of ten are too few, and matplotlib's in-between labels overlap.
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= m * 10.0**d <= high]
    ticks = ticks if len(ticks) >= 2 else [low, high]
    ax.set_xticks(ticks, [format_value(float(tick)) for tick in ticks])


def _set_reverse_log(ax: "Axes", low: float, high: float) -> None:
    """Use a scale that is logarithmic in the distance to the upper end."""
    from matplotlib.ticker import NullLocator

    def forward(x: np.ndarray) -> np.ndarray:
        return -np.log(np.maximum(low + high - np.asarray(x, float), np.finfo(float).tiny))

    def backward(u: np.ndarray) -> np.ndarray:
        return low + high - np.exp(-np.asarray(u, float))

    ax.set_xscale("function", functions=(forward, backward))
    first, last = forward(np.array([low, high]))
    pad = _PAD_FRACTION * (last - first)
    ax.set_xlim(*(float(end) for end in backward(np.array([first - pad, last + pad]))))
    ticks = backward(np.linspace(first, last, 4))
    ax.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
