"""`RunRecorder`: the callback that writes a run directory."""

import datetime
import json
import os
from pathlib import Path
from typing import Any

import keras

from tfplaybook import _keras
from tfplaybook._arguments import check_count
from tfplaybook._files import replace_json
from tfplaybook.runs._curves import CurveWriter
from tfplaybook.runs._events import EventWriter
from tfplaybook.runs._provenance import provenance
from tfplaybook.runs._run import FORMAT, INFO_FILE_NAME, read_info


class RunRecorder(_keras.Callback):
    """Write what was run and how it went into a directory that outlives the process.

    | file | content |
    |---|---|
    | `run.json` | configuration, seed, note, model, command, versions, commit, uncommitted diff |
    | `curves.jsonl` | every metric of every epoch against the optimizer updates made |
    | `events.*` | the same for TensorBoard |

    Files are append-only or replaced by rename: they can be read while they grow, and a killed
    process leaves them whole. Training again into the same directory goes on in the same files;
    the later attempt wins from the step on at which it started. Our other callbacks add their
    numbers here by themselves, whatever their place in the list.

    Examples:
        >>> import tempfile, keras, numpy as np, tfplaybook as pb
        >>> directory = tempfile.mkdtemp()
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> recorder = pb.runs.RunRecorder(directory, configuration={"units": 1}, seed=0)
        >>> _ = model.fit(np.ones((8, 2)), np.ones(8), batch_size=4, epochs=3, verbose=0,
        ...               callbacks=[recorder])
        >>> pb.runs.load_run(directory).curves["loss"].steps
        array([2, 4, 6])

    Args:
        directory: The run directory; made when training starts.
        configuration: The hyperparameters of the run as plain JSON data, say a trial's values.
        note: Free text.
        seed: The seed that the run was started with. By default the one given to
            `keras.utils.set_random_seed`, when it was.

    Raises:
        ValueError: `configuration` is not JSON data, or `directory` is a file.

    Source: playbook J1, D5.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        configuration: dict[str, Any] | None = None,
        note: str = "",
        seed: int | None = None,
    ):
        super().__init__()
        self.directory = Path(directory)
        if self.directory.exists() and not self.directory.is_dir():
            raise ValueError(f"`directory` must be a folder. Received a file: {self.directory}.")
        self.configuration = dict(configuration or {})
        try:
            json.dumps(self.configuration, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "`configuration` must be plain JSON data: numbers, strings, lists, dicts. "
                f"Received: {configuration!r} ({error})."
            ) from error
        self.note = str(note)
        self.seed = None if seed is None else check_count("seed", seed, minimum=0)
        self._curves = CurveWriter(self.directory)
        self._events = EventWriter(self.directory)
        self._pending: list[tuple[str, int, float]] = []
        self._last_steps: dict[str, int] = {}

    def set_model(self, model: keras.Model) -> None:
        """Announce this run to our other callbacks."""
        super().set_model(model)
        _keras.registry(model)["recorder"] = self

    def scalar(self, name: str, step: int, value: float) -> None:
        """Record that `name` was `value` after `step` updates, unless that is known already."""
        if step <= self._last_steps.get(name, -1):
            return
        self._last_steps[name] = step
        self._pending.append((name, step, float(value)))
        self._events.scalar(name, step, value)

    def flush(self) -> None:
        """Put on disk what was recorded."""
        if self._pending:
            self._curves.write(self._pending)
            self._pending.clear()
        self._events.flush()

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Write `run.json` and mark the start of this attempt in `curves.jsonl`."""
        step = _keras.count_updates(self.model)
        self.directory.mkdir(parents=True, exist_ok=True)
        earlier = read_info(self.directory)
        attempts = []
        if earlier:
            attempts = [*earlier.pop("previous_attempts", []), earlier]
        info = {"format": FORMAT, **self._describe(step), "previous_attempts": attempts}
        replace_json(self.directory / INFO_FILE_NAME, info)
        self._curves.begin_attempt(step)
        self._events.begin_attempt(step)
        self._last_steps.clear()

    def _describe(self, step: int) -> dict[str, Any]:
        seed = self.seed if self.seed is not None else _keras.global_seed()
        return {
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "start_step": step,
            "configuration": self.configuration,
            "note": self.note,
            "seed": seed,
            "model": _keras.describe_model(self.model),
            "fit": {name: self.params.get(name) for name in ("epochs", "steps")},
            **provenance(),
        }

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Record the metrics of the epoch."""
        step = _keras.count_updates(self.model)
        for name, value in (logs or {}).items():
            self.scalar(name, step, value)
        self.flush()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Put the last numbers on disk."""
        self.flush()
