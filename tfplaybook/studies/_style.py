"""Colours and the frame that the pictures of a study share."""

import dataclasses
import math
from typing import TYPE_CHECKING

from tfplaybook.studies._format import shorten
from tfplaybook.studies._records import Objective, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

OTHER = "#8c96a3"
BAD = "#d62728"
# Okabe and Ito's palette (2008), which colour-blind readers can tell apart, less its red and
# black: red is for what went wrong.
RANKED = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9")

_PAD_FRACTION = 0.06
_ROW_FRACTION = 0.085


def new_figure(width: float, height: float) -> "Figure":
    """Return a figure of this size in inches, which pyplot does not know and need not close."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def finish(figure: "Figure", study: Study, *, columns: int) -> None:
    """Put a title above all axes, and below them one legend that names every label once.

    Args:
        figure: The figure, drawn on.
        study: The study, for the title.
        columns: Most entries that the legend may have in a row.
    """
    better = "lower" if study.objective.direction == "min" else "higher"
    title = f"{shorten(study.name, 40)}: {shorten(study.objective.name, 40)} ({better} is better)"
    figure.suptitle(f"{title}\n{study.summary()}", fontsize=10)
    entries = {
        label: handle
        for ax in figure.axes
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    if entries:
        rows = math.ceil(len(entries) / columns)
        figure.legend(
            list(entries.values()),
            list(entries),
            loc="outside lower center",
            ncols=math.ceil(len(entries) / rows),
            frameon=False,
            fontsize=8,
        )


@dataclasses.dataclass(frozen=True)
class ObjectiveAxis:
    """The y axis of a picture: a range shown in full, and rows at its bad end for the rest.

    Args:
        best: The good end of the range that is shown in full.
        worst: The bad end of that range; equal to `best` if there is a single value.
        rows: Number of rows of marks beyond the bad end: 0, 1 or 2.
        objective: Its direction says which end is bad: the top for `"min"`, else the bottom.
    """

    best: float
    worst: float
    rows: int
    objective: Objective

    def row(self, index: int) -> float:
        """Return the height of a row as a fraction of the axes, row 0 next to the range."""
        distance = (self.rows - index - 0.5) * _ROW_FRACTION
        return 1.0 - distance if self.objective.direction == "min" else distance

    def keep_inside(self, line: "Line2D", ax: "Axes") -> None:
        """Cut `line` where it leaves the range, so that it does not run through the rows."""
        from matplotlib.transforms import Bbox, TransformedBbox

        band = self.rows * _ROW_FRACTION
        ends = (0.0, 1.0 - band) if self.objective.direction == "min" else (band, 1.0)
        box = Bbox.from_extents(0.0, ends[0], 1.0, ends[1])
        line.set_clip_box(TransformedBbox(box, ax.transAxes))

    def apply(self, ax: "Axes") -> None:
        """Set the limits and the ticks of `ax`, and shade the rows beyond the range."""
        from matplotlib.patches import Rectangle
        from matplotlib.ticker import MaxNLocator

        span = abs(self.worst - self.best) or abs(self.best) or 1.0
        low, high = sorted((self.best, self.worst))
        pad = _PAD_FRACTION * span if low < high else 0.5 * span
        band = self.rows * _ROW_FRACTION
        low, high = low - pad, high + pad
        extra = (high - low) * band / (1.0 - band)
        ticks = [tick for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high]
        if self.objective.direction == "min":
            ax.set_ylim(low, high + extra)
        else:
            ax.set_ylim(low - extra, high)
        ax.set_yticks(ticks)
        if self.rows:
            bottom = 1.0 - band if self.objective.direction == "min" else 0.0
            shade = Rectangle(
                (0, bottom), 1, band, transform=ax.transAxes, color=BAD, alpha=0.07, zorder=0, lw=0
            )
            ax.add_patch(shade)


def clean(ax: "Axes") -> None:
    """Leave only the left and bottom lines of the frame, and a light horizontal grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#e3e6ea", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8)
