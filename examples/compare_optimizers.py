"""Is Adam better than Nesterov momentum here? The playbook's own example, as a conditional study.

    python examples/compare_optimizers.py

The optimizer is *scientific*: its effect is the question. Learning rate and momentum mean something
else for each, so each has its own, with ranges of their own (C4). They are *nuisance*
hyperparameters, like the dropout: a comparison at one learning rate would only say which optimizer
that rate suits. The width of the network is *fixed*, and every conclusion carries that caveat (C1).

Both optimizers get as many trials and meet the same dropouts (C5). The isolation plot (E3) compares
the best trial of each. The study and the picture are left in `studies/optimizers`.
"""

import quiet  # noqa: F401  # isort: skip

import argparse
from pathlib import Path

import keras
import tensorflow as tf
from rich.console import Console
from sklearn.datasets import load_digits

import tfplaybook as pb

OPTIMIZERS = ("nesterov", "adam")
BATCH_SIZE = 64

console = Console()


def main() -> None:
    """Search, compare, draw."""
    options = parse_options()
    tf.config.experimental.enable_op_determinism()  # the same seed gives the same numbers
    roles = pb.search.Roles(scientific=["optimizer"], fixed={"width": 128})
    build_model = make_build_model(options.trials // len(OPTIMIZERS))
    plan = roles.plan(build_model, max_trials=options.trials, joint=True)
    console.print(str(plan), highlight=False, soft_wrap=True)
    (planned,) = plan
    tuner = pb.search.QuasiRandomSearch(
        build_model,
        objective="val_loss",
        max_trials=planned.max_trials,
        roles=planned.roles,
        seed=options.seed,
        directory=options.studies,
        project_name="optimizers",
        goal="Is Adam better than Nesterov momentum?",
    )
    images, labels = load_digits(return_X_y=True)
    train, valid = slice(0, 1197), slice(1197, 1497)
    steps = options.epochs * -(-1197 // BATCH_SIZE)
    tuner.search(
        images[train],
        labels[train],
        validation_data=(images[valid], labels[valid]),
        batch_size=BATCH_SIZE,
        epochs=options.epochs,
        callbacks=[pb.callbacks.WarmupThenDecay(warmup_steps=steps // 10)],
    )
    study = pb.studies.load(tuner.project_dir)
    console.print(study.table())
    compare(study)
    picture = study.path / "isolation_optimizer.png"
    pb.studies.plot_isolation(study, "optimizer").figure.savefig(picture)
    console.print(f"picture: {picture}", soft_wrap=True)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Nesterov momentum against Adam.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--trials", type=int, default=32, help="of both optimizers together")
    parser.add_argument("--epochs", type=int, default=12, help="passes over the data")
    parser.add_argument("--studies", type=Path, default=Path("studies"), help="output directory")
    parser.add_argument("--seed", type=int, default=0, help="of the points and the weights")
    options = parser.parse_args()
    if options.trials < len(OPTIMIZERS) or options.epochs < 1:
        parser.error(f"--trials must be at least {len(OPTIMIZERS)} and --epochs at least 1")
    return options


def make_build_model(trials_each: int):
    """Return the function from hyperparameters to a compiled model."""

    def build_model(hp):
        name = hp.Choice("optimizer", list(OPTIMIZERS))
        with hp.conditional_scope("optimizer", ["nesterov"]):
            nesterov = pb.search.nesterov_space(hp, trials_each)
        with hp.conditional_scope("optimizer", ["adam"]):
            adam = pb.search.adam_space(hp, trials_each)
        is_adam = name == "adam"
        optimizer = keras.optimizers.Adam(**adam) if is_adam else keras.optimizers.SGD(**nesterov)
        model = keras.Sequential(
            [
                keras.Input((64,)),
                keras.layers.Rescaling(1 / 16),
                keras.layers.Dense(hp.Int("width", 32, 256), activation="relu"),
                keras.layers.Dropout(hp.Float("dropout", 0.0, 0.6)),
                keras.layers.Dense(10),
            ]
        )
        model.compile(
            optimizer=optimizer,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return model

    return build_model


def compare(study: pb.studies.Study) -> None:
    """Print the best trial of each optimizer, with what the comparison rests on."""
    for name in OPTIMIZERS:
        trials = [trial for trial in study.trials if trial.values["optimizer"] == name]
        ranked = [trial for trial in study.ranked() if trial in trials]
        best = "none completed"
        if ranked:
            best = f"best {study.objective.name} {ranked[0].objective:.4f} "
            best += f"at learning rate {ranked[0].declared_values['learning_rate']:.2g}"
        diverged = sum(trial.status == "infeasible" for trial in trials)
        console.print(f"{name}: {len(trials)} trials, {diverged} infeasible, {best}")
    console.print(study.roles.caveat)


if __name__ == "__main__":
    main()
