"""Train the digits on a TPU when one answers, and on this machine otherwise, from the same file.

    python examples/train_tpu.py                 # finds a TPU, or falls back
    python examples/train_tpu.py --tpu my-tpu    # a TPU by name
    python examples/train_tpu.py --replicas 2    # rehearse replicas on virtual CPUs

What a TPU asks for and where it is met here: static shapes (the training pipeline drops the
remainder, the evaluation pipeline pads it), many steps per call of the host
(`steps_per_execution`), a step that XLA compiles (`jit_compile=True` in the rehearsal on one
device; TPUs always compile), no Python inside the step (WarmupThenDecay computes the rate in the
graph), and variables, model, optimizer and callbacks made inside the strategy's scope.

What was run: this file on CPU, with and without XLA, and with 2 replicas of MirroredStrategy. What
was not: no TPU was at hand, so TPUStrategy itself has never run it.
"""

import quiet  # noqa: F401  # isort: skip

import argparse
import functools
import sys
from pathlib import Path

import digits
import keras
import tensorflow as tf

import pipelines
import tfplaybook as pb

STEPS_PER_EXECUTION = 9


def main() -> None:
    """Train and evaluate."""
    options = parse_options()
    strategy = find_strategy(options)
    replicas = strategy.num_replicas_in_sync
    print(f"strategy: {type(strategy).__name__}, replicas: {replicas}")

    builder = digits.load(data_dir=options.data_dir)
    batch_size = 64 * replicas
    train = pipelines.training_pipeline(builder, split="train", batch_size=batch_size, seed=0)
    valid = pipelines.evaluation_pipeline(builder, split="validation", batch_size=batch_size)

    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = build_model(strategy)
        model.fit(
            train,
            validation_data=valid,
            epochs=options.epochs,
            steps_per_epoch=train.steps_per_epoch,
            shuffle=False,
            verbose=2,
            callbacks=[
                pb.callbacks.WarmupThenDecay(warmup_steps=train.steps_per_epoch),
                pb.runs.RunRecorder(options.run),
            ],
        )
        test = pipelines.evaluation_pipeline(builder, split="test", batch_size=batch_size)
        loss, accuracy = model.evaluate(test, verbose=0)
    print(f"test: loss {loss:.4f}, accuracy {accuracy:.2%}")


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Train the digits on a TPU, or rehearse it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--tpu", default="", help="name or address of a TPU; found by default")
    parser.add_argument("--replicas", type=int, default=1, help="virtual CPUs without a TPU")
    parser.add_argument("--epochs", type=int, default=12, help="passes over the data")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="prepared data sets")
    parser.add_argument("--run", type=Path, default=Path("runs/tpu"), help="run directory")
    return parser.parse_args()


def find_strategy(options: argparse.Namespace) -> tf.distribute.Strategy:
    """Return TPUStrategy when a TPU answers, and otherwise the local strategy."""
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(options.tpu)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, OSError, tf.errors.OpError) as error:
        if options.tpu:
            sys.exit(f"no TPU answers by the name {options.tpu!r}: {error}")
    if options.replicas == 1:
        return tf.distribute.get_strategy()
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * options.replicas,
    )
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(options.replicas)])


def build_model(strategy: tf.distribute.Strategy) -> keras.Model:
    """Return the compiled network; call it inside the strategy's scope."""
    convolution = functools.partial(keras.layers.Conv2D, padding="same", activation="relu")
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 255),
            convolution(32, 3),
            convolution(64, 3),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    # Keras' MirroredStrategy neither compiles with XLA nor runs several steps per execution.
    mirrored = isinstance(strategy, tf.distribute.MirroredStrategy)
    model.compile(
        optimizer=keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy"],
        steps_per_execution=1 if mirrored else STEPS_PER_EXECUTION,
        jit_compile=not mirrored,
    )
    return model


if __name__ == "__main__":
    main()
