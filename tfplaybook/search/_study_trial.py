"""`StudyTrial`: a trial that knows which worker runs it, also when the chief starts again."""

import math
from pathlib import Path
from typing import Any

import keras_tuner as kt

from tfplaybook._keras_tuner import SearchSpace, Trial, TrialStatus
from tfplaybook.search._trial_files import FILE_NAME, read_trial_file, trial_folders


class StudyTrial(Trial):
    """A KerasTuner trial with the id of the worker that runs or ran it."""

    hyperparameters: kt.HyperParameters
    message: str | None
    tuner_id: str | None = None

    def get_state(self) -> dict[str, Any]:
        """Return what `trial.json` holds."""
        return {**super().get_state(), "tuner_id": self.tuner_id}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over what `trial.json` holds; plain KerasTuner knows no worker."""
        super().set_state(state)
        self.hyperparameters = SearchSpace.of(self.hyperparameters)
        self.tuner_id = state.get("tuner_id")

    def begin(self, tuner_id: str) -> None:
        """Start from nothing: KerasTuner refuses to report a metric twice."""
        self.status, self.message, self.score = TrialStatus.RUNNING, None, None
        self.metrics: Any = type(self.metrics)()
        self.tuner_id = tuner_id


def read_trials(directory: Path) -> dict[str, StudyTrial]:
    """Read the trials that have begun; a folder that is not named by an index is none of ours."""
    trials = {}
    for trial_id, folder in trial_folders(directory).items():
        state = read_trial_file(folder) if trial_id.isdecimal() else None
        if state is not None:
            trials[trial_id] = _restored(trial_id, state, folder / FILE_NAME)
    return trials


def _restored(trial_id: str, state: dict[str, Any], path: Path) -> StudyTrial:
    try:
        trial = StudyTrial.from_state(state)
        if trial.trial_id != trial_id:
            raise ValueError(f"`trial_id` is {trial.trial_id!r} in the folder of {trial_id}")
        if trial.status == TrialStatus.COMPLETED and not math.isfinite(trial.score):
            raise ValueError(f"`score` is {trial.score} although the trial is completed")
    except Exception as error:
        raise ValueError(
            f"{path} is damaged: KerasTuner cannot read it ({type(error).__name__}: {error}). "
            "Move it away to run the trial again."
        ) from error
    return trial
