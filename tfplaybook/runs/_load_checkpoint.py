"""Putting a checkpoint into a model without the callback that saved it."""

import contextlib
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import keras

from tfplaybook import _keras, _keras_state
from tfplaybook.runs._checkpoint_files import read_record
from tfplaybook.runs._checkpoint_reader import Checkpoint, CheckpointReader
from tfplaybook.runs._retention import CheckpointEntry, ranked
from tfplaybook.runs._run import CHECKPOINTS_FOLDER_NAME

Step = int | Literal["best", "latest"]

_OTHER_FORMATS = (".h5", ".hdf5", ".onnx", ".pb", ".tflite")


def load_checkpoint(
    model: keras.Model,
    directory: str | os.PathLike[str],
    step: Step = "best",
    *,
    monitor: str | None = None,
    include_optimizer: bool = False,
) -> CheckpointEntry:
    """Give a model the weights that a run had at a checkpoint.

    Examples:
        >>> import tempfile, keras, numpy as np, tfplaybook as pb
        >>> directory = tempfile.mkdtemp()
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> _ = model.fit(
        ...     np.ones((8, 2)), np.ones(8), batch_size=4, epochs=5, verbose=0,
        ...     callbacks=[pb.callbacks.RetrospectiveCheckpoint(directory, monitor="loss")])
        >>> pb.runs.load_checkpoint(model, directory, "best").step
        10
        >>> pb.runs.load_checkpoint(model, directory, 6).metrics.keys()
        dict_keys(['loss'])

    Args:
        model: A built model of the same architecture. It need not be compiled.
        directory: The run directory, as given to `RetrospectiveCheckpoint`.
        step: `"best"`, `"latest"`, or the step of a checkpoint that is there.
        monitor: The metric that `"best"` goes by; by default the first monitor of the run.
        include_optimizer: Put back everything that decides the next step: also the optimizer, and
            the generators of NumPy and Python. The model must be compiled. By default only the
            model's own: weights, batch statistics and seeds; the averages of the weights if those
            were evaluated.

    Returns:
        Step, metrics and folder of the checkpoint.

    Raises:
        ValueError: There is no such checkpoint, it is damaged, or it is of another model; the
            message has the difference, and the model is as it was.

    Source: playbook I4, I8.
    """
    _keras_state.check_built(model, "load_checkpoint")
    if include_optimizer:
        _keras.check_model(model, "load_checkpoint(include_optimizer=True)")
    checkpoint = read_checkpoint(directory, step, monitor=monitor)
    if include_optimizer:
        _keras_state.build_optimizer(model)
        _keras_state.check_optimizers_built(model, "load_checkpoint")
        _keras_state.restore(model, checkpoint.arrays)
    else:
        _restore_model(model, checkpoint)
    return checkpoint.entry


def export_checkpoint(
    model: keras.Model,
    directory: str | os.PathLike[str],
    filepath: str | os.PathLike[str],
    step: Step = "best",
    *,
    monitor: str | None = None,
) -> CheckpointEntry:
    """Write a checkpoint as a `.keras` file or, without that ending, as a SavedModel.

    A `.keras` file of a compiled model has the checkpoint's optimizer state too, so that training
    can go on from it; one of a model that is not compiled has none. The model is as it was
    afterwards. The file appears when it is whole: after an error there is nothing at `filepath`.

    Args:
        model: A built model of the same architecture. For a `.keras` file it is compiled with the
            optimizer of the run, or not at all.
        directory: The run directory.
        filepath: What to write: `"best.keras"`, or a folder for serving, which must not exist.
        step: As for `load_checkpoint`.
        monitor: As for `load_checkpoint`.

    Returns:
        Step, metrics and folder of the checkpoint.

    Raises:
        ValueError: As for `load_checkpoint`, or there is a file at `filepath` already.

    Source: playbook I4.
    """
    _keras_state.check_built(model, "export_checkpoint")
    path = Path(filepath)
    if path.suffix in _OTHER_FORMATS:
        raise ValueError(
            "`filepath` must end in '.keras', or be a folder for a SavedModel. Received: "
            f"{path}. For another format call load_checkpoint, and save the model."
        )
    if path.exists():
        raise ValueError(f"`filepath` must not exist yet. Received: {path}. Move it away first.")
    checkpoint = read_checkpoint(directory, step, monitor=monitor)
    write: Callable[..., object] = model.save if path.suffix == ".keras" else model.export
    options = {} if path.suffix == ".keras" else {"verbose": False}
    with_optimizer = path.suffix == ".keras" and getattr(model, "optimizer", None) is not None
    if with_optimizer:
        _keras_state.build_optimizer(model)
        _keras_state.check_optimizers_built(model, "export_checkpoint")
    path.parent.mkdir(parents=True, exist_ok=True)
    own = _keras_state.capture_variables(model)
    try:
        if with_optimizer:
            _keras_state.restore_variables(model, checkpoint.arrays)
        _restore_model(model, checkpoint)
        with _appearing(path) as beside:
            write(beside, **options)
    finally:
        _keras_state.restore_variables(model, own)
    return checkpoint.entry


@contextlib.contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write to; `path` is there when all is written, or not at all."""
    beside = path.with_name(f".{secrets.token_hex(8)}.{path.name}")
    try:
        yield beside
        beside.rename(path)
    finally:
        if beside.is_dir():
            shutil.rmtree(beside)
        beside.unlink(missing_ok=True)


def read_checkpoint(
    directory: str | os.PathLike[str], step: Step, *, monitor: str | None = None
) -> Checkpoint:
    """Read a checkpoint of a run; arguments and errors are those of `load_checkpoint`."""
    folder = Path(directory) / CHECKPOINTS_FOLDER_NAME
    reader = CheckpointReader(folder)
    if not reader.entries():
        raise ValueError(
            f"`directory` must be a run directory with checkpoints. There are none in {folder}."
            + "".join(f"\n  {reason}" for _, reason in reader.unreadable())
        )
    if step == "latest":
        latest = reader.load_latest(resumable=False)
        warn_about_damage([reason for _, reason in latest.skipped])
        found = latest.checkpoint
    elif step == "best":
        name, mode = _monitor(reader, monitor)
        found = load_best(reader, name, mode)
    elif isinstance(step, str):
        raise ValueError(
            "`step` must be 'best', 'latest', or the step of a checkpoint: one of "
            f"{[entry.step for entry in reader.entries()]}. Received: {step!r}."
        )
    else:
        found = reader.load(step)
    if found is None:
        raise ValueError(
            f"No checkpoint in {folder} is whole and, for step='best', has a finite value of the "
            f"monitor. Received: step={step!r}. Pass another monitor, 'latest', or one of the "
            f"steps {[entry.step for entry in reader.entries()]}."
        )
    return found


def load_best(reader: CheckpointReader, monitor: str, mode: str) -> Checkpoint | None:
    """Return the best whole checkpoint, with a warning about damaged ones that were better."""
    reasons = []
    found = None
    for entry in ranked(reader.entries(), monitor, mode):
        try:
            found = reader.load(entry.step)
            break
        except ValueError as error:
            reasons.append(str(error))
    warn_about_damage(reasons)
    return found


def warn_about_damage(reasons: list[str]) -> None:
    """Warn that checkpoints were passed over, if there are reasons."""
    if reasons:
        warnings.warn(
            "Damaged checkpoints are passed over:\n  " + "\n  ".join(reasons), stacklevel=2
        )


def _restore_model(model: keras.Model, checkpoint: Checkpoint) -> None:
    """Give the model the weights that were evaluated; a store of the user's own says of none."""
    _keras_state.restore_model(
        model, checkpoint.arrays, use_average=checkpoint.record.get("uses_average", False)
    )


def _monitor(reader: CheckpointReader, name: str | None) -> tuple[str, str]:
    """Return the monitor of that name, or the first one, with its mode."""
    record = read_record(reader.entries()[-1].path).record
    if "monitors" not in record:
        raise ValueError(
            "step='best' goes by the monitors that a RetrospectiveCheckpoint has noted. Received: "
            f"checkpoints in {reader.directory} that something else has saved. Pass the step that "
            "`CheckpointReader(...).best(monitor, mode)` says, or 'latest'."
        )
    monitors = {monitor["name"]: monitor["mode"] for monitor in record["monitors"]}
    name = name or next(iter(monitors))
    if name not in monitors:
        raise ValueError(
            f"`monitor` must be one that the run was ranked by: {sorted(monitors)}. Received: "
            f"{name!r}."
        )
    return name, monitors[name]
