"""Colours and the frame that the pictures of a study share."""

import dataclasses
import math
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

from tfplaybook.studies._format import shorten
from tfplaybook.studies._records import Objective, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

OTHER = "#8c96a3"
EDGE = "#b8bfc8"
DARK = "#444a52"
BAD = "#d62728"
# Okabe and Ito's palette (2008), which colour-blind readers can tell apart, less its red and
# black: red is for what went wrong.
RANKED = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9")

MARKED = ("best", "2nd", "3rd")

_PAD_FRACTION = 0.06
_ROW_FRACTION = 0.085
# Of the font of a finding, on average.
_CHARACTER_INCHES = 0.062
_FEWEST_CHARACTERS = 24
_TITLE_CHARACTER_INCHES = 0.086


def new_figure(width: float, height: float) -> "Figure":
    """Return a figure of this size in inches, which pyplot does not know and need not close."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def on_axes(
    draw: Callable[["Axes"], "Axes"],
    ax: "Axes | None",
    study: Study,
    *,
    inches: tuple[float, float],
    columns: int = 3,
) -> "Axes":
    """Draw on `ax`, or on the axes of a new figure with the study's title and a legend."""
    if ax is not None:
        return draw(ax)
    figure = new_figure(*inches)
    ax = draw(figure.add_subplot())
    finish(figure, study, columns=columns)
    return ax


def say(ax: "Axes", *findings: str) -> None:
    """Write what a picture shows above it, each finding on lines of its own."""
    inches = ax.get_window_extent().width / ax.figure.dpi
    width = max(int(inches / _CHARACTER_INCHES), _FEWEST_CHARACTERS)
    lines = [line for finding in findings if finding for line in textwrap.wrap(finding, width)]
    ax.set_title("\n".join(lines), loc="left", fontsize=8.5, color=DARK)


def say_nothing(ax: "Axes", text: str, *, has_x: bool = False) -> None:
    """Write in the middle of an empty picture why it is empty; `has_x` if its x axis is not."""
    ax.set_yticks([])
    if not has_x:
        ax.set_xticks([])
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", color=OTHER, size=9)


def finish(figure: "Figure", study: Study, *, columns: int) -> None:
    """Put a title above all axes, and below them one legend that names every label once.

    Args:
        figure: The figure, drawn on.
        study: The study, for the title.
        columns: Most entries that the legend may have in a row; 0 for no legend.
    """
    better = "lower" if study.objective.direction == "min" else "higher"
    rest = f": {shorten(study.objective.name, 30)} ({better} is better)"
    room = int(figure.get_figwidth() / _TITLE_CHARACTER_INCHES) - len(rest)
    title = f"{shorten(study.name, max(room, 8))}{rest}"
    figure.suptitle(f"{title}\n{study.summary()}", fontsize=10)
    entries = {
        label: handle
        for ax in figure.axes
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    # A panel without the best trial must not push it to the end.
    order = [f"{word}:" for word in MARKED]
    ranked = sorted((i, label) for label in entries for i, o in enumerate(order) if o in label)
    entries = {label: entries[label] for label in (*(name for _, name in ranked), *entries)}
    if entries and columns:
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

    def apply(self, ax: "Axes", *, shaded: bool = True) -> None:
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
        if self.rows and shaded:
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
