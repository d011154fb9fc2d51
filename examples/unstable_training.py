"""Train where training diverges: rescued by warmup, then by clipping (figures 6 and 9).

    python examples/unstable_training.py

A deep network without normalisation learns the handwritten digits of scikit-learn, at a learning
rate that its initial weights cannot bear:

1. as it is: the loss explodes in the first updates;
2. with a warmup (L1): it trains, and its gradient norms are recorded on the way (M2);
3. without a warmup, clipped at the 90th percentile of those norms (M3): it trains as well.

The runs and two pictures, of the losses and of the gradient norms, are left in `runs/unstable`.
"""

import quiet  # noqa: F401  # isort: skip

import argparse
import warnings
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import tfplaybook as pb

LEARNING_RATE = 0.03
WARMUP_STEPS = 200
BATCH_SIZE = 64
LAYERS = 10


def main() -> None:
    """Run the three trainings and draw them."""
    options = parse_options()
    plain, warm, clipped = (options.runs / name for name in ("plain", "warmup", "clipped"))
    train(plain, watch(), options=options)
    warmup = pb.callbacks.WarmupThenDecay(warmup_steps=WARMUP_STEPS, decay="constant")
    train(warm, watch(), warmup, options=options)
    threshold = pb.callbacks.threshold_from(warm, percentile=90)
    print(f"threshold: {threshold:.3g}, the 90th percentile of the norms of {warm}")
    clipping = pb.callbacks.PercentileClipping(threshold=threshold)
    train(clipped, clipping, options=options)

    losses = options.runs / "losses.png"
    draw_losses([pb.runs.load_run(run) for run in (plain, warm, clipped)]).savefig(losses)
    norms = options.runs / "gradient_norms.png"
    clipping.plot().savefig(norms)
    print(f"pictures:  {losses}, {norms}")


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Training that diverges, rescued twice.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--epochs", type=int, default=20, help="passes over the data")
    parser.add_argument("--runs", type=Path, default=Path("runs/unstable"), help="output directory")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the order")
    options = parser.parse_args()
    if options.epochs < 10:
        parser.error(
            f"--epochs must be at least 10, as the warmup alone takes {WARMUP_STEPS} updates"
        )
    return options


def watch() -> pb.callbacks.PercentileClipping:
    """Return a callback that records gradient norms and clips nothing."""
    return pb.callbacks.PercentileClipping(monitor_only=True)


def compiled_network(seed: int) -> keras.Model:
    """Return a deep network whose initial weights are too large: its outputs are in the tens."""
    keras.utils.set_random_seed(seed)
    initializer = keras.initializers.VarianceScaling(4.0)
    hidden = [
        keras.layers.Dense(128, activation="relu", kernel_initializer=initializer.clone())
        for _ in range(LAYERS)
    ]
    model = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10)])
    model.compile(
        keras.optimizers.SGD(LEARNING_RATE, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


class BatchLosses(keras.callbacks.Callback):
    """Records the training loss of every batch into the run.

    Args:
        recorder: Of the same `fit`.
    """

    def __init__(self, recorder: pb.runs.RunRecorder):
        super().__init__()
        self.recorder = recorder

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Record the loss; the metric of this batch alone, see `on_train_batch_begin`."""
        step = int(self.model.optimizer.iterations)
        self.recorder.scalar("batch_loss", step, (logs or {})["loss"])

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Start the mean of the epoch anew, so that it is that of one batch."""
        self.model.reset_metrics()


def train(run: Path, *callbacks: keras.callbacks.Callback, options: argparse.Namespace) -> None:
    """Train a new network from the same seed into the run directory."""
    images, labels = load_digits(return_X_y=True)
    count = len(images) // BATCH_SIZE * BATCH_SIZE  # a rest of five would be a batch of its own
    recorder = pb.runs.RunRecorder(run, seed=options.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the advice, which is printed below
        compiled_network(options.seed).fit(
            (images[:count] / 16).astype("float32"),
            labels[:count],
            batch_size=BATCH_SIZE,
            epochs=options.epochs,
            verbose=0,
            callbacks=[*callbacks, BatchLosses(recorder), recorder],
        )
    last = pb.runs.load_run(run).curves["batch_loss"].values[-20:]
    print(f"{run.name + ':':<10} mean loss of the last updates {np.mean(last):.3g}")
    for advice in callbacks[0].advice:
        print(f"           {advice}")


def draw_losses(runs: list[pb.runs.Run]) -> Figure:
    """Draw the loss of every update; a run ends in a cross where its loss is not finite."""
    figure = Figure(figsize=(7.0, 4.0), dpi=150, layout="constrained")
    ax = figure.subplots()
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_yscale("log")
    ax.set_ylim(1e-3, 1e3)
    ax.set_xlabel("update")
    ax.set_ylabel("training loss of the batch")
    for run, color in zip(runs, ("#d62728", "#0072b2", "#e69f00"), strict=True):
        curve = run.curves["batch_loss"]
        finite = np.isfinite(curve.values)
        ax.plot(curve.steps[finite], curve.values[finite], color=color, lw=1, label=run.path.name)
        if not finite.all():
            first = curve.steps[~finite][0]
            ax.plot(
                first,
                0.97,
                "x",
                color=color,
                ms=9,
                mew=2.5,
                transform=ax.get_xaxis_transform(),
                label=f"not finite from update {first} on",
            )
    ax.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
