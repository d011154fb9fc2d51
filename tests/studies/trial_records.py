"""Studies in memory for the tests of the diagnoses: no disk, no training."""

from pathlib import Path

import numpy as np

from tfplaybook.runs import Curve, Run
from tfplaybook.studies import Hyperparameter, Objective, Study, Trial

RATE = Hyperparameter("learning_rate", "float", "log", 1e-4, 1.0)
UNITS = Hyperparameter("units", "int", "linear", 16, 512)
OPTIMIZER = Hyperparameter("optimizer", "choice", values=("sgd", "adam"))
EVERY = 10


def run(**curves):
    """Return a run with the curves given by name, one point every 10 steps."""
    return Run(
        Path("run"),
        {"fit": {"epochs": 1, "steps": EVERY}},
        {
            name: Curve(EVERY * np.arange(1, len(values) + 1), np.asarray(values, float))
            for name, values in curves.items()
        },
    )


def trial(index, objective=None, *, status="completed", values=None, runs=()):
    """Return a trial; without `objective` that is the mean of the best `val_loss` of its runs."""
    if objective is None and status == "completed":
        objective = float(np.mean([r.curves["val_loss"].values.min() for r in runs]))
    return Trial(f"{index:04d}", values or {}, status, objective, runs=tuple(runs))


def study(trials, space=(), *, objective=("val_loss", "min")):
    """Return a study of these trials."""
    return Study(Path("round1"), Objective(*objective), tuple(trials), tuple(space))


def curves_study(curves, *, count=5, **others):
    """Return a study of `count` trials that all have `val_loss` of this shape, raised by rank."""
    others = {"loss": np.asarray(curves) * 0.5, **others}
    return study(
        trial(i, runs=[run(val_loss=np.asarray(curves) + 0.01 * i, **others)]) for i in range(count)
    )


def rate_study(objectives, *, space=(RATE,), **options):
    """Return a study whose trials are evenly spaced over learning rates, NaN for infeasible."""
    at = np.linspace(0, 1, len(objectives))
    return study(
        (
            trial(
                i,
                float(y),
                status="completed" if np.isfinite(y) else "infeasible",
                values={"learning_rate": float(1e-4 * 1e4**u)},
            )
            for i, (u, y) in enumerate(zip(at, objectives, strict=True))
        ),
        space,
        **options,
    )
