"""`compare_sample`: does a sampled evaluation set track the full one (I5)?"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from tfplaybook._arguments import check_count, check_number
from tfplaybook.callbacks._evaluation import Evaluation
from tfplaybook.runs import Curve

# Ours: the playbook asks that the sample "matches" and gives no numbers.
LEAST_CORRELATION = 0.9
MOST_STANDARD_ERRORS = 2.0


@dataclasses.dataclass(frozen=True)
class SampleCheck:
    """How far a metric on a sample of the evaluation set is from the one on all of it.

    Attributes:
        metric: Name of the metric.
        steps: Steps at which both were measured.
        bias: Mean over the steps of sample minus full. The sample stays the same, so this does not
            average out.
        correlation: Pearson's, over the steps; NaN if one of them never moved.
        largest_difference: Sample minus full where they are furthest apart.
        largest_difference_step: The step of that.
        sample_size: Examples of the sample; None if not known.
        standard_error: Expected of the bias for a random sample of this size; None if not known.
        tracks: Whether the correlation is at least 0.9 and the bias at most 2 standard errors,
            where these are known; also if the two never differed.
    """

    metric: str
    steps: tuple[int, ...]
    bias: float
    correlation: float
    largest_difference: float
    largest_difference_step: int
    sample_size: int | None
    standard_error: float | None
    tracks: bool

    def __str__(self) -> str:
        size = "" if self.sample_size is None else f" of {self.sample_size:,} examples"
        error = (
            "no standard error known"
            if self.standard_error is None
            else f"{_ratio(self.bias, self.standard_error):.1f} standard errors of "
            f"{self.standard_error:.3g}"
        )
        text = (
            f"{self.metric}: the sample{size} {'tracks' if self.tracks else 'does not track'} the "
            f"full set (I5): bias {self.bias:+.3g} ({error}), correlation {self.correlation:.3f} "
            f"over {len(self.steps)} steps, largest difference {self.largest_difference:+.3g} at "
            f"step {self.largest_difference_step:,}."
        )
        return text if self.tracks else f"{text} {self._remedy()}"

    def _remedy(self) -> str:
        error = self.standard_error
        if error is not None and abs(self.bias) > MOST_STANDARD_ERRORS * error:
            return "So large a bias is not chance: draw the sample at random from the full set."
        return "Take a larger sample."


def compare_sample(
    full: Sequence[Evaluation] | Curve,
    sample: Sequence[Evaluation] | Curve,
    *,
    metric: str = "val_loss",
    sample_metric: str | None = None,
    sample_size: int | None = None,
    full_size: int | None = None,
    example_std: float | None = None,
) -> SampleCheck:
    """Check that a sampled evaluation set tracks the full one, at the steps of both.

    Evaluating often is affordable on a sample, if it says what the full set would (I5). Run two
    `PeriodicEvaluation` for a while, the full one at a multiple of the sample's `every_steps`, and
    compare. The standard error expected of a random sample of n of N examples is

        sqrt(s^2 / n * (N - n) / (N - 1)),

    where s is the standard deviation over the examples: `example_std`, or sqrt(p (1 - p)) for an
    accuracy whose mean is p.

    Examples:
        >>> import tfplaybook as pb
        >>> full = pb.runs.Curve([100, 200, 300], [0.50, 0.70, 0.80])
        >>> sample = pb.runs.Curve([50, 100, 150, 200, 300], [0.3, 0.52, 0.6, 0.71, 0.81])
        >>> check = pb.callbacks.compare_sample(
        ...     full, sample, metric="val_accuracy", sample_size=400, full_size=10_000)
        >>> check.tracks
        True
        >>> print(check)  # doctest: +NORMALIZE_WHITESPACE
        val_accuracy: the sample of 400 examples tracks the full set (I5): bias +0.0133 (0.6
        standard errors of 0.0231), correlation 1.000 over 3 steps, largest difference +0.02 at
        step 100.

    Args:
        full: `PeriodicEvaluation.evaluations` of the full set, or a curve of the metric.
        sample: The same of the sample.
        metric: Name of the metric in the evaluations.
        sample_metric: Its name in those of the sample, by default the same.
        sample_size: Examples of the sample; by default as the evaluations say.
        full_size: Examples of the full set; by default as the evaluations say.
        example_std: Standard deviation of the metric over single examples, at least 0. Needed for
            the standard error of anything but an accuracy.

    Raises:
        ValueError: There are fewer than two common steps, the metric is not in the evaluations,
            a value is not finite, or a size is not a positive integer.

    Source: playbook I5.
    """
    sizes = [_size("sample_size", sample_size, sample), _size("full_size", full_size, full)]
    full_values = _values("full", full, metric)
    sample_values = _values("sample", sample, sample_metric or metric)
    steps = sorted(full_values.keys() & sample_values.keys())
    if len(steps) < 2:
        raise ValueError(
            "The two must have been measured at two common steps at least. Received: "
            f"{len(steps)} of {len(full_values)} steps of `full` and {len(sample_values)} of "
            "`sample`. Let `every_steps` of the one be a multiple of the other's."
        )
    a = np.array([full_values[step] for step in steps])
    b = np.array([sample_values[step] for step in steps])
    if not np.all(np.isfinite([a, b])):
        raise ValueError(
            f"{metric!r} must be finite at the common steps. Received: NaN or infinity; leave out "
            "the steps at which the run diverged."
        )
    if example_std is not None:
        example_std = check_number("example_std", example_std, minimum=0.0)
    elif metric.endswith(("accuracy", "_acc")) and 0.0 <= a.mean() <= 1.0:
        example_std = math.sqrt(a.mean() * (1.0 - a.mean()))
    difference = b - a
    largest = int(np.argmax(np.abs(difference)))
    bias, correlation = float(difference.mean()), _correlation(a, b)
    error = None if example_std is None else _standard_error(example_std, *sizes)
    near = error is None or abs(bias) <= MOST_STANDARD_ERRORS * error
    return SampleCheck(
        metric=metric,
        steps=tuple(steps),
        bias=bias,
        correlation=correlation,
        largest_difference=float(difference[largest]),
        largest_difference_step=steps[largest],
        sample_size=sizes[0],
        standard_error=error,
        tracks=not difference.any() or (correlation >= LEAST_CORRELATION and near),
    )


def _size(name: str, given: int | None, measured: Sequence[Evaluation] | Curve) -> int | None:
    if given is not None:
        return check_count(name, given, minimum=1)
    if isinstance(measured, Curve) or not measured:
        return None
    return measured[-1].num_examples


def _values(name: str, measured: Sequence[Evaluation] | Curve, metric: str) -> dict[int, float]:
    if isinstance(measured, Curve):
        steps, values = np.asarray(measured.steps), np.asarray(measured.values, "float64")
        return dict(zip(steps.tolist(), values.tolist(), strict=True))
    known = sorted({key for evaluation in measured for key in evaluation.metrics})
    if metric not in known:
        raise ValueError(f"`{name}` must have the metric {metric!r}. It has: {known}.")
    return {e.step: e.metrics[metric] for e in measured if metric in e.metrics}


def _standard_error(std: float, sample_size: int | None, full_size: int | None) -> float | None:
    if sample_size is None:
        return None
    variance = std**2 / sample_size
    if full_size is not None and full_size > 1:
        variance *= max(full_size - sample_size, 0) / (full_size - 1)
    return math.sqrt(variance)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def _ratio(bias: float, error: float) -> float:
    return abs(bias) / error if error > 0.0 else (math.inf if bias else 0.0)
