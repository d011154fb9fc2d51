"""I7: do metrics repeat with a period, as leaking or badly shuffled data makes them?"""

import math
import statistics
from typing import NamedTuple

import numpy as np

from tfplaybook._arguments import check_count, check_number
from tfplaybook.studies._diagnoses._finding import Finding, count_of
from tfplaybook.studies._diagnoses._signals import training_name
from tfplaybook.studies._records import Study

FEWEST_POINTS = 24
_SKIPPED_FRACTION = 0.1
_NEIGHBOURS = 6
_FEWEST_PERIODS = 4


class _Peak(NamedTuple):
    """The highest peak of a spectrum over its surroundings."""

    name: str
    period_points: float
    spacing: float
    ratio: float
    limit: float
    curves: int


def periodicity(
    study: Study, *, max_chance: float = 1e-4, shuffle_steps: int | None = None
) -> Finding:
    """Say whether the objective or a training metric repeats with a period (I7).

    The curves' first tenth is left out. The power spectra are averaged over
    all trials, and each frequency is compared with the median of its surroundings, so that noise
    of any smooth spectrum has no peak. Periods from 2 points to a quarter of the curve are seen:
    what repeats within an epoch needs metrics that are recorded within the epoch.

    Args:
        study: The study; evenly spaced curves of at least 24 points.
        max_chance: Largest probability with which noise may have such a peak anywhere.
        shuffle_steps: Steps in which the shuffle buffer or a file is used up, if it is known.

    Raises:
        ValueError: If an option is out of range.
    """
    check_number("max_chance", max_chance, above=0.0, maximum=0.5)
    if shuffle_steps is not None:
        shuffle_steps = check_count("shuffle_steps", shuffle_steps, minimum=1)
    thresholds = {"max_chance": max_chance}
    names = dict.fromkeys((study.objective.name, training_name(study), "loss"))
    peaks = [peak for name in names if (peak := _peak(study, name, max_chance)) is not None]
    if not peaks:
        reason = f"No metric was recorded at {FEWEST_POINTS} or more evenly spaced steps"
        return Finding("periodicity", "I7", "unknown", reason, thresholds=thresholds)
    peak = max(peaks, key=lambda p: p.ratio / p.limit)
    numbers = {
        "period_steps": peak.period_points * peak.spacing,
        "peak": peak.ratio,
        "peak_limit": peak.limit,
    }
    if peak.ratio <= peak.limit:
        evidence = f"No metric repeats with a period, over {count_of(peak.curves, 'curve')}"
        return Finding("periodicity", "I7", "ok", evidence, "", numbers, thresholds)
    return Finding(
        "periodicity",
        "I7",
        "act",
        f"{peak.name} repeats every {numbers['period_steps']:.3g} steps"
        f"{_meaning(study, numbers['period_steps'], shuffle_steps)}: {peak.ratio:.1f} times the "
        f"power around, over {count_of(peak.curves, 'curve')}",
        "Look for data that is not shuffled, or that leaks from training into validation.",
        numbers,
        thresholds,
    )


def _peak(study: Study, name: str, max_chance: float) -> _Peak | None:
    curves = [curve for trial in study.trials for curve in trial.curves(name)]
    curves = [c for c in curves if len(c.values) >= FEWEST_POINTS and np.isfinite(c.values).all()]
    curves = [c for c in curves if np.ptp(np.diff(c.steps)) <= 0.01 * np.diff(c.steps).mean()]
    if not curves:
        return None
    # Spectra can be averaged only over curves of one form, say of trials that ran to the end.
    form = statistics.mode((len(c.values), int(c.steps[1] - c.steps[0])) for c in curves)
    curves = [c for c in curves if (len(c.values), int(c.steps[1] - c.steps[0])) == form]
    count, spacing = form
    start = int(_SKIPPED_FRACTION * count)
    spectra = [p for c in curves if (p := _spectrum(c.values[start:])) is not None]
    if not spectra:
        return None
    power = np.mean(spectra, axis=0)
    ratios = power / _surroundings(power, len(spectra))
    ratios[: _FEWEST_PERIODS - 1] = 0.0
    at = int(ratios.argmax())
    limit = _peak_limit(len(spectra), max_chance / len(power))
    period = (count - start - 2) / (at + 1 + _offset(power, at))
    return _Peak(name, period, spacing, float(ratios[at]), limit, len(spectra))


def _spectrum(values: np.ndarray) -> np.ndarray | None:
    """Return the power at each frequency but 0, of mean 1; None of a constant.

    Taken of second differences, in which a smooth trend is small, and scaled back to the values.
    """
    steps = np.diff(values, 2)
    steps = (steps - steps.mean()) * np.hanning(len(steps) + 2)[1:-1]
    power = np.abs(np.fft.rfft(steps)[1:]) ** 2
    power /= np.sin(np.pi * np.arange(1, len(power) + 1) / len(steps)) ** 4
    return power / power.mean() if power.max() > 0 else None


def _surroundings(power: np.ndarray, count: int) -> np.ndarray:
    """Return the mean power on the higher side of each frequency, so that a slope is no peak.

    From the median, which another peak does not move.
    """
    around = np.empty_like(power)
    for i in range(len(power)):
        sides = power[max(0, i - _NEIGHBOURS) : max(0, i - 1)], power[i + 2 : i + 1 + _NEIGHBOURS]
        around[i] = max(np.median(side) for side in sides if len(side))
    # The median of the mean of `count` exponential numbers, over its expectation.
    return np.maximum(around, np.finfo(float).tiny) / (1 - 1 / (9 * count)) ** 3


def _offset(power: np.ndarray, at: int) -> float:
    """Return how far the top of a parabola through the logarithms is from the highest of three."""
    if not 0 < at < len(power) - 1 or power[at - 1 : at + 2].min() <= 0:
        return 0.0
    left, top, right = np.log(power[at - 1 : at + 2])
    bend = left - 2 * top + right
    return float(np.clip((left - right) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0


def _peak_limit(count: int, chance: float) -> float:
    """Return what the mean of `count` exponential numbers exceeds with probability `chance`.

    By Wilson and Hilferty (1931), with the variance of the surroundings it is divided by added.
    """
    z = -statistics.NormalDist().inv_cdf(chance) * math.sqrt(1 + math.pi / (4 * _NEIGHBOURS))
    return (1 - 1 / (9 * count) + z / (3 * math.sqrt(count))) ** 3


def _meaning(study: Study, period: float, shuffle_steps: int | None) -> str:
    """Return the period in epochs, and in shuffle buffers if their length is known."""
    lengths = [
        steps
        for trial in study.trials
        for run in trial.runs
        if isinstance(steps := (run.info.get("fit") or {}).get("steps"), int) and steps > 0
    ]
    known = {"epochs": statistics.mode(lengths) if lengths else None, "buffers": shuffle_steps}
    return "".join(f", {period / steps:.1f} {name}" for name, steps in known.items() if steps)
