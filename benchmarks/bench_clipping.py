"""What clipping costs: milliseconds per step over no clipping, against Keras' and AutoClip's way.

The variants of a network train at the same time in one process, each in its own `fit`, and take
turns of a few steps, in a new order in each round. All differences are taken within a round and are
shares of the step without clipping; the median over the rounds comes with its 95% interval. So the
verdict on the goal, at most so much over Keras' `global_clipnorm`, is `met` or `missed` where the
whole interval is, and otherwise `open`: measure more turns. Processor time, of all threads
together, is what a busy machine disturbs least. `none (again)` is an A/A control. TensorFlow,
TensorFlow with XLA and JAX run in processes of their own.

`AutoClip sort` is the published method inside the step: the percentile of all norms so far, by
sorting a history as long as a run of 10,000 steps.

Run: python benchmarks/bench_clipping.py [--quick] [--turns N] [--parts] [--long] [--on ...]
    [--networks ...]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from functools import partial

from _paired import CLOCKS, Turns, make_clock, median, run_together

# The network, and how much of its step the clipping may cost more than Keras' own.
GOALS = {"small CNN": 0.05, "MLP, 4.8M weights": 0.03, "transformer": 0.03}
KERAS = "Keras global_clipnorm"
VARIANTS = (
    "none",
    "none (again)",
    KERAS,
    "AutoClip sort",
    "PercentileClipping",
    "PercentileClipping, monitor_only",
)
FIXED, FIXED_MONITOR = "a number as threshold", "a number, monitor_only"
PARTS = {
    "norm and ring": (FIXED_MONITOR, "none"),
    "scale": (FIXED, FIXED_MONITOR),
    "percentile": ("PercentileClipping", FIXED),
    "all": ("PercentileClipping", "none"),
}
BACKENDS = ("tensorflow", "xla", "jax")
HISTORY_STEPS = 10_000
TURN_STEPS = 4
LAP_STEPS = 1_000
LAPS = 100

Times = dict[str, dict[str, list[float]]]  # variant, clock: milliseconds per step of every turn


def main() -> None:
    """Measure and print a table per backend."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="12 turns")
    parser.add_argument("--turns", type=int, default=150, help="turns of each variant")
    parser.add_argument("--parts", action="store_true", help="also where the time goes")
    parser.add_argument("--long", action="store_true", help="also 100,000 steps of a tiny network")
    parser.add_argument("--on", nargs="*", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--networks", nargs="+", default=tuple(GOALS), choices=tuple(GOALS))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.turns = 12 if options.quick else options.turns
    if options.worker == "long":
        print(json.dumps({"long": measure_long()}), flush=True)
    elif options.worker:
        variants = [*VARIANTS, FIXED, FIXED_MONITOR] if options.parts else VARIANTS
        for name in options.networks:
            found = {name: measure(name, options.worker, options.turns, variants)}
            print(json.dumps(found), flush=True)
    else:
        for backend in options.on:
            times = run_worker(backend, options.networks, options)
            show(backend, times, options.turns)
            if options.parts:
                show_parts(backend, times)
        if options.long:
            show_long(run_worker("long", ["long"], options)["long"])


def run_worker(task: str, names: Sequence[str], options: argparse.Namespace) -> dict[str, Times]:
    """Measure in a new process, since a process has one backend; return what it found, by name."""
    parts = ["--parts"] if options.parts else []
    turns = ["--turns", str(options.turns)]
    networks = ["--networks", *options.networks]
    done = subprocess.run(
        [sys.executable, __file__, "--worker", task, *turns, *parts, *networks],
        env={
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "KERAS_BACKEND": "jax" if task == "jax" else "tensorflow",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    found = {k: v for line in done.stdout.splitlines() for k, v in json.loads(line).items()}
    # A process that has used XLA may crash as it ends, when all is measured.
    if found.keys() != set(names):
        sys.exit(f"{done.stderr}\n{task} ended with exit code {done.returncode}.")
    return found


def over(times: Times, variant: str, other: str, clock: str):
    """Return how much more of the step without clipping a variant takes than another."""
    step = statistics.median(times["none"][clock])
    pairs = zip(times[variant][clock], times[other][clock], strict=True)
    return median([(one - two) / step for one, two in pairs])


def show(backend: str, networks: dict[str, Times], turns: int) -> None:
    """Print one row per network, variant and clock."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{backend}: {turns} turns of {TURN_STEPS} steps")
    headers = ("network", "clipping", "clock", "ms/step", "over none", "over Keras", "goal")
    for header in headers:
        table.add_column(header, justify="left" if header in headers[:3] else "right")
    for network, times in networks.items():
        for variant in times:
            for clock in CLOCKS:
                first = clock == next(iter(CLOCKS))
                against_keras = over(times, variant, KERAS, clock)
                goal = GOALS[network]
                judged = variant.startswith("PercentileClipping")
                table.add_row(
                    network if first and variant == "none" else "",
                    variant if first else "",
                    clock,
                    f"{statistics.median(times[variant][clock]):.2f}",
                    "" if variant == "none" else str(over(times, variant, "none", clock)),
                    str(against_keras) if judged else "",
                    f"{against_keras.verdict(goal)} (+{goal:.0%})" if judged else "",
                    end_section=not first and variant == list(times)[-1],
                )
    Console(width=130).print(table)


def show_parts(backend: str, networks: dict[str, Times]) -> None:
    """Print where the processor time goes, as shares of the step without clipping."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{backend}: where the processor time goes")
    for header in ("network", *PARTS):
        table.add_column(header, justify="left" if header == "network" else "right")
    for network, times in networks.items():
        shares = [over(times, *pair, "CPU") for pair in PARTS.values()]
        table.add_row(network, *(str(share) for share in shares))
    Console(width=130).print(table)


def measure(network: str, backend: str, turns: int, variants: list[str]) -> Times:
    """Return the milliseconds per step of every turn of every variant."""
    import keras

    order = Turns(len(variants))
    # A turn for compiling comes before those that count.
    steps = (turns + 1) * TURN_STEPS
    clocks = [make_clock(order, index, TURN_STEPS) for index in range(len(variants))]
    fits = []
    for variant, clock in zip(variants, clocks, strict=True):
        keras.utils.set_random_seed(0)
        model, data = build(network)
        model.compile(
            optimizer=optimizer(variant),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=backend != "tensorflow",
        )
        fits.append(
            partial(
                model.fit,
                endless(*data),
                steps_per_epoch=steps,
                callbacks=[*clipping(variant), clock],
                shuffle=False,
                verbose=0,
            )
        )
    run_together(fits)
    return {variant: clock.turns for variant, clock in zip(variants, clocks, strict=True)}


def clipping(variant: str) -> list:
    """Return the callbacks of the variant."""
    import tfplaybook as pb

    monitor_only = "monitor_only" in variant
    if variant in (FIXED, FIXED_MONITOR):
        return [pb.callbacks.PercentileClipping(threshold=1.0, monitor_only=monitor_only)]
    if variant.startswith("PercentileClipping"):
        return [pb.callbacks.PercentileClipping(monitor_only=monitor_only)]
    return []


def optimizer(variant: str):
    """Return the optimizer of the variant."""
    import keras
    from keras import ops

    if variant == KERAS:
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


def measure_long() -> Times:
    """Return the milliseconds per step of every lap of 100,000 steps, with and without clipping."""
    import keras
    import numpy as np

    import tfplaybook as pb

    order = Turns(2)
    clocks, fits = [make_clock(order, index, LAP_STEPS) for index in range(2)], []
    x, y = np.ones((8, 4), "float32"), np.ones((8, 1), "float32")
    for clock, callbacks in zip(clocks, ([], [pb.callbacks.PercentileClipping()]), strict=True):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", steps_per_execution=50)
        fits.append(
            partial(
                model.fit,
                endless(x, y),
                steps_per_epoch=(LAPS + 1) * LAP_STEPS,
                callbacks=[*callbacks, clock],
                shuffle=False,
                verbose=0,
            )
        )
    run_together(fits)
    return dict(zip(("none", "PercentileClipping"), (clock.turns for clock in clocks), strict=True))


def show_long(times: Times) -> None:
    """Print the time of a step in each tenth of 100,000 steps, and the slope of the difference."""
    from rich.console import Console
    from rich.table import Table
    from scipy.stats import theilslopes

    table = Table(title="tensorflow, a tiny network: CPU us/step in each 10,000 of 100,000 steps")
    tenth = LAPS // 10
    for column in ("clipping", *(f"{10 * lap}k" for lap in range(1, 11))):
        table.add_column(column, justify="left" if column == "clipping" else "right")
    curves = {name: [1000.0 * lap for lap in clocks["CPU"]] for name, clocks in times.items()}
    curves["difference"] = [
        ours - none for none, ours in zip(curves["none"], curves["PercentileClipping"], strict=True)
    ]
    for name, laps in curves.items():
        tenths = [statistics.median(laps[i : i + tenth]) for i in range(0, LAPS, tenth)]
        table.add_row(name, *(f"{value:.0f}" for value in tenths))
    Console(width=130).print(table)
    slope, _, low, high = (LAPS * value for value in theilslopes(curves["difference"]))
    print(
        f"Growth of the difference over the run: {slope:+.1f} us/step [{low:+.1f}, {high:+.1f}], "
        f"{'constant' if low <= 0.0 <= high else 'not constant'} (Theil-Sen, 95%)."
    )


if __name__ == "__main__":
    main()
