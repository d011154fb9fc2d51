"""What clipping costs: milliseconds per step over no clipping, against Keras' and AutoClip's way.

The variants of a network train at the same time in one process, each in its own `fit`, and take
turns of a few steps. The medians are over turns, each compared with the turn of no clipping beside
it. Processor time, of all threads together, is what a busy machine disturbs least. `none (again)`
is an A/A control that shows the noise. TensorFlow, TensorFlow with XLA and JAX run in processes of
their own.

`AutoClip sort` is the published method inside the step: the percentile of all norms so far, by
sorting a history as long as a run of 10,000 steps.

Run: python benchmarks/bench_clipping.py [--quick] [--long] [--on ...] [--networks ...]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time

NETWORKS = ("small CNN", "MLP, 4.8M weights", "transformer")
VARIANTS = (
    "none",
    "none (again)",
    "Keras global_clipnorm",
    "AutoClip sort",
    "PercentileClipping",
    "PercentileClipping, monitor_only",
)
BACKENDS = ("tensorflow", "xla", "jax")
HISTORY_STEPS = 10_000
TURN_STEPS = 10


def main() -> None:
    """Measure and print a table per backend."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="6 turns, not 40")
    parser.add_argument("--long", action="store_true", help="also 100,000 steps of a tiny network")
    parser.add_argument("--on", nargs="+", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    turns = 6 if options.quick else 40
    if options.worker == "long":
        print(json.dumps(measure_long()))
    elif options.worker:
        found = {name: measure(name, options.worker, turns) for name in options.networks}
        print(json.dumps(found))
    else:
        for backend in options.on:
            show(backend, run_worker(backend, options), turns)
        if options.long:
            show_long(run_worker("long", options))


def run_worker(task: str, options: argparse.Namespace) -> dict:
    """Measure in a new process, since a process has one backend."""
    quick = ["--quick"] if options.quick else []
    done = subprocess.run(
        [sys.executable, __file__, "--worker", task, *quick, "--networks", *options.networks],
        env={
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "KERAS_BACKEND": "jax" if task == "jax" else "tensorflow",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def show(backend: str, milliseconds: dict[str, dict[str, list[list[float]]]], turns: int) -> None:
    """Print one row per network and variant."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{backend}: {turns} turns of {TURN_STEPS} steps")
    headers = ("network", "clipping", "ms/step", "over none", "CPU ms/step", "over none")
    for header in headers:
        table.add_column(header, justify="left" if header in ("network", "clipping") else "right")
    for network, by_variant in milliseconds.items():
        for variant, by_clock in by_variant.items():
            cells = []
            for values, base in zip(by_clock, by_variant["none"], strict=True):
                share = statistics.median(v / b - 1.0 for v, b in zip(values, base, strict=True))
                cells += [f"{statistics.median(values):.2f}", f"{share:+.1%}"]
            table.add_row(
                network if variant == "none" else "",
                variant,
                *cells,
                end_section=variant == VARIANTS[-1],
            )
    Console(width=100).print(table)


def measure(network: str, backend: str, turns: int) -> dict[str, list[list[float]]]:
    """Return, for every variant, the milliseconds per step of every turn: by wall clock, of CPU."""
    import keras

    order = Turns(len(VARIANTS))
    clocks = [make_clock(order, index) for index in range(len(VARIANTS))]
    threads = []
    for variant, clock in zip(VARIANTS, clocks, strict=True):
        keras.utils.set_random_seed(0)
        model, data = build(network)
        model.compile(
            optimizer=optimizer(variant),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=backend != "tensorflow",
        )
        callbacks = [clock, *clipping(variant)]
        # One warm-up turn, in which the step is compiled, comes before those that count.
        steps = (turns + 1) * TURN_STEPS
        threads.append(
            threading.Thread(
                target=model.fit,
                args=(endless(*data),),
                kwargs={
                    "steps_per_epoch": steps,
                    "callbacks": callbacks,
                    "shuffle": False,
                    "verbose": 0,
                },
            )
        )
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {variant: clock.turns for variant, clock in zip(VARIANTS, clocks, strict=True)}


class Turns:
    """Lets `count` threads run one after the other."""

    def __init__(self, count: int):
        self._count = count
        self._now = 0
        self._changed = threading.Condition()

    def wait(self, index: int) -> None:
        """Return when it is the turn of thread `index`."""
        with self._changed:
            self._changed.wait_for(lambda: self._now == index)

    def end(self) -> None:
        """Let the next thread run."""
        with self._changed:
            self._now = (self._now + 1) % self._count
            self._changed.notify_all()


def make_clock(order: Turns, index: int):
    """Return a callback that takes turns and times them."""
    import keras

    class Clock(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self._start = 0.0, 0.0
            self.turns: list[list[float]] = [[], []]

        def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
            if batch % TURN_STEPS == 0:
                order.wait(index)
                self._start = time.perf_counter(), time.process_time()

        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            if batch % TURN_STEPS < TURN_STEPS - 1:
                return
            float(logs["loss"])  # the device may still be at work on the last step
            now = time.perf_counter(), time.process_time()
            if batch >= TURN_STEPS:
                for turns, start, end in zip(self.turns, self._start, now, strict=True):
                    turns.append(1000.0 * (end - start) / TURN_STEPS)
            order.end()

    return Clock()


def clipping(variant: str) -> list:
    """Return the callbacks of the variant."""
    import tfplaybook as pb

    if not variant.startswith("PercentileClipping"):
        return []
    return [pb.callbacks.PercentileClipping(monitor_only="monitor_only" in variant)]


def optimizer(variant: str):
    """Return the optimizer of the variant."""
    import keras
    from keras import ops

    if variant == "Keras global_clipnorm":
        return keras.optimizers.Adam(1e-4, global_clipnorm=1.0)
    if variant != "AutoClip sort":
        return keras.optimizers.Adam(1e-4)

    class AutoClip(keras.optimizers.Adam):
        def build(self, variables):
            super().build(variables)
            self.history = self.add_variable((HISTORY_STEPS,), "zeros", "float32", name="history")

        def _clip_gradients(self, gradients):
            norm = ops.sqrt(sum(ops.sum(ops.square(g)) for g in gradients))
            place = ops.cast(ops.mod(self.iterations, HISTORY_STEPS), "int32")
            history = ops.scatter_update(
                ops.convert_to_tensor(self.history),
                ops.reshape(place, (1, 1)),
                ops.reshape(norm, (1,)),
            )
            self.history.assign(history)
            seen = ops.minimum(place + 1, HISTORY_STEPS)
            rank = ops.cast(0.1 * ops.cast(seen, "float32"), "int32")
            threshold = ops.take(ops.sort(history), HISTORY_STEPS - 1 - rank)
            scale = ops.minimum(1.0, threshold / ops.maximum(norm, 1e-12))
            return [g * scale for g in gradients]

    return AutoClip(1e-4)


def build(network: str):
    """Return a network and one batch for it."""
    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    layers = keras.layers
    if network == "small CNN":
        convolutions = [
            layers.Conv2D(width, 3, strides=2, activation="relu", padding="same")
            for width in (16, 32, 64)
        ]
        model = keras.Sequential(
            [keras.Input((32, 32, 3)), *convolutions, layers.Flatten(), layers.Dense(10)]
        )
        return model, (rng.normal(size=(32, 32, 32, 3)), rng.integers(10, size=32))
    if network.startswith("MLP"):
        hidden = [layers.Dense(units, activation="relu") for units in (2048, 1536)]
        model = keras.Sequential([keras.Input((784,)), *hidden, layers.Dense(10)])
        return model, (rng.normal(size=(64, 784)), rng.integers(10, size=64))
    tokens = keras.Input((64,), dtype="int32")
    x = layers.Embedding(1000, 128)(tokens)
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(4, 32)(y, y)
        y = layers.LayerNormalization()(x)
        x = x + layers.Dense(128)(layers.Dense(512, activation="gelu")(y))
    model = keras.Model(tokens, layers.Dense(1000)(x))
    return model, (rng.integers(1000, size=(8, 64)), rng.integers(1000, size=(8, 64)))


def endless(x, y):
    """Return the batch again and again, as the backend likes it best."""
    import keras

    x = x.astype("float32" if x.dtype.kind == "f" else "int32")
    y = y.astype("int32")
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.data.Dataset.from_tensors((x, y)).repeat()

    def batches():
        while True:
            yield x, y

    return batches()


def measure_long() -> dict[str, list[float]]:
    """Return the seconds of each 10,000 of 100,000 steps of a tiny network, with and without."""
    import keras
    import numpy as np

    import tfplaybook as pb

    class Lap(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            laps.append(time.perf_counter() - self.start)

    seconds = {}
    x, y = np.ones((8, 4), "float32"), np.ones((8, 1), "float32")
    for name in ("none", "PercentileClipping"):
        laps: list[float] = []
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", steps_per_execution=50)
        callbacks = [] if name == "none" else [pb.callbacks.PercentileClipping()]
        model.fit(
            endless(x, y),
            steps_per_epoch=10_000,
            epochs=10,
            callbacks=[*callbacks, Lap()],
            shuffle=False,
            verbose=0,
        )
        seconds[name] = laps
    return seconds


def show_long(seconds: dict[str, list[float]]) -> None:
    """Print the time of a step in each tenth of 100,000 steps."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="tensorflow, a tiny network: us/step in each 10,000 of 100,000 steps")
    for column in ("clipping", *(f"{10 * lap}k" for lap in range(1, 11))):
        table.add_column(column, justify="left" if column == "clipping" else "right")
    for name, laps in seconds.items():
        table.add_row(name, *(f"{100.0 * lap:.0f}" for lap in laps))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
