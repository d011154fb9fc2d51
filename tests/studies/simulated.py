"""Studies in memory, from closed forms: as many trials as wanted, without training or disk."""

from pathlib import Path

import numpy as np

from tfplaybook import studies
from tfplaybook.runs import Curve, Run

LOWER = studies.Objective("val_loss", "min")
HIGHER = studies.Objective("val_accuracy", "max")
RATE = studies.Hyperparameter("learning_rate", "float", "log", 1e-4, 1.0)
MOMENTUM = studies.Hyperparameter("momentum", "float", "reverse_log", 0.5, 0.99)
UNITS = studies.Hyperparameter("units", "int", "linear", 8, 64)
DROPOUT = studies.Hyperparameter("dropout", "float", "linear", 0.0, 1.0)
OPTIMIZER = studies.Hyperparameter("optimizer", "choice", values=("sgd", "adam"))


def trial(index, objective=None, status="completed", runs=(), **values):
    return studies.Trial(f"{index:04d}", values, status, objective, runs=tuple(runs))


def study(*trials, space=(RATE,), objective=LOWER):
    return studies.Study(Path("studies/round1"), objective, trials, tuple(space))


def run(**curves):
    """Return a run with curves against the steps 1, 2, ..."""
    return Run(
        Path(),
        {},
        {
            name: Curve(np.arange(1, len(values) + 1), np.array(values, dtype=float))
            for name, values in curves.items()
        },
    )


def spread(count, objective=LOWER):
    """Return a study of `count` trials over all kinds of axes; every seventh has diverged."""
    trials = []
    for i in range(count):
        u = (np.array([0.5**0.5, 0.7, 0.9, 0.3]) * (i + 1)) % 1.0
        values = {
            "learning_rate": float(10 ** (-4 + 4 * u[0])),
            "units": int(8 + 56 * u[1]),
            "optimizer": ("sgd", "adam")[i % 2],
            "dropout": float(u[2]),
        }
        if i % 2 == 0:
            values["momentum"] = float(1.49 - 0.5 * 1.98 ** (1.0 - u[3]))
        score = float(0.2 + (u[0] - 0.6) ** 2 + 0.1 * u[2])
        score = score if objective.direction == "min" else 1.0 - score
        is_lost = i % 7 == 6
        runs = [run(val_loss=[2.0, score, score + 0.1], gradient_norm=[3.0, 1.0, 2.0])]
        trials.append(
            trial(
                i,
                None if is_lost else score,
                "infeasible" if is_lost else "completed",
                runs,
                **values,
            )
        )
    return study(*trials, space=(RATE, MOMENTUM, UNITS, DROPOUT, OPTIMIZER), objective=objective)
