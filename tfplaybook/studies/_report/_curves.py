"""The curves of a study, thinned so that a page holds those of all trials."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfplaybook._files import encode_number
from tfplaybook.runs import Curve
from tfplaybook.studies._records import Study

# About 10 bytes each in the page.
_MOST_POINTS = 18_000
_FEWEST_POINTS_OF_A_CURVE = 12
_MOST_POINTS_OF_A_CURVE = 200
_DIGITS = 5


def page_curves(study: Study) -> tuple[list[list[int]], list[list[dict[str, Any]]]]:
    """Return the distinct lists of steps, and of every trial the curves of every run.

    A curve is `[index of its steps, its values]`, by the name of its metric.
    """
    count = sum(len(run.curves) for trial in study.trials for run in trial.runs)
    most = _MOST_POINTS // max(count, 1)
    most = min(max(most, _FEWEST_POINTS_OF_A_CURVE), _MOST_POINTS_OF_A_CURVE)
    steps: dict[tuple[int, ...], int] = {}

    def entry(curve: Curve) -> list[Any]:
        shown = thinned(curve, most)
        index = steps.setdefault(tuple(shown.steps.tolist()), len(steps))
        return [index, [rounded(value) for value in shown.values.tolist()]]

    curves = [
        [{name: entry(curve) for name, curve in run.curves.items()} for run in trial.runs]
        for trial in study.trials
    ]
    return [list(known) for known in steps], curves


def thinned(curve: Curve, most: int) -> Curve:
    """Return at most about `most` points of a curve, its ends and its extremes among them.

    The first value that is not finite stays too.
    """
    count = len(curve.steps)
    if count <= most:
        return curve
    kept = set(np.linspace(0, count - 1, most - 3).round().astype(int).tolist())
    finite = np.isfinite(curve.values)
    if finite.any():
        kept.add(int(np.argmin(np.where(finite, curve.values, np.inf))))
        kept.add(int(np.argmax(np.where(finite, curve.values, -np.inf))))
    if not finite.all():
        kept.add(int(np.argmin(finite)))
    order: Sequence[int] = sorted(kept)
    return Curve(curve.steps[order], curve.values[order])


def rounded(value: float) -> float | str:
    """Return `value` for JSON, with as many digits as a picture can show.

    >>> rounded(0.12345678), rounded(float("nan"))
    (0.12346, 'NaN')
    """
    return encode_number(float(f"{value:.{_DIGITS}g}"))


def recorded_metrics(study: Study) -> Mapping[str, int]:
    """Return the metrics of which there are curves, each with the number of trials."""
    counts: dict[str, int] = {}
    for trial in study.trials:
        for name in dict.fromkeys(name for run in trial.runs for name in run.curves):
            counts[name] = counts.get(name, 0) + 1
    return counts
