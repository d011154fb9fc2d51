"""`RunRecorder`: the callback that writes a run directory."""

import datetime
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

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
    | `curves.jsonl` | every metric of every epoch against the optimizer updates made so far |
    | `events.*` | the same for TensorBoard |

    The entries of a metric that is an array are recorded as `name/0`, `name/1`, ... In `run.json`
    earlier attempts are under `previous_attempts`; one without `git` ran the code of the next.

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
        try:
            text = json.dumps(configuration or {}, allow_nan=False, default=_python_number)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "`configuration` must be plain JSON data: numbers, strings, lists, dicts. "
                f"Received: {configuration!r} ({error})."
            ) from error
        self.configuration = json.loads(text)
        self.note = str(note)
        self.seed = None if seed is None else check_count("seed", seed, minimum=0)
        self._curves = CurveWriter(self.directory)
        self._events = EventWriter(self.directory)
        self._pending: list[tuple[str, int, float]] = []
        self._last: dict[str, tuple[int, int]] = {}
        self._reported: set[str] = set()
        self._epochs = 0
        self._start_step = 0

    def set_model(self, model: keras.Model) -> None:
        """Announce this run to our other callbacks."""
        super().set_model(model)
        _keras.announce_recorder(self)

    def scalar(self, name: str, step: int, value: float) -> None:
        """Record that `name` was `value` after `step` updates.

        A metric that a callback reports here is its own: the logs of an epoch, where it may stand
        with an older value, add nothing to its curve.
        """
        self._reported.add(name)
        self._record(name, step, value)

    def _record(self, name: str, step: int, value: float) -> None:
        if self._last.get(name) == (self._epochs, step):
            return
        self._last[name] = (self._epochs, step)
        self._pending.append((name, step, float(value)))
        self._events.scalar(name, step, value)

    def histogram(self, name: str, step: int, values: np.ndarray) -> None:
        """Record for TensorBoard how `values` were distributed after `step` updates."""
        self._events.histogram(name, step, values)

    def chart(self, title: str, names: Sequence[str]) -> None:
        """Let TensorBoard draw the named curves in one chart."""
        self._events.chart(title, names)

    def flush(self) -> None:
        """Put on disk what was recorded."""
        if self._pending:
            self._curves.write(self._pending)
            self._pending.clear()
        self._events.flush()

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Write `run.json` and mark the start of this attempt in `curves.jsonl`."""
        super().on_train_begin(logs)
        step = _keras.count_updates(self.model)
        self.directory.mkdir(parents=True, exist_ok=True)
        earlier = read_info(self.directory)
        description = self._describe(step)
        attempts = []
        if earlier:
            attempts = [*earlier.pop("previous_attempts", []), earlier]
            if earlier.get("git") == description["git"]:
                del earlier["git"]  # a diff can be large, and a run resumed often
        info = {"format": FORMAT, **description, "previous_attempts": attempts}
        replace_json(self.directory / INFO_FILE_NAME, info)
        self._curves.begin_attempt(step)
        self._events.begin_attempt(step)
        self._last.clear()
        self._reported.clear()
        self._epochs = 0
        self._start_step = step

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
        step = self._step()
        for name, value in _numbers(logs or {}):
            if name not in self._reported:
                self._record(name, step, value)
        self.flush()
        self._epochs += 1

    def _step(self) -> int:
        updates = _keras.count_updates(self.model)
        if updates > self._start_step:
            return updates
        # A custom train step with optimizers of its own never moves the compiled one's counter.
        return self._start_step + (self._epochs + 1) * (self.params.get("steps") or 1)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Put the last numbers on disk."""
        self.flush()


def _python_number(value: Any) -> bool | int | float:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no JSON data")


def _numbers(logs: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield what of the logs can be drawn: numbers, and the entries of arrays as `name/0`, ..."""
    for name, value in logs.items():
        try:
            array = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            warnings.warn(
                f"RunRecorder leaves out {name!r}, which is no number: {value!r:.60}.",
                stacklevel=2,
            )
            continue
        if array.ndim == 0:
            yield name, float(array)
        else:
            yield from ((f"{name}/{i}", float(entry)) for i, entry in enumerate(array.ravel()))
