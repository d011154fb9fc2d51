"""Writing the pictures of a study to files."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from tfplaybook.studies._axis_plot import axis_plot_record, draw_axis_plot
from tfplaybook.studies._curves_plot import CURVES_INCHES, plot_curves
from tfplaybook.studies._records import Study
from tfplaybook.studies._style import finish, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 3
_PANEL_INCHES = (3.1, 2.5)


def save_plots(study: Study, directory: Path) -> list[Path]:
    """Write the axis plots in one grid, and the training curves; return the paths."""
    if directory.exists() and not directory.is_dir():
        raise ValueError(
            f"`directory` must be a folder to write pictures into. Received: {str(directory)!r}, "
            "which is a file."
        )
    directory.mkdir(parents=True, exist_ok=True)
    figures = {}
    if study.varied:
        figures["axis_plots.png"] = _axis_plots(study)
    figures["training_curves.png"] = curves = new_figure(*CURVES_INCHES)
    plot_curves(study, ax=curves.add_subplot())
    finish(curves, study, columns=3)
    for name, figure in figures.items():
        figure.savefig(directory / name)
    return [directory / name for name in figures]


def _axis_plots(study: Study) -> "Figure":
    """Return a figure with the axis plot of every varied hyperparameter, at least one."""
    names = [h.name for h in study.varied]
    columns = 2 if len(names) == 4 else min(_COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    width, height = _PANEL_INCHES
    # The title and the legend need about an inch.
    figure = new_figure(max(width * columns, 5.0), height * rows + 1.0)
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for index, ax in enumerate(panels):
        if index >= len(names):
            ax.remove()
            continue
        draw_axis_plot(axis_plot_record(study, names[index]), ax)
        if index % columns:
            ax.set_ylabel("")
    finish(figure, study, columns=2 * columns)
    return figure
