"""Find what limits an input pipeline, and fix it (I9).

    python examples/profile_input.py

The pipeline reads handwritten digits, waits for each as a network file system would make it wait,
augments them and makes batches. The wait is planted: 4 ms per example, one example at a time. Its
profile names the stage and its line, `pipelines.optimize` tries what the profile suggests and keeps
what is faster, and a short training, with the time that it waits for data, is run before and after.
The profiles are drawn into one picture, `runs/profile/profile.png`.
"""

import quiet  # noqa: F401  # isort: skip

import argparse
import time
from pathlib import Path

import keras
import tensorflow as tf
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import pipelines
import tfplaybook as pb

READ_SECONDS = 0.004
BATCH_SIZE = 32


def main() -> None:
    """Profile, repair, and train before and after."""
    parser = argparse.ArgumentParser(
        description="A slow input pipeline, found and repaired.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--steps", type=int, default=60, help="of each training")
    parser.add_argument("--runs", type=Path, default=Path("runs/profile"), help="output directory")
    options = parser.parse_args()

    for finding in pipelines.lint(digits):
        print(f"lint: {finding}")
    # The calls of `read` do not depend on each other.
    found = pipelines.optimize(digits, seconds=options.seconds, allow_stateful=True)
    print(f"\nbefore: {found.before}\n\n{found}\n\nafter: {found.after}\n")

    for name, dataset in (("before", digits()), ("after", found.dataset)):
        print(f"{name}: training waits {waiting(dataset, options.steps):.0%} of its time for data")

    options.runs.mkdir(parents=True, exist_ok=True)
    picture = options.runs / "profile.png"
    figure = Figure(figsize=(7.2, 6.4), dpi=150, layout="constrained")
    profiles = {"before": found.before, "after": found.after}
    for ax, (name, profile) in zip(figure.subplots(2), profiles.items(), strict=True):
        profile.plot(ax)
        ax.set_ylabel(name)
    figure.savefig(picture)
    print(f"picture: {picture}")


def digits() -> tf.data.Dataset:
    """Return shuffled, augmented batches of digits, made in the obvious way."""
    images, labels = load_digits(return_X_y=True)
    examples = tf.data.Dataset.from_tensor_slices((images.astype("float32"), labels))
    examples = examples.shuffle(len(labels), seed=0).repeat()
    examples = examples.map(read)
    examples = examples.map(shift)
    return examples.batch(BATCH_SIZE)


def read(image, label):
    """Wait as for a file system; Python runs one call at a time unless told otherwise."""

    def from_storage(image):
        time.sleep(READ_SECONDS)
        return image

    (image,) = tf.py_function(from_storage, [image], [tf.float32])
    return tf.ensure_shape(image, [64]), label


def shift(image, label):
    """Move the image by a pixel, one way or another."""
    padded = tf.pad(tf.reshape(image, (8, 8, 1)), [[1, 1], [1, 1], [0, 0]])
    seed = tf.stack([tf.cast(label, tf.int64), tf.cast(tf.reduce_sum(image), tf.int64)])
    return tf.image.stateless_random_crop(padded, (8, 8, 1), seed), label


def waiting(dataset: tf.data.Dataset, steps: int) -> float:
    """Train for so many steps and return the share of the time that went into waiting."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Rescaling(1 / 16),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(
        dataset,
        steps_per_epoch=steps,
        shuffle=False,
        verbose=0,
        callbacks=[pb.callbacks.InputMonitor()],
    ).history
    return history["input_wait_fraction"][-1]


if __name__ == "__main__":
    main()
