"""Writing the pictures of a study to files."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, overload

from tfplaybook.studies._axis_plot import axis_plot_record, draw_axis_plot
from tfplaybook.studies._budget_plot import plot_budget
from tfplaybook.studies._curves_plot import curves_record, plot_curves
from tfplaybook.studies._diagnoses._importance import importance
from tfplaybook.studies._importance_plot import plot_importance
from tfplaybook.studies._isolation_plot import draw_isolation, isolation_record
from tfplaybook.studies._norms_plot import draw_norms, has_norms, norms_record
from tfplaybook.studies._parallel_plot import plot_parallel
from tfplaybook.studies._records import Study
from tfplaybook.studies._slice_plot import draw_slice, slice_record
from tfplaybook.studies._style import finish, new_figure
from tfplaybook.studies._variance_plot import plot_variance, variance_record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3
_PANEL_INCHES = (3.1, 2.6)
_WIDE_PANEL_INCHES = (3.9, 2.9)
_MOST_NORMS = 6
_NOTHING_VARIED = "no hyperparameter is varied"
_ONE_VARIED = "fewer than two hyperparameters are varied"
_MOST_SLICES = 9


@dataclasses.dataclass(frozen=True)
class SavedPlots(Sequence[Path]):
    """The pictures that `Study.save_plots` has written: a sequence of their paths.

    Args:
        paths: The files.
        skipped: Name of each file that was not written, to the reason.
    """

    paths: tuple[Path, ...]
    skipped: Mapping[str, str]

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Path, ...]: ...
    def __getitem__(self, index: int | slice) -> Path | tuple[Path, ...]:
        return self.paths[index]

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Path]:
        return iter(self.paths)


def save_plots(study: Study, directory: Path) -> SavedPlots:
    """Write every picture that the study has something for; return the paths and the reasons."""
    if directory.exists() and not directory.is_dir():
        raise ValueError(
            f"`directory` must be a folder to write pictures into. Received: {str(directory)!r}, "
            "which is a file."
        )
    directory.mkdir(parents=True, exist_ok=True)
    paths, skipped = [], {}
    for name, make in _PICTURES.items():
        figure = make(study)
        if isinstance(figure, str):
            skipped[name] = figure
            # What an earlier state of the study has left would pass for a picture of this one.
            (directory / name).unlink(missing_ok=True)
            continue
        figure.savefig(directory / name)
        paths.append(directory / name)
    return SavedPlots(tuple(paths), skipped)


def figures(study: Study) -> "Iterator[tuple[str, Figure]]":
    """Yield every picture that the study has something for, with its name."""
    for name, make in _PICTURES.items():
        figure = make(study)
        if not isinstance(figure, str):
            yield name.removesuffix(".png"), figure


def _axis_plots(study: Study) -> "Figure | str":
    if not study.varied:
        return _NOTHING_VARIED
    records = [axis_plot_record(study, h.name) for h in study.varied]
    return _grid(study, [partial(draw_axis_plot, record) for record in records])


def _training_curves(study: Study) -> "Figure | str":
    record = curves_record(study)
    if not record.lines:
        return f"no trial has a curve of {record.metric.name}"
    return _figure_of(plot_curves(study))


def _isolation_plots(study: Study) -> "Figure | str":
    if not study.varied:
        return _NOTHING_VARIED
    if not study.completed:
        return "no trial is completed"
    records = [isolation_record(study, h.name) for h in study.varied]
    return _grid(study, [partial(draw_isolation, record) for record in records])


def _budget(study: Study) -> "Figure | str":
    if len(study.completed) < 2:
        return "fewer than two trials are completed"
    return _figure_of(plot_budget(study))


def _parallel(study: Study) -> "Figure | str":
    if len(study.varied) < 2:
        return _ONE_VARIED
    if len(study.running) == len(study.trials):
        return "no trial has ended"
    return _figure_of(plot_parallel(study))


def _slices(study: Study) -> "Figure | str":
    """Draw the learning rate, or else the first hyperparameter, against each other one."""
    names = [h.name for h in study.varied]
    if len(names) < 2:
        return _ONE_VARIED
    if len(study.running) == len(study.trials):
        return "no trial has ended"
    x = _slice_axis(study, names)
    others = [name for name in names if name != x and _vary_together(study, x, name)]
    if not others:
        return f"no other hyperparameter varies together with {x}"
    records = [slice_record(study, x, y) for y in others[:_MOST_SLICES]]
    panels = [partial(draw_slice, record) for record in records]
    return _grid(study, panels, inches=_WIDE_PANEL_INCHES, has_own_y=True)


def _importance(study: Study) -> "Figure | str":
    try:
        finding = importance(study)
    except ImportError as error:
        return str(error)
    if not finding.importances:
        return finding.evidence
    entries = finding.importances
    ax = plot_importance(
        [entry.name for entry in entries],
        [entry.total for entry in entries],
        low=[entry.total - 2 * entry.deviation for entry in entries],
        high=[entry.total + 2 * entry.deviation for entry in entries],
    )
    figure = _figure_of(ax)
    figure.set_figheight(figure.get_figheight() + 0.4)
    finish(figure, study, columns=1)
    return figure


def _gradient_norms(study: Study) -> "Figure | str":
    """Draw the norms of the best trials, and of the first infeasible ones, which tell more."""
    best = [trial for trial in study.ranked() if has_norms(trial)]
    lost = [trial for trial in study.infeasible if has_norms(trial)]
    if not best and not lost:
        return "no run has recorded gradient norms: search with PercentileClipping"
    half = _MOST_NORMS // 2
    shown = best[: max(half, _MOST_NORMS - len(lost))] + lost[: max(half, _MOST_NORMS - len(best))]
    records = [norms_record(study, trial.trial_id) for trial in shown]
    panels = [partial(draw_norms, record) for record in records]
    # Its label has the number of each panel.
    return _grid(study, panels, inches=_WIDE_PANEL_INCHES, has_own_y=True, has_legend=False)


def _trial_variance(study: Study) -> "Figure | str":
    if not variance_record(study).strips:
        return "no configuration was trained more than once"
    return _figure_of(plot_variance(study))


_Panel = Callable[["Axes"], object]
_PICTURES: dict[str, Callable[[Study], "Figure | str"]] = {
    "axis_plots.png": _axis_plots,
    "training_curves.png": _training_curves,
    "isolation_plots.png": _isolation_plots,
    "budget.png": _budget,
    "parallel_coordinates.png": _parallel,
    "slices.png": _slices,
    "importance.png": _importance,
    "gradient_norms.png": _gradient_norms,
    "trial_variance.png": _trial_variance,
}


def is_learning_rate(name: str) -> bool:
    """Whether a hyperparameter of this name is a learning rate.

    >>> is_learning_rate("optimizer=adam/learning_rate"), is_learning_rate("base_lr")
    (True, True)
    """
    return "learning_rate" in name or "lr" in name.replace("/", "_").split("_")


def _figure_of(ax: "Axes") -> "Figure":
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("`ax` must belong to a figure.")
    return figure


def _slice_axis(study: Study, names: Sequence[str]) -> str:
    """Return the learning rate of the best trial that has one, or else the first name."""
    rates = [name for name in names if is_learning_rate(name)]
    ended = (*study.ranked(), *study.infeasible, *study.failed)
    return next((rate for trial in ended for rate in rates if rate in trial.values), names[0])


def _vary_together(study: Study, x: str, y: str) -> bool:
    """Whether trials have both, and more than one value of each: a parent of `x` has one (C4)."""
    pairs = [(t.values[x], t.values[y]) for t in study.trials if {x, y} <= t.values.keys()]
    return len({x for x, _ in pairs}) > 1 and len({y for _, y in pairs}) > 1


def _grid(
    study: Study,
    panels: Sequence[_Panel],
    *,
    inches: tuple[float, float] = _PANEL_INCHES,
    has_own_y: bool = False,
    has_legend: bool = True,
) -> "Figure":
    """Return a figure of panels, at least one."""
    columns = 2 if len(panels) == 4 else min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    width, height = inches
    # The title and the legend need about an inch.
    figure = new_figure(max(width * columns, 5.0), height * rows + 1.0)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for index, ax in enumerate(axes):
        if index >= len(panels):
            ax.remove()
            continue
        panels[index](ax)
        if index % columns and not has_own_y:
            ax.set_ylabel("")
    finish(figure, study, columns=2 * columns if has_legend else 0)
    return figure
