"""Tune a small convolutional network by the playbook, from the data to a tested model.

    python examples/tune_digits.py                  # handwritten digits that scikit-learn ships
    python examples/tune_digits.py --dataset mnist  # any image classification set of TFDS

1. Explore: 16 short trials at quasi-random points (G1), the learning rate warmed up and decayed in
   each (H8, L5). Read the table.
2. Understand: the playbook's questions, answered, and the pictures behind the answers (B2).
3. Exploit: the best configuration, trained longer on the same schedule, lengthened (H7).
4. Report: test examples classified correctly, counted (I6), beside a support vector machine.
5. What to do next with the study.

Run it again: the study is found finished and only the last training is repeated.
"""

import quiet  # noqa: F401  # isort: skip

import argparse
import sys
import time
from pathlib import Path

import digits
import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

import pipelines
import tfplaybook as pb

EPOCHS = 12
LONG_EPOCHS = 40
WARMUP_FRACTION = 0.1

console = Console()


def main() -> None:
    """Run the whole story."""
    parser, options = parse_options()
    tf.config.experimental.enable_op_determinism()  # the same seed gives the same numbers
    try:
        builder = digits.load(options.dataset, data_dir=options.data_dir)
    except (ValueError, ConnectionError) as error:
        parser.error(str(error))
    splits = choose_splits(builder)
    train = pipelines.training_pipeline(
        builder,
        split=splits["train"],
        batch_size=options.batch_size,
        seed=options.seed,
        map=shift_by_a_pixel,
    )
    valid = pipelines.evaluation_pipeline(builder, split=splits["validation"], batch_size=300)
    test = pipelines.evaluation_pipeline(builder, split=splits["test"], batch_size=300)
    console.rule("Input")
    console.print(pipelines.describe(train), highlight=False, soft_wrap=True)
    input_profile = pipelines.profile(train, seconds=1.0)
    console.print(str(input_profile), highlight=False, soft_wrap=True, markup=False)

    console.rule("Study")
    try:
        tuner = make_tuner(builder, options)
    except ValueError as error:
        parser.error(f"{error} Here: --studies and --overwrite.")
    study = run_study(tuner, train, valid)
    console.print(study.table())
    tensorboard = Path(sys.executable).with_name("tensorboard")
    console.print(f"curves:  {tensorboard} --logdir {study.path}", soft_wrap=True)

    console.rule("What the study says")
    diagnosis = study.diagnose()
    console.print(diagnosis)
    pictures = study.save_plots(study.path / "plots")
    for path in pictures:
        console.print(f"picture: {path}", soft_wrap=True)

    console.rule("The best configuration, trained longer")
    model, training_rate = train_longer(study.best()[0], builder, train, valid, options)
    input_rate = input_profile.rate * train.batch_size
    verdict = "does not limit it" if input_rate > 1.5 * training_rate else "may limit it"
    console.print(
        f"input alone gives {input_rate:,.0f} examples/s, training used {training_rate:,.0f}: "
        f"the input {verdict} (I9)",
        soft_wrap=True,
    )
    report(model, builder, train, test, splits)

    console.rule("What to do next")
    console.print(diagnosis.next_step, highlight=False)
    page = study.report(study.path / "report.html")
    console.print(f"open {page} in a browser", soft_wrap=True)


def parse_options() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Tune a small network by the playbook.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--dataset", default="digits", help="digits, or any TFDS image set")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="prepared data sets")
    parser.add_argument("--studies", type=Path, default=Path("studies"), help="output directory")
    parser.add_argument("--trials", type=positive, default=16, help="points to try")
    parser.add_argument("--batch-size", type=positive, default=64, help="examples per step")
    parser.add_argument("--seed", type=int, default=0, help="of the data, the points, the weights")
    parser.add_argument("--overwrite", action="store_true", help="start the study anew")
    return parser, parser.parse_args()


def positive(text: str) -> int:
    """Read a count of at least 1."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return int(text)


def choose_splits(builder) -> dict[str, str]:
    """Return the builder's splits, with a tenth of the training set where it has no validation."""
    names = set(builder.info.splits)
    if "validation" in names:
        return {"train": "train", "validation": "validation", "test": "test"}
    return {"train": "train[:90%]", "validation": "train[90%:]", "test": "test"}


def shift_by_a_pixel(image, label, seed):
    """Augment: move the image by up to one pixel; a pure function of the example and its seed."""
    padded = tf.pad(image, [[1, 1], [1, 1], [0, 0]])
    return tf.image.stateless_random_crop(padded, image.shape, seed), label


def make_build_model(builder):
    """Return the function from hyperparameters to a compiled model."""
    features = builder.info.features
    image_shape, num_classes = features["image"].shape, features["label"].num_classes

    def build_model(hp):
        # Optimizer hyperparameters are nuisance parameters: all of them are tuned (C3).
        learning_rate = hp.Float("learning_rate", 1e-3, 1.0, sampling="log")
        momentum = hp.Float("momentum", 0.5, 0.99, sampling="reverse_log")
        weight_decay = hp.Float("weight_decay", 1e-6, 1e-2, sampling="log")
        dropout = hp.Float("dropout", 0.0, 0.6)
        model = keras.Sequential(
            [
                keras.Input(image_shape),
                keras.layers.Rescaling(1 / 255),
                keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
                keras.layers.Conv2D(64, 3, padding="same", activation="relu"),
                keras.layers.MaxPooling2D(),
                keras.layers.Dropout(dropout),
                keras.layers.Flatten(),
                keras.layers.Dense(num_classes),
            ]
        )
        model.compile(
            optimizer=keras.optimizers.SGD(
                learning_rate, momentum=momentum, nesterov=True, weight_decay=weight_decay
            ),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            # Weighted: the padding of the last validation batch weighs nothing (I3).
            weighted_metrics=["accuracy"],
        )
        return model

    return build_model


def make_tuner(builder, options) -> pb.search.QuasiRandomSearch:
    """Open the study, or start it."""
    return pb.search.QuasiRandomSearch(
        make_build_model(builder),
        objective="val_loss",
        max_trials=options.trials,
        seed=options.seed,
        directory=options.studies,
        project_name=options.dataset.replace("/", "_"),
        overwrite=options.overwrite,
        goal="Which optimizer settings, dropout and weight decay suit the network?",
    )


def run_study(tuner, train, valid) -> pb.studies.Study:
    """Explore: short trials at quasi-random points; what is done already is not run again."""
    total_steps = EPOCHS * train.steps_per_epoch
    tuner.search(
        train,
        validation_data=valid,
        epochs=EPOCHS,
        steps_per_epoch=train.steps_per_epoch,
        shuffle=False,
        callbacks=[pb.callbacks.WarmupThenDecay(warmup_steps=round(WARMUP_FRACTION * total_steps))],
    )
    return pb.studies.load(tuner.project_dir)


def train_longer(trial, builder, train, valid, options) -> tuple[keras.Model, float]:
    """Exploit: the same peak and warmup, the decay stretched over four times the steps."""
    short_steps = EPOCHS * train.steps_per_epoch
    warmup_steps = round(WARMUP_FRACTION * short_steps)
    short = pb.schedules.WarmupDecaySchedule(
        peak_learning_rate=trial.values["learning_rate"],
        warmup_steps=warmup_steps,
        decay_steps=short_steps - warmup_steps,
    )
    longer = pb.schedules.lengthen(short, LONG_EPOCHS * train.steps_per_epoch)
    keras.utils.set_random_seed(options.seed)
    model = make_build_model(builder)(fixed_hyperparameters(trial.values))
    directory = options.studies.resolve() / f"{options.dataset.replace('/', '_')}_long"
    start = time.perf_counter()
    history = model.fit(
        train,
        validation_data=valid,
        epochs=LONG_EPOCHS,
        steps_per_epoch=train.steps_per_epoch,
        shuffle=False,
        verbose=0,
        callbacks=[
            pb.callbacks.WarmupThenDecay.from_schedule(longer, update_freq="batch"),
            pb.runs.RunRecorder(directory, configuration=trial.values, seed=options.seed),
        ],
    ).history
    seconds = time.perf_counter() - start
    console.print(
        f"trial {trial.trial_id}: {LONG_EPOCHS} epochs in {seconds:.0f} s, "
        f"validation loss {history['val_loss'][-1]:.4f}, accuracy {history['val_accuracy'][-1]:.2%}"
    )
    console.print(f"run:     {directory}", soft_wrap=True)
    return model, LONG_EPOCHS * train.steps_per_epoch * train.batch_size / seconds


def fixed_hyperparameters(values):
    """Return a KerasTuner container that holds exactly `values`."""
    import keras_tuner as kt

    hp = kt.HyperParameters()
    for name, value in values.items():
        hp.Fixed(name, value)
    return hp


def report(model, builder, train, test, splits) -> None:
    """Count correct test examples, of the network and of scikit-learn's SVC on the same split."""
    ours = sum(
        int(np.sum((model.predict_on_batch(x).argmax(-1) == y) & (weight > 0)))
        for x, y, weight in test.as_numpy_iterator()
    )
    print_accuracy("network", ours, test.num_examples)
    if train.num_examples <= 10_000:
        theirs = correct_by_svc(builder, splits)
        print_accuracy("scikit-learn's SVC", theirs, test.num_examples)


def correct_by_svc(builder, splits) -> int:
    """Train a support vector machine on the same training split and count its correct answers."""
    from sklearn.svm import SVC

    def arrays(split):
        images, labels = builder.as_dataset(split=splits[split], batch_size=-1, as_supervised=True)
        return images.numpy().reshape(len(labels), -1) / 255.0, labels.numpy()

    classifier = SVC(gamma="scale", C=10.0).fit(*arrays("train"))
    images, labels = arrays("test")
    return int(np.sum(classifier.predict(images) == labels))


def print_accuracy(name: str, correct: int, total: int) -> None:
    """Print a share together with the counts behind it."""
    console.print(
        f"{name + ':':<20} {correct} of {total} test examples correct, {correct / total:.2%}"
    )


if __name__ == "__main__":
    main()
