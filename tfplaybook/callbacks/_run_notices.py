"""What the user is told about a run that is resumed, has ended, or may not be trained."""

import warnings
from collections.abc import Iterable
from pathlib import Path

from tfplaybook.callbacks._evaluation_history import EvaluationHistory
from tfplaybook.callbacks._monitors import Monitor


def copied(caller: str, directory: Path) -> str:
    """Say that a copy may not train where the other trains."""
    return (
        f"A copy of a {caller} may not train in the same directory, where it would resume the run "
        f"of the other. Received: {directory}. A search of KerasTuner copies its callbacks for "
        "each trial: search with `tfplaybook.search.QuasiRandomSearch`, which has a directory for "
        "each, or make the callback in `HyperModel.fit`."
    )


def ended(directory: Path | None, epochs: int, step: int) -> str:
    """Say that a run has ended, and how to train on."""
    return (
        f"The run in {directory} has ended after {epochs} epochs (step {step:,}), and is not "
        "trained again: the model has its weights. Pass a higher `epochs` to go on, or another "
        "directory for a new run."
    )


def data_starts_anew(directory: Path | None, epoch: int) -> str:
    """Say that the data cannot be sought."""
    return (
        f"The run in {directory} goes on after epoch {epoch}, but its data starts anew, since "
        "`data` was not passed: the order and the augmentation of the first epochs come again. "
        "Pass the pipeline as `data` to go on at the exact example."
    )


def preempted(epoch: int, epochs: int) -> str:
    """Say that a notice of preemption has ended the training."""
    return (
        f"SIGTERM has ended the training after epoch {epoch} of {epochs}. Run the script again to "
        "go on from there."
    )


def warn_of_unseen(monitors: Iterable[Monitor], history: EvaluationHistory) -> None:
    """Warn of metrics that were to rank the checkpoints and were never reported."""
    unseen = [monitor.name for monitor in monitors if not history.curve(monitor.name)]
    if unseen:
        warnings.warn(
            f"No checkpoint is ranked by {unseen}, which no epoch has reported: none is kept for "
            "it. Report the metric, or rank by another `monitor`.",
            stacklevel=3,
        )
