"""The record of one evaluation, and a list of them as plain arrays."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

_METRICS = "metrics/"
_CLASSES = ("correct_per_class", "examples_per_class")
_UNKNOWN = -1


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What one evaluation found.

    Attributes:
        step: Optimizer updates made before it.
        metrics: The metrics by name, prefix included: `{"val_loss": 0.31, ...}`.
        seconds: How long it took.
        num_examples: Examples evaluated, padding not included; None if not known.
        correct_per_class: Correct examples of each class; None unless asked for.
        examples_per_class: Examples of each class; None unless asked for.
    """

    step: int
    metrics: Mapping[str, float]
    seconds: float
    num_examples: int | None = None
    correct_per_class: tuple[int, ...] | None = None
    examples_per_class: tuple[int, ...] | None = None


def pack(evaluations: Sequence[Evaluation]) -> dict[str, np.ndarray]:
    """Return the evaluations as arrays with one entry each; NaN for a metric that one lacks."""
    names = dict.fromkeys(name for evaluation in evaluations for name in evaluation.metrics)
    state = {
        "steps": np.array([e.step for e in evaluations], "int64"),
        "seconds": np.array([e.seconds for e in evaluations], "float64"),
        "num_examples": np.array(
            [_UNKNOWN if e.num_examples is None else e.num_examples for e in evaluations], "int64"
        ),
    }
    for name in names:
        values = [e.metrics.get(name, np.nan) for e in evaluations]
        state[_METRICS + name] = np.array(values, "float64")
    for name in _CLASSES:
        counts = [getattr(e, name) for e in evaluations]
        if counts and all(count is not None for count in counts):
            state[name] = np.array(counts, "int64")
    return state


def unpack(state: Mapping[str, np.ndarray]) -> list[Evaluation]:
    """Return the evaluations that `pack` made into `state`.

    Raises:
        ValueError: `state` is something else.
    """
    arrays = {name: np.asarray(value) for name, value in state.items()}
    lengths = {name: array.shape[:1] for name, array in arrays.items()}
    known = {"steps", "seconds", "num_examples"}
    strange = [
        name for name in arrays if name not in {*known, *_CLASSES} and not name.startswith(_METRICS)
    ]
    if strange or not known <= set(arrays) or len(set(lengths.values())) != 1:
        raise ValueError(
            "`state` must be the state_dict of a PeriodicEvaluation: 'steps', 'seconds', "
            "'num_examples' and 'metrics/...', all of one length. Received: "
            f"{ {name: array.shape for name, array in arrays.items()} }."
        )
    metrics = {n.removeprefix(_METRICS): a for n, a in arrays.items() if n.startswith(_METRICS)}
    return [
        Evaluation(
            step=int(arrays["steps"][i]),
            metrics={name: float(values[i]) for name, values in metrics.items()},
            seconds=float(arrays["seconds"][i]),
            num_examples=None if arrays["num_examples"][i] < 0 else int(arrays["num_examples"][i]),
            **{name: tuple(arrays[name][i].tolist()) for name in _CLASSES if name in arrays},
        )
        for i in range(len(arrays["steps"]))
    ]
