"""Studies on disk without training: the files that a search writes, in their real formats."""

import json
import math
from pathlib import Path


def hyperparameter(kind, name, *, conditions=(), **config):
    """Return KerasTuner's configuration of a hyperparameter."""
    if kind in ("Float", "Int"):
        config = {"step": None, "sampling": "linear", **config}
    parents = [
        {"class_name": "Parent", "config": {"name": parent, "values": values}}
        for parent, values in conditions
    ]
    return {"class_name": kind, "config": {"name": name, "conditions": parents, **config}}


RATE = hyperparameter("Float", "learning_rate", min_value=1e-4, max_value=1.0, sampling="log")
UNITS = hyperparameter("Int", "units", min_value=8, max_value=64)
OPTIMIZER = hyperparameter("Choice", "optimizer", values=["sgd", "adam"], ordered=False)


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_run(directory, curves, every=10):
    """Write `run.json` and `curves.jsonl`; `curves` maps a name to its values."""
    write_json(directory / "run.json", {"format": 1, "seed": 0})
    rows = [{"attempt": 1, "step": 0}]
    for name, values in curves.items():
        rows += [
            {"step": every * i, "name": name, "value": v if math.isfinite(v) else _spell(v)}
            for i, v in enumerate(values, start=1)
        ]
    (directory / "curves.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _spell(value):
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def write_trial(directory, values, score=None, status="COMPLETED", message=None, **options):
    """Write a trial directory; `runs` in the options holds the curves of each execution."""
    metric = options.get("metric", "val_loss")
    observations = [] if score is None else [{"value": [score], "step": 3}]
    history = {"direction": options.get("direction", "min"), "observations": observations}
    state = {
        "trial_id": directory.name.removeprefix("trial_"),
        "hyperparameters": {"space": [], "values": values},
        "metrics": {"metrics": {metric: history}},
        "score": score,
        "best_step": 3 if score is not None else 0,
        "status": status,
        "message": message,
    }
    write_json(directory / "trial.json", state)
    for index, curves in enumerate(options.get("runs", ())):
        write_run(directory / f"execution_{index}", curves)


def write_study(
    path,
    trials=(),
    space=(RATE, UNITS, OPTIMIZER),
    *,
    objective=("val_loss", "min"),
    header=True,
    **entries,
):
    """Write a study whose trials are keyword arguments of `write_trial`, and return its path.

    `header=False` leaves out `study.json`: a plain KerasTuner project.
    """
    path = Path(path)
    name, direction = objective
    write_json(
        path / "oracle.json",
        {"seed": 7, "hyperparameters": {"space": list(space), "values": {}}},
    )
    if header:
        content = {
            "format": 1,
            "objective": {"name": name, "direction": direction},
            "seed": 0,
            "start_index": 0,
            "max_trials": 100,
            "executions_per_trial": 1,
            "space": list(space),
            "primes": {
                entry["config"]["name"]: 2 + index
                for index, entry in enumerate(space)
                if entry["class_name"] != "Fixed"
            },
            "goal": "",
            "note": "",
            **entries,
        }
        write_json(path / "study.json", content)
    for index, trial in enumerate(trials):
        write_trial(
            path / f"trial_{index:04d}", **{"metric": name, "direction": direction, **trial}
        )
    return path
