"""Importance bars: how much of the objective's variance each hyperparameter explains."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfplaybook._arguments import check_number
from tfplaybook.studies._format import in_two_lines, shorten
from tfplaybook.studies._style import DARK, OTHER, RANKED, clean, new_figure, say, say_nothing

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclasses.dataclass(frozen=True)
class ImportanceBar:
    """One hyperparameter in a picture of importances.

    Args:
        name: Its name.
        value: Its importance, as a fraction of the variance.
        low: Lower end of its uncertainty; None if it is not known.
        high: Upper end of it.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def is_clear(self) -> bool:
        """Whether the importance is above 0 beyond its uncertainty."""
        return self.value > 0.0 if self.low is None else self.low > 0.0


def importance_bars(
    names: Sequence[str],
    values: Sequence[float],
    low: Sequence[float] | None = None,
    high: Sequence[float] | None = None,
) -> tuple[ImportanceBar, ...]:
    """Return the bars of `plot_importance`, the most important first; arguments as there.

    Raises:
        ValueError: If the lengths differ, a value is not finite, or one of `low` and `high` is
            missing.
    """
    if (low is None) != (high is None):
        raise ValueError("`low` and `high` must both be given, or neither. Received one of them.")
    lengths = {len(column) for column in (names, values, low, high) if column is not None}
    if len(lengths) != 1:
        raise ValueError(
            "`names`, `values`, `low` and `high` must be of one length. "
            f"Received lengths: {sorted(lengths)}."
        )
    bars = [
        ImportanceBar(
            name,
            check_number(f"values[{i}]", values[i]),
            None if low is None else check_number(f"low[{i}]", low[i]),
            None if high is None else check_number(f"high[{i}]", high[i]),
        )
        for i, name in enumerate(names)
    ]
    return tuple(sorted(bars, key=lambda bar: -bar.value))


def plot_importance(
    names: Sequence[str],
    values: Sequence[float],
    *,
    low: Sequence[float] | None = None,
    high: Sequence[float] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Plot how much of the objective's variance each hyperparameter explains.

    A bar whose uncertainty reaches 0 is grey.

    Args:
        names: Names of the hyperparameters.
        values: Their importances as fractions of the variance, such as total Sobol indices.
        low: Lower ends of their uncertainties. Default: none are drawn.
        high: Upper ends of them.
        ax: Axes to draw on. Default: those of a new figure.

    Raises:
        ValueError: If the lengths differ, a value is not finite, or one of `low` and `high` is
            missing.
    """
    bars = importance_bars(names, values, low, high)
    if ax is None:
        ax = new_figure(5.0, 1.3 + 0.32 * len(bars)).add_subplot()
    return draw_importance(bars, ax)


def draw_importance(bars: Sequence[ImportanceBar], ax: "Axes") -> "Axes":
    """Draw the bars on `ax`, the first on top, and return `ax`."""
    clean(ax)
    ax.grid(visible=False)
    ax.set_xlabel("importance: fraction of the variance", fontsize=9)
    ax.set_yticks(range(len(bars)), [in_two_lines(bar.name, 30) for bar in bars])
    ax.set_ylim(len(bars) - 0.4, -0.6)
    say(ax, _finding(bars))
    if not bars:
        say_nothing(ax, "no hyperparameter varies")
        return ax
    colors = [RANKED[0] if bar.is_clear else OTHER for bar in bars]
    ax.barh(range(len(bars)), [bar.value for bar in bars], height=0.62, color=colors)
    for index, bar in enumerate(bars):
        if bar.low is not None and bar.high is not None:
            ax.plot([bar.low, bar.high], [index, index], color=DARK, lw=1.4, marker="|", ms=6)
        end = max(bar.value, bar.high or 0.0)
        text = ax.annotate(
            f"{bar.value:.2f}",
            (end, index),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=DARK,
        )
        text.set_in_layout(False)
    most = max(max(bar.value, bar.high or 0.0) for bar in bars)
    least = min(min(bar.value, bar.low or 0.0) for bar in bars)
    ax.set_xlim(min(least, 0.0), most * 1.15 or 1.0)
    return ax


def _finding(bars: Sequence[ImportanceBar]) -> str:
    clear = [bar for bar in bars if bar.is_clear]
    if not bars:
        return ""
    if not clear:
        return "no hyperparameter matters beyond the uncertainty"
    first = f"{shorten(clear[0].name, 30)} explains {clear[0].value:.0%} of the variance"
    unclear = len(bars) - len(clear)
    return first + (f"; {unclear} of {len(bars)} not told from 0" if unclear else "")
