"""What the gradient norms of a run say about its stability: pure functions from arrays."""

import dataclasses

import numpy as np

from tfplaybook.runs._norms_plot import is_clipped

OFTEN_FRACTION = 0.5
STRETCH_STEPS = 1000
FEWEST_STEPS = 20
CALM_STEPS = 100
CALM_FACTOR = 3.0
SPIKE_FACTOR = 10.0

_WINDOWS_AT_ONCE = 10_000


@dataclasses.dataclass(frozen=True)
class ClippingAdvice:
    """One thing that the norms of a run say, with its evidence; `str` is the sentence.

    Args:
        source: The line of the playbook, such as `"M5"`.
        finding: What was seen, with the numbers.
        value: The measured number.
        threshold: The number that it exceeds.
        steps: First and last update that it was seen at.
        remedy: What to do.
    """

    source: str
    finding: str
    value: float
    threshold: float
    steps: tuple[int, int]
    remedy: str

    def __str__(self) -> str:
        return f"{self.finding} ({self.source}): {self.remedy}"


def advise(
    steps: np.ndarray, norms: np.ndarray, thresholds: np.ndarray, *, clips: bool = True
) -> tuple[ClippingAdvice, ...]:
    """Return everything that there is to say, the most severe first.

    Args:
        steps: Number of each update, int (n,), ascending.
        norms: Norm before clipping of each update, float (n,); may be not finite.
        thresholds: Threshold of each update, float (n,); infinite where nothing is clipped.
        clips: Whether the updates were clipped, or only observed.
    """
    found = (
        non_finite(steps, norms),
        clipped_often(steps, norms, thresholds, clips=clips),
        spikes(steps, norms),
    )
    return tuple(advice for advice in found if advice is not None)


def clipped_often(
    steps: np.ndarray, norms: np.ndarray, thresholds: np.ndarray, *, clips: bool = True
) -> ClippingAdvice | None:
    """Return advice if over half of the updates of some stretch were clipped (M5).

    A stretch is 1000 updates, or all of a shorter run; updates that could not be clipped, because
    their threshold was not set yet or their norm not finite, do not count. Fewer than 20 of them
    are no evidence.
    """
    counted = np.isfinite(thresholds) & np.isfinite(norms)
    steps, clipped = steps[counted], is_clipped(norms, thresholds)[counted]
    if len(steps) < FEWEST_STEPS:
        return None
    # A short rest at the end would be a small sample of its own: it joins the stretch before it.
    starts = np.arange(0, max(len(steps) - STRETCH_STEPS // 2, 1), STRETCH_STEPS)
    stretches = np.split(np.arange(len(steps)), starts[1:])
    fractions = [float(np.mean(clipped[stretch])) for stretch in stretches]
    worst = int(np.argmax(fractions))
    if fractions[worst] <= OFTEN_FRACTION:
        return None
    first, last = (int(steps[stretches[worst][end]]) for end in (0, -1))
    verb = "were" if clips else "would have been"
    return ClippingAdvice(
        source="M5: above 50% is extremely aggressive",
        finding=f"{fractions[worst]:.0%} of the updates {verb} clipped over steps {first}-{last}, "
        f"{np.mean(clipped):.0%} over all",
        value=fractions[worst],
        threshold=OFTEN_FRACTION,
        steps=(first, last),
        remedy="halve the learning rate instead, and set the threshold anew.",
    )


def non_finite(steps: np.ndarray, norms: np.ndarray) -> ClippingAdvice | None:
    """Return advice if any norm was not finite (K1)."""
    bad = steps[~np.isfinite(norms)]
    if not len(bad):
        return None
    return ClippingAdvice(
        source="K1",
        finding=f"{len(bad)} of {len(steps)} gradient norms were not finite, the first at step "
        f"{bad[0]}",
        value=float(len(bad)),
        threshold=0.0,
        steps=(int(bad[0]), int(bad[-1])),
        remedy="clipping cannot mend these. Warm up longer or clip from the first step on "
        "(threshold_from), then lower the learning rate (K6).",
    )


def spikes(steps: np.ndarray, norms: np.ndarray) -> ClippingAdvice | None:
    """Return advice if a norm shot up after a calm stretch, a mid-training instability (K1).

    A stretch of 100 finite norms is calm if none is above 3 times their median; a spike is a norm
    above 10 times the median of the calm stretch right before it. The numbers are ours.
    """
    finite = np.isfinite(norms)
    steps, norms = steps[finite], norms[finite]
    ratios = _ratios_to_calm_median(norms)
    at = np.flatnonzero(ratios > SPIKE_FACTOR)
    if not len(at):
        return None
    highest = at[np.argmax(ratios[at])]
    return ClippingAdvice(
        source="K1: mid-training instability",
        finding=f"the gradient norm shot up after a calm stretch {len(at)} times, first at step "
        f"{steps[at[0]]}; at step {steps[highest]} to {norms[highest]:.3g}, "
        f"{ratios[highest]:.0f} times its median before",
        value=float(ratios[highest]),
        threshold=SPIKE_FACTOR,
        steps=(int(steps[at[0]]), int(steps[at[-1]])),
        remedy="clip at the 90th percentile or lower (M3, M4); if the loss still rises there, "
        "lower the learning rate (K6).",
    )


def _ratios_to_calm_median(norms: np.ndarray) -> np.ndarray:
    """Return each norm over the median of the calm stretch right before it; 0 without one."""
    ratios = np.zeros(len(norms))
    if len(norms) <= CALM_STEPS:
        return ratios
    windows = np.lib.stride_tricks.sliding_window_view(norms[:-1], CALM_STEPS)
    for start in range(0, len(windows), _WINDOWS_AT_ONCE):
        before = windows[start : start + _WINDOWS_AT_ONCE]
        following = norms[start + CALM_STEPS :][: len(before)]
        median = np.median(before, axis=1)
        calm = (median > 0.0) & (before.max(axis=1) <= CALM_FACTOR * median)
        ratios[start + CALM_STEPS :][: len(before)] = np.divide(
            following, median, out=np.zeros(len(before)), where=calm
        )
    return ratios
