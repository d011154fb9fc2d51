"""What a checkpoint costs: how long it stops training, and how long until it is on the disk.

A model of 100 MB and one of 300 MB of weights, with an optimizer that has no slots, so that every
way saves the same bytes. The ways take turns in one process; each has finished its save before the
next begins. `host copy` into memory that is warm, and `write + fsync` of the same bytes, are the
floors. Ratios are medians over turns, each against the host copy of its own turn. save_weights,
model.save and tf.train.Checkpoint do not call fsync: their checkpoint is on the disk later still.

Run: python benchmarks/bench_checkpoint.py [--quick] [--megabytes 100 300]
"""

import argparse
import contextlib
import functools
import gc
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

UNITS = 1024
HOST_COPY = "host copy"


def main() -> None:
    """Measure and print a table per size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 turns, not 15")
    parser.add_argument("--megabytes", nargs="+", type=int, default=[100, 300])
    parser.add_argument("--directory", help="where to write; by default that of temporary files")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    turns = 3 if options.quick else 15
    if options.worker:
        print(json.dumps(measure(options.megabytes[0], turns, options.directory)))
        return
    for megabytes in options.megabytes:
        show(megabytes, turns, run_worker(megabytes, options))
    if importlib.util.find_spec("orbax") is None:
        print("Orbax is left out. To compare with it: pip install orbax-checkpoint")


def run_worker(megabytes: int, options: argparse.Namespace) -> dict[str, list[list[float]]]:
    """Measure in a new process, whose memory no other size has warmed."""
    quick = ["--quick"] if options.quick else []
    where = ["--directory", options.directory] if options.directory else []
    done = subprocess.run(
        [sys.executable, __file__, "--worker", *quick, *where, "--megabytes", str(megabytes)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def show(megabytes: int, turns: int, seconds: dict[str, list[list[float]]]) -> None:
    """Print one row per way."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{megabytes} MB of weights, {turns} turns: ms")
    table.add_column("")
    for column in ("stall, median", "minimum", "over host copy", "until durable", "minimum"):
        table.add_column(column, justify="right")
    floor = [stall for stall, _ in seconds[HOST_COPY]]
    for name, measured in seconds.items():
        stalls, durable = zip(*measured, strict=True)
        ratio = statistics.median(s / f for s, f in zip(stalls, floor, strict=True))
        cells = [1000.0 * statistics.median(stalls), 1000.0 * min(stalls)]
        row = [f"{cell:.1f}" for cell in cells] + [f"{ratio:.2f}"]
        if name != HOST_COPY:
            row += [f"{1000.0 * value:.0f}" for value in (statistics.median(durable), min(durable))]
        table.add_row(name, *row)
    Console(width=110).print(table)


def measure(megabytes: int, turns: int, where: str | None) -> dict[str, list[list[float]]]:
    """Return for every way the seconds of every turn: of the stall, and until durable."""
    import keras

    layers = round(megabytes * 1e6 / (4 * UNITS * UNITS))
    model = keras.Sequential([keras.Input((UNITS,))])
    for _ in range(layers):
        model.add(keras.layers.Dense(UNITS))
    model.compile(keras.optimizers.SGD(), "mse")
    directory = Path(tempfile.mkdtemp(dir=where))
    try:
        with contextlib.ExitStack() as stack:
            ways = {
                HOST_COPY: host_copy(model),
                "RetrospectiveCheckpoint's store": ours(model, directory / "ours", stack),
                "write + fsync": raw_write(model, directory / "raw"),
                "model.save_weights": functools.partial(
                    blocking, model.save_weights, directory / "model.weights.h5"
                ),
                "model.save": functools.partial(blocking, model.save, directory / "model.keras"),
                "tf.train.Checkpoint": tensorflow_checkpoint(model, directory / "tf"),
            }
            if importlib.util.find_spec("orbax") is not None:
                ways["keras OrbaxCheckpoint, async"] = keras_orbax(model, directory / "keras_orbax")
                ways["orbax CheckpointManager, async"] = orbax(model, directory / "orbax", stack)
            seconds: dict[str, list[list[float]]] = {name: [] for name in ways}
            # The first turn makes files and buffers, and does not count.
            for turn in range(turns + 1):
                for name, save in ways.items():
                    gc.collect()
                    measured = save(turn)
                    if turn:
                        seconds[name].append(list(measured))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return seconds


Save = Callable[[int], tuple[float, float]]


def timed(save: Callable[[], object], wait: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that `save` takes, and those until `wait` has returned too."""
    start = time.perf_counter()
    save()
    stall = time.perf_counter() - start
    wait()
    return stall, time.perf_counter() - start


def host_copy(model) -> Save:
    """Copy the weights into arrays that exist."""
    import numpy as np

    buffers = model.get_weights()

    def save(turn: int) -> tuple[float, float]:
        values = [np.asarray(variable.value.read_value()) for variable in model.variables]

        def copy() -> None:
            for buffer, value in zip(buffers, values, strict=True):
                np.copyto(buffer, value)

        return timed(copy, lambda: None)

    return save


def ours(model, directory: Path, stack: contextlib.ExitStack) -> Save:
    """Capture the state of training, all of it, and hand it to the store."""
    from tfplaybook import _keras_state
    from tfplaybook.runs import CheckpointStore, LatestN

    store = stack.enter_context(CheckpointStore(directory, keep=LatestN(1)))
    buffers: dict = {}

    def save(turn: int) -> tuple[float, float]:
        def capture_and_save() -> None:
            store.wait()
            buffers.update(_keras_state.capture(model, buffers))
            store.save(turn, buffers, metrics={"loss": 0.0}, resumable=True, record={})

        return timed(capture_and_save, store.wait)

    return save


def raw_write(model, path: Path) -> Save:
    """Write the bytes of the weights into one file, and sync it."""
    weights = [weight.reshape(-1).view("uint8").data for weight in model.get_weights()]

    def save(turn: int) -> tuple[float, float]:
        def write() -> None:
            with path.open("wb") as file:
                for weight in weights:
                    file.write(weight)
                file.flush()
                os.fsync(file.fileno())

        return timed(write, lambda: None)

    return save


def blocking(write: Callable[[Path], object], path: Path, turn: int) -> tuple[float, float]:
    """Save with one that returns when it has written."""
    return timed(lambda: write(path), lambda: None)


def tensorflow_checkpoint(model, directory: Path) -> Save:
    """Save with TensorFlow's own manager, which keeps one."""
    import tensorflow as tf

    manager = tf.train.CheckpointManager(tf.train.Checkpoint(model), str(directory), max_to_keep=1)

    def save(turn: int) -> tuple[float, float]:
        return timed(lambda: manager.save(turn), lambda: None)

    return save


def keras_orbax(model, directory: Path) -> Save:
    """Save with Keras' callback, on its thread."""
    import keras

    callback = keras.callbacks.OrbaxCheckpoint(
        str(directory), save_freq="epoch", max_to_keep=1, save_on_background=True
    )
    callback.set_model(model)
    callback.on_train_begin()

    def save(turn: int) -> tuple[float, float]:
        return timed(lambda: callback.on_epoch_end(turn), callback.wait_until_finished)

    return save


def orbax(model, directory: Path, stack: contextlib.ExitStack) -> Save:
    """Save with Orbax' manager, which keeps one, from the arrays that Keras gives."""
    import orbax.checkpoint as ocp

    manager = ocp.CheckpointManager(
        directory,
        options=ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=True),
    )
    stack.callback(manager.close)

    def save(turn: int) -> tuple[float, float]:
        def copy_and_save() -> None:
            arrays = {variable.path: variable.numpy() for variable in model.variables}
            manager.save(turn, args=ocp.args.StandardSave(arrays))

        return timed(copy_and_save, manager.wait_until_finished)

    return save


if __name__ == "__main__":
    main()
