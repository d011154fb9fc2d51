"""Places of hyperparameter values as fractions of their axis, on the scale of the sampling."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tfplaybook.studies._diagnoses._positions import position, value_at
from tfplaybook.studies._format import format_value, in_two_lines, shorten
from tfplaybook.studies._records import Hyperparameter, Study, Value
from tfplaybook.studies._scales import LABEL_LENGTH, Scale
from tfplaybook.studies._style import EDGE

if TYPE_CHECKING:
    from matplotlib.axis import XAxis, YAxis

_CATEGORY_LENGTH = 14
_Y_LABEL_LENGTH = 30
_PAD_FRACTION = 0.05


@dataclasses.dataclass(frozen=True)
class UnitAxis:
    """An axis of a picture on which 0 and 1 are the ends of the searched range.

    Args:
        name: Name of the hyperparameter.
        scale: Scale in which the hyperparameter was sampled.
        range: The values at 0 and 1: the searched range, widened to trials outside it. For
            `"categorical"` the first and the last index.
        bounds: The searched range; None if it is not known, or for categories.
        categories: The values of a categorical axis.
    """

    name: str
    scale: Scale
    range: tuple[float, float]
    bounds: tuple[float, float] | None = None
    categories: tuple[Value, ...] = ()

    def place(self, value: Any) -> float | None:
        """Return the fraction of the axis at which `value` lies; None if it has no place there.

        >>> UnitAxis("rate", "log", (1e-4, 1.0)).place(1e-2)
        0.5
        >>> UnitAxis("rate", "log", (1e-4, 1.0)).place(0.0)
        """
        if not has_place(value, self.scale):
            return None
        if self.scale == "categorical":
            if value not in self.categories:
                return None
            value = self.categories.index(value)
        if self.range[0] == self.range[1]:
            return 0.5
        place = position(self._ranged(), value)
        return None if math.isnan(place) else place

    def value(self, place: float) -> float:
        """Return the number at a fraction of a numeric axis.

        >>> round(UnitAxis("rate", "log", (1e-4, 1.0)).value(0.75), 6)
        0.1
        """
        return value_at(self._ranged(), place)

    def ticks(self, count: int = 5) -> list[tuple[float, str]]:
        """Return places and labels of about `count` ticks, all within the axis.

        >>> UnitAxis("rate", "log", (1e-4, 1.0)).ticks(3)
        [(0.0, '0.0001'), (0.5, '0.01'), (1.0, '1')]
        """
        low, high = self.range
        if self.scale == "categorical":
            names = [shorten(format_value(value), _CATEGORY_LENGTH) for value in self.categories]
            return [(self.place(v) or 0.0, n) for v, n in zip(self.categories, names, strict=True)]
        if low == high:
            return [(0.5, format_value(low))]
        if self.scale == "linear":
            values = _linear_ticks(low, high, count)
        elif self.scale == "log":
            values = _log_ticks(low, high, count)
        else:
            values = [self.value(place) for place in np.linspace(0.0, 1.0, count)]
        return [(self.place(v) or 0.0, f"{v:.3g}") for v in values]

    def _ranged(self) -> Hyperparameter:
        scale = "linear" if self.scale == "categorical" else self.scale
        return Hyperparameter(self.name, "float", scale, *self.range)


def unit_axis(study: Study, name: str) -> UnitAxis:
    """Return the axis of hyperparameter `name`, with room for every trial that has ended.

    Raises:
        ValueError: If the study's space has no such hyperparameter.
    """
    hyperparameter = study.hyperparameter(name)
    scale = scale_of(hyperparameter)
    values: list[Any] = [
        t.values[name]
        for t in study.trials
        if t.status != "running" and name in t.values and has_place(t.values[name], scale)
    ]
    if scale == "categorical":
        categories = tuple(dict.fromkeys((*hyperparameter.values, *values)))
        ends = (0.0, float(max(len(categories) - 1, 0)))
        return UnitAxis(name, scale, ends, categories=categories)
    declared = (hyperparameter.min_value, hyperparameter.max_value)
    inside = [float(x) for x in (*declared, *values) if x is not None]
    return UnitAxis(name, scale, (min(inside), max(inside)), bounds_of(hyperparameter))


def label_axis(axis: "XAxis | YAxis", unit: UnitAxis) -> None:
    """Set limits, ticks and label of a picture's axis, and mark the ends of the searched range."""
    places = unit.ticks()
    labels = [label for _, label in places]
    axis.set_ticks([place for place, _ in places], labels)
    suffix = f" ({unit.scale.replace('_', ' ')})" if "log" in unit.scale else ""
    length = LABEL_LENGTH if axis.axis_name == "x" else _Y_LABEL_LENGTH
    axis.set_label_text(in_two_lines(unit.name, length - len(suffix)) + suffix, fontsize=9)
    pad = 0.5 / max(len(unit.categories) - 1, 1) if unit.categories else _PAD_FRACTION
    limit = axis.axes.set_xlim if axis.axis_name == "x" else axis.axes.set_ylim
    limit(-pad, 1.0 + pad)
    if unit.scale == "categorical" and axis.axis_name == "x" and sum(map(len, labels)) > 24:
        for label in axis.get_ticklabels():
            label.set(rotation=25, horizontalalignment="right", rotation_mode="anchor")
    line = axis.axes.axvline if axis.axis_name == "x" else axis.axes.axhline
    for end in unit.bounds or ():
        line(unit.place(end) or 0.0, color=EDGE, linewidth=0.8, linestyle=":", zorder=0)


def scale_of(hyperparameter: Hyperparameter) -> Scale:
    """Return the scale of the axis on which the hyperparameter is drawn."""
    return (
        "categorical" if hyperparameter.min_value is None else hyperparameter.sampling or "linear"
    )


def bounds_of(hyperparameter: Hyperparameter) -> tuple[float, float] | None:
    """Return the ends of the range that was searched; None if they are not known."""
    low, high = hyperparameter.min_value, hyperparameter.max_value
    if low is None or high is None or hyperparameter.is_inferred:
        return None
    return float(low), float(high)


def has_place(value: Any, scale: Scale) -> bool:
    """Whether `value` can be drawn on an axis of this scale."""
    if scale == "categorical":
        return isinstance(value, bool | int | float | str)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return scale == "linear" or value > 0


def _linear_ticks(low: float, high: float, count: int) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(max(count - 1, 2)).tick_values(low, high)
    slack = 1e-9 * (high - low)
    # A tick of 0 comes as 1e-17 now and then.
    return [0.0 if abs(t) < slack else float(t) for t in ticks if low - slack <= t <= high + slack]


def _log_ticks(low: float, high: float, count: int) -> list[float]:
    first, last = math.log10(low), math.log10(high)
    decades = range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1)
    if len(decades) >= 3:
        stride = math.ceil((len(decades) - 1) / max(count - 1, 1))
        return [10.0**d for d in decades[::stride]]
    around = range(math.floor(first), math.ceil(last) + 1)
    ticks = [m * 10.0**d for d in around for m in (1, 2, 5)]
    ticks = [t for t in ticks if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]
    return ticks[:: math.ceil(len(ticks) / count)] if len(ticks) >= 2 else [low, high]
