"""Draws the gallery and writes a report while the site is built, both of a simulated study."""

import functools
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# No model is trained here, and this backend loads no TensorFlow.
os.environ.setdefault("KERAS_BACKEND", "numpy")

from matplotlib.axes import Axes

from tfplaybook import studies

TRIALS = 40
EXECUTIONS = 2
EVALUATIONS = 25
STEPS_PER_EVALUATION = 40


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pictures and the report to the files of the site; called by MkDocs."""
    for name, content in pictures().items():
        files.append(File.generated(config, f"gallery/{name}.png", content=content))
    files.append(File.generated(config, "gallery/report.html", content=report()))
    return files


@functools.cache
def pictures() -> dict[str, bytes]:
    """Return every picture of `PLOTS` as PNG."""
    study = simulated_study()
    return {name: _png(plot(study)) for name, plot in PLOTS.items()}


@functools.cache
def report() -> str:
    """Return the page that `Study.report` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.html")
        study = simulated_study()
        return study.report(path, scientific=["optimizer"]).read_text(encoding="utf-8")


PLOTS: dict[str, Callable[[studies.Study], Axes]] = {
    "axis": lambda study: studies.plot_axis(study, "learning_rate"),
    "curves": studies.plot_curves,
    "isolation": lambda study: studies.plot_isolation(study, "weight_decay"),
    "budget": studies.plot_budget,
    "parallel": studies.plot_parallel,
    "slice": lambda study: studies.plot_slice(study, "learning_rate", "momentum"),
    "importance": lambda _: studies.plot_importance(*variance_shares()),
    "norms": studies.plot_norms,
    "variance": lambda study: studies.plot_variance(study, most=10),
}

# Each hyperparameter adds its term to the loss; `u` is its place in the range, 0 to 1.
TERMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "learning_rate": lambda u: 1.2 * (u - 0.62) ** 2,
    "momentum": lambda u: 0.5 * (u - 0.7) ** 2,
    "weight_decay": lambda u: 0.35 * (u - 0.4) ** 2,
    "dropout": lambda u: 0.1 * u,
    "optimizer": lambda u: 0.02 * (u > 0.5),
}

SPACE = (
    studies.Hyperparameter("learning_rate", "float", "log", 1e-4, 1.0),
    studies.Hyperparameter("momentum", "float", "reverse_log", 0.5, 0.99),
    studies.Hyperparameter("weight_decay", "float", "log", 1e-6, 1e-2),
    studies.Hyperparameter("dropout", "float", "linear", 0.0, 0.6),
    studies.Hyperparameter("optimizer", "choice", values=("sgd", "nesterov")),
)


def variance_shares() -> tuple[list[str], list[float]]:
    """Return the exact importances: the terms are independent, so their variances add up."""
    variances = {name: term(np.linspace(0.0, 1.0, 1001)).var() for name, term in TERMS.items()}
    total = sum(variances.values())
    return list(variances), [float(variance / total) for variance in variances.values()]


def simulated_study() -> studies.Study:
    """Return a study of quasi-random trials with noise, some of which diverge."""
    rng = np.random.default_rng(0)
    # Multiples of irrational numbers, modulo 1, cover the cube evenly.
    places = np.outer(np.arange(1, TRIALS + 1), np.sqrt([2.0, 3.0, 5.0, 7.0, 11.0])) % 1.0
    rows = [_row(dict(zip(TERMS, place, strict=True)), rng) for place in places]
    return studies.from_records(
        rows,
        objective=studies.Objective("val_loss", "min"),
        space=SPACE,
        name="simulated",
        goal="which optimizer settings suit the network?",
    )


def _row(place: dict[str, float], rng: np.random.Generator) -> dict[str, object]:
    # A high rate with much momentum is a long step.
    diverges = place["learning_rate"] + 0.35 * place["momentum"] > 1.0
    loss = 0.2 + float(sum(term(np.array(place[name])) for name, term in TERMS.items()))
    return {
        "learning_rate": 10.0 ** (-4.0 + 4.0 * place["learning_rate"]),
        "momentum": 1.49 - 0.5 * (0.99 / 0.5) ** (1.0 - place["momentum"]),
        "weight_decay": 10.0 ** (-6.0 + 4.0 * place["weight_decay"]),
        "dropout": 0.6 * place["dropout"],
        "optimizer": "nesterov" if place["optimizer"] > 0.5 else "sgd",
        "curves": [_curves(loss, place, diverges, rng) for _ in range(EXECUTIONS)],
        "message": "infeasible: loss became nan" if diverges else "",
    }


def _curves(
    loss: float, place: dict[str, float], diverges: bool, rng: np.random.Generator
) -> dict[str, object]:
    progress = np.linspace(0.0, 1.0, EVALUATIONS)
    steps = STEPS_PER_EVALUATION * np.arange(1, EVALUATIONS + 1)
    overfitting = 0.25 * (1.0 - place["dropout"]) * np.maximum(progress - 0.7, 0.0)
    validation = loss + 1.5 * np.exp(-6.0 * progress) + rng.normal(0.0, 0.008, EVALUATIONS)
    validation += rng.normal(0.0, 0.006) + overfitting
    training = validation - 0.12 * progress - 2.0 * overfitting
    updates = np.arange(1, steps[-1] + 1)
    norms = (1.0 + 5.0 * np.exp(-updates / 60.0)) * np.exp(rng.normal(0.0, 0.3, len(updates)))
    observed = 300
    threshold = float(np.percentile(norms[observed // 3 : observed], 90.0))
    if diverges:
        end = int(rng.integers(2, 12))
        steps, training, validation = steps[:end], training[:end], validation[:end].copy()
        validation[-1] = np.nan
        updates, norms = updates[: steps[-1]], norms[: steps[-1]]
    return {
        "loss": {"steps": steps, "values": training},
        "val_loss": {"steps": steps, "values": validation},
        "gradient_norm": {"steps": updates, "values": norms},
        "clip_threshold": {
            "steps": updates[observed:],
            "values": np.full(len(updates[observed:]), threshold),
        },
    }


def _png(ax: Axes) -> bytes:
    file = io.BytesIO()
    figure = ax.get_figure()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
