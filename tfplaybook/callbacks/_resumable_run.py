"""A run on disk that can go on: its checkpoints, its configuration, and whether it has ended."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfplaybook import _keras, _keras_state
from tfplaybook._files import check_entries, read_json, replace_json
from tfplaybook.callbacks._monitors import Monitor
from tfplaybook.hosts import Host
from tfplaybook.runs import Checkpoint, CheckpointReader, CheckpointStore, RetentionPolicy
from tfplaybook.runs._configuration import check_unchanged
from tfplaybook.runs._load_checkpoint import load_best, warn_about_damage
from tfplaybook.runs._run import CHECKPOINTS_FOLDER_NAME

_FINISHED = "finished.json"
_CONFIGURATION = "configuration.json"
_FORMAT = 1
_FIRST_RATE = "first_rate"
# What of a pipeline decides about its batches.
_DATA_ATTRIBUTES = ("seed", "batch_size", "num_examples", "steps_per_epoch")


class ResumableRun:
    """The `checkpoints` of a run directory.

    Args:
        directory: The run directory; made if missing.
        keep: What to keep beside the latest checkpoint.
        host: Who this process is; only the first of many writes.

    Raises:
        RuntimeError: Somebody else writes there.
    """

    def __init__(self, directory: Path, keep: RetentionPolicy, host: Host):
        self.host = host
        self._directory = directory
        self._folder = directory / CHECKPOINTS_FOLDER_NAME
        self._store = CheckpointStore(self._folder, keep=keep) if host.is_writer else None
        # The others look when the writer has cleaned up what a killed process left.
        host.barrier("opened")
        self._reader = self._store or CheckpointReader(self._folder)

    def load_latest(self) -> Checkpoint | None:
        """Return the last checkpoint that training can go on from, or None.

        Damaged ones are passed over with a warning.

        Raises:
            ValueError: There are checkpoints, and each is damaged.
        """
        latest = self._reader.load_latest()
        reasons = [reason for _, reason in latest.skipped]
        if reasons and latest.checkpoint is None:
            raise ValueError(
                f"No checkpoint in {self._folder} is whole, so the run cannot go on:\n  "
                + "\n  ".join(reasons)
                + "\nPut them back from a copy, or move the folder away to begin anew."
            )
        warn_about_damage(reasons)
        return latest.checkpoint

    def start(self, configuration: dict[str, Any]) -> None:
        """Note the configuration of a run that starts from its beginning."""
        if self._store is not None:
            replace_json(
                self._folder / _CONFIGURATION, {"format": _FORMAT, "configuration": configuration}
            )
            (self._folder / _FINISHED).unlink(missing_ok=True)

    def check_configuration(self, configuration: dict[str, Any]) -> None:
        """Raise unless the configuration is the one that the run was started with.

        Raises:
            ValueError: It has changed, and the message has the differences; or it is missing.
        """
        path = self._folder / _CONFIGURATION
        earlier = read_json(
            path,
            newest_format=_FORMAT,
            check=lambda content: check_entries(content, {"configuration": dict}),
        )
        if earlier is None:
            raise ValueError(
                f"{path} is missing, which says what the run was started with. Put it back (a new "
                "run of the same script writes the same file), or start a new run in another "
                "directory."
            )
        check_unchanged(earlier["configuration"], configuration, where=str(self._directory))

    def save(
        self,
        step: int,
        arrays: dict[str, np.ndarray],
        *,
        metrics: Mapping[str, float],
        resumable: bool,
        record: dict[str, Any],
    ) -> None:
        """Begin to write a checkpoint; `arrays` must not change before the next save begins.

        Raises:
            OSError: The checkpoint before this one could not be written.
        """
        if self._store is not None:
            self._store.save(
                step, arrays, metrics=dict(metrics), resumable=resumable, record=record
            )

    def finish(self, epochs: int, step: int) -> None:
        """Note that the training of `epochs` epochs has ended at `step`, with all on disk."""
        if self._store is not None:
            self._store.wait()
            replace_json(
                self._folder / _FINISHED, {"format": _FORMAT, "epochs": epochs, "step": step}
            )

    def discard(self, *, after: int) -> None:
        """Delete the checkpoints of higher steps than `after`, which the run makes again.

        An interrupted run has left them, and the one that goes on may never rank such a step.
        """
        if self._store is not None:
            self._store.discard(after=after)

    def collect(self) -> None:
        """Delete checkpoints that the run does not keep; no later save would."""
        if self._store is not None:
            self._store.collect()

    def has_ended(self, checkpoint: Checkpoint, epochs: int) -> bool:
        """Return whether the checkpoint is the end of a training of at least so many epochs.

        What `finished.json` says of a later one, which is damaged, says nothing of this one.
        """
        content = read_json(
            self._folder / _FINISHED,
            newest_format=_FORMAT,
            check=lambda content: check_entries(content, {"epochs": int}),
        )
        finished = [checkpoint.record["epoch"], checkpoint.record["finished_epochs"] or 0]
        if content is not None and content.get("step") == checkpoint.entry.step:
            finished.append(content["epochs"])
        return max(finished) >= epochs

    def restore_best(self, model: keras.Model, monitor: Monitor) -> None:
        """Give the model the weights of the best checkpoint, or warn that none is ranked."""
        if self._store is not None:
            self._store.wait()
        checkpoint = load_best(self._reader, monitor.name, monitor.mode)
        if checkpoint is None:
            warnings.warn(
                f"No checkpoint has a finite {monitor.name!r}: the model keeps its last weights.",
                stacklevel=2,
            )
            return
        _keras_state.restore_model(
            model, checkpoint.arrays, use_average=checkpoint.record["uses_average"]
        )

    def close(self) -> None:
        """Wait for what is being written, and let other processes write.

        Raises:
            OSError: The last checkpoint could not be written.
        """
        if self._store is not None:
            self._store.close()


def describe_configuration(
    model: keras.Model,
    callbacks: Mapping[str, _keras.Callback],
    data: Any,
    steps_per_epoch: int | None,
) -> dict[str, Any]:
    """Return what decides about a run beside its length, as JSON data."""
    description = _keras.describe_model(model)
    optimizer = description["optimizer"]
    if isinstance(optimizer, dict) and isinstance(optimizer.get("learning_rate"), float):
        # Training changes it. The one to compare is what the optimizer was made with.
        known = _keras.registry(_keras.innermost_optimizer(model))
        optimizer["learning_rate"] = known.setdefault(_FIRST_RATE, optimizer["learning_rate"])
    return {
        "backend": keras.backend.backend(),
        "model": description,
        "architecture": _keras.describe_architecture(model),
        "callbacks": {name: callback.describe() for name, callback in callbacks.items()},
        "data": {name: getattr(data, name) for name in _DATA_ATTRIBUTES if hasattr(data, name)},
        "steps_per_epoch": steps_per_epoch,
    }
