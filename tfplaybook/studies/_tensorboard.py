"""A study as a log directory of TensorBoard, written without TensorFlow."""

import dataclasses
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfplaybook._arguments import check_count
from tfplaybook._metric_names import direction
from tfplaybook.runs import Curve, EventWriter, Run
from tfplaybook.studies._figures import figures
from tfplaybook.studies._hparams import declare_experiment, write_session
from tfplaybook.studies._norms_plot import NORMS
from tfplaybook.studies._records import Study, Trial

# With more, the tabs SCALARS, HISTOGRAMS and IMAGES come up blank, every run unselected.
SHOWN_RUNS = 40
_STUDY_RUN = "study"
_MARK = ".tfplaybook"
_HISTOGRAMS = 20
_DPI = 110


@dataclasses.dataclass(frozen=True)
class TensorBoardLog:
    """The log directory that `Study.to_tensorboard` has written.

    Args:
        directory: Pass it to `tensorboard --logdir`.
        runs: The runs of trials in it, best first.
        left_out: Ids of the trials that are not in it, since it would have too many runs.
    """

    directory: Path
    runs: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def to_tensorboard(study: Study, logdir: Path, *, most_runs: int | None) -> TensorBoardLog:
    """Write the study to `logdir`, which is replaced whole."""
    if most_runs is not None:
        check_count("most_runs", most_runs, minimum=2)
    _check_replaceable(logdir)
    shown, left_out = _chosen(study, most_runs)
    beside = logdir.with_name(f".{logdir.name}.{os.getpid()}.tmp")
    beside.mkdir(parents=True)
    try:
        (beside / _MARK).touch()
        _write_study(study, beside / _STUDY_RUN)
        for name, trial, run in shown:
            _write_run(study, trial, run, beside / name)
        if logdir.exists():
            shutil.rmtree(logdir)
        beside.rename(logdir)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return TensorBoardLog(logdir, tuple(name for name, _, _ in shown), left_out)


def _check_replaceable(logdir: Path) -> None:
    if not logdir.exists() or (logdir / _MARK).is_file():
        return
    if not logdir.is_dir() or any(logdir.iterdir()):
        raise ValueError(
            "`logdir` must be a new directory, an empty one, or one that an earlier "
            f"`to_tensorboard` wrote. Received: {str(logdir)!r}, which holds something else."
        )


def _chosen(
    study: Study, most_runs: int | None
) -> tuple[list[tuple[str, Trial, Run | None]], tuple[str, ...]]:
    """Return name, trial and run of what is written, best first, and the trials left out."""
    ordered = (*study.ranked(), *study.infeasible, *study.running, *study.failed)
    shown: list[tuple[str, Trial, Run | None]] = []
    left_out: list[str] = []
    for trial in ordered:
        runs = list(_named_runs(trial))
        # One run is the study's.
        is_full = most_runs is not None and len(shown) + len(runs) > most_runs - 1
        if is_full or left_out:
            left_out.append(trial.trial_id)
        else:
            shown += [(name, trial, run) for name, run in runs]
    return shown, tuple(left_out)


def _named_runs(trial: Trial) -> Iterator[tuple[str, Run | None]]:
    """Yield a run of the log directory for every execution, at least one."""
    name = f"trial_{trial.trial_id}".replace(os.sep, "_")
    if len(trial.runs) < 2:
        yield name, next(iter(trial.runs), None)
    else:
        yield from ((f"{name}/execution_{i}", run) for i, run in enumerate(trial.runs))


def _write_study(study: Study, directory: Path) -> None:
    """Write what the trials share: the experiment and the pictures."""
    writer = EventWriter(directory)
    names = {name for trial in study.trials for run in trial.runs for name in run.curves}
    finals = sorted(name for name in names if direction(name) is not None)
    metrics = {_best_tag(study): f"best {study.objective.name}"}
    declare_experiment(writer, study, metrics | {name: f"last {name}" for name in finals})
    for name, figure in figures(study):
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=_DPI)
        writer.image(name, 0, file.getvalue())
    writer.flush()


def _write_run(study: Study, trial: Trial, run: Run | None, directory: Path) -> None:
    writer = EventWriter(directory)
    write_session(writer, study, trial)
    curves = {} if run is None else run.curves
    for name, curve in curves.items():
        for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True):
            writer.scalar(name, step, value)
    if trial.objective is not None and trial.status == "completed":
        last = max((int(curve.steps[-1]) for curve in curves.values()), default=0)
        writer.scalar(_best_tag(study), last, trial.objective)
    if NORMS in curves:
        _write_histograms(writer, curves[NORMS])
    writer.flush()


def _write_histograms(writer: EventWriter, norms: Curve) -> None:
    """Write the histogram of the norms in each part of training (M2)."""
    is_drawn = np.isfinite(norms.values) & (norms.values > 0.0)
    steps, values = norms.steps[is_drawn], np.log10(norms.values[is_drawn])
    parts = min(_HISTOGRAMS, len(steps))
    for part in np.array_split(np.arange(len(steps)), parts) if parts else []:
        writer.histogram(f"{NORMS}_log10", int(steps[part[-1]]), values[part])


def _best_tag(study: Study) -> str:
    return f"best/{study.objective.name}"
