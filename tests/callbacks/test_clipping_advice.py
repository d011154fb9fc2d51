"""What is said about a run's norms, from arrays alone."""

import numpy as np
import pytest

from tfplaybook.callbacks._clipping_advice import (
    advise,
    clipped_often,
    non_finite,
    spikes,
)
from tfplaybook.runs._norms_plot import is_clipped

CALM = 1.0 + 0.1 * np.random.default_rng(0).uniform(size=400)


def steps(norms, first=1):
    return np.arange(first, first + len(norms))


def clipped_at(rate, count):
    """Norms of which exactly the share `rate` is above 1.5, spread evenly."""
    return 1.0 + (np.floor(np.arange(1, count + 1) * rate) > np.floor(np.arange(count) * rate))


def test_a_norm_is_clipped_if_it_is_finite_and_above_its_threshold():
    norms = np.array([1.0, 2.0, 3.0, np.inf, np.nan, 3.0])
    thresholds = np.array([2.0, 2.0, 2.0, 2.0, 2.0, np.inf])
    assert is_clipped(norms, thresholds).tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize(
    ("fraction", "speaks"), [(0.1, False), (0.5, False), (0.52, True), (1.0, True)]
)
def test_more_than_half_clipped_is_extremely_aggressive(fraction, speaks):
    norms = clipped_at(fraction, 100)
    advice = clipped_often(steps(norms), norms, np.full(100, 1.5))
    assert (advice is not None) == speaks
    if advice is not None:
        assert advice.value == fraction
        assert advice.threshold == 0.5
        assert advice.steps == (1, 100)
        assert str(advice).startswith(
            f"{fraction:.0%} of the updates were clipped over steps 1-100"
        )
        assert "M5: above 50% is extremely aggressive" in str(advice)
        assert "halve the learning rate" in str(advice)


def test_the_worst_stretch_of_a_long_run_is_named():
    norms = np.concatenate([clipped_at(f, 1000) for f in (0.1, 0.62, 0.1)])
    advice = clipped_often(steps(norms), norms, np.full(3000, 1.5))
    assert advice.value == pytest.approx(0.62)
    assert advice.steps == (1001, 2000)
    assert "62% of the updates were clipped over steps 1001-2000, 27% over all" in str(advice)


def test_a_short_rest_is_part_of_the_stretch_before_it():
    norms = np.concatenate([clipped_at(0.1, 1000), clipped_at(1.0, 30)])
    assert clipped_often(steps(norms), norms, np.full(1030, 1.5)) is None


def test_updates_that_could_not_be_clipped_do_not_count():
    norms = np.concatenate([np.full(100, 2.0), clipped_at(0.6, 100), np.full(20, np.nan)])
    thresholds = np.concatenate([np.full(100, np.inf), np.full(120, 1.5)])
    advice = clipped_often(steps(norms), norms, thresholds)
    assert advice.value == pytest.approx(0.6)
    assert advice.steps == (101, 200)


def test_a_few_updates_are_no_evidence():
    assert clipped_often(np.arange(19), np.full(19, 2.0), np.ones(19)) is None
    assert clipped_often(np.arange(20), np.full(20, 2.0), np.ones(20)) is not None


def test_what_was_only_observed_would_have_been_clipped():
    advice = clipped_often(np.arange(50), np.full(50, 2.0), np.ones(50), clips=False)
    assert "100% of the updates would have been clipped" in str(advice)


def test_norms_that_are_not_finite_are_counted_with_the_first_step():
    norms = np.array([1.0, np.inf, 1.0, np.nan])
    advice = non_finite(steps(norms, first=501), norms)
    assert (advice.value, advice.steps) == (2.0, (502, 504))
    assert "2 of 4 gradient norms were not finite, the first at step 502 (K1)" in str(advice)
    assert non_finite(steps(CALM), CALM) is None


@pytest.mark.parametrize(("height", "speaks"), [(9.0, False), (50.0, True)])
def test_a_spike_after_a_calm_stretch_is_an_instability(height, speaks):
    norms = CALM.copy()
    norms[250] = height
    advice = spikes(steps(norms), norms)
    assert (advice is not None) == speaks
    if advice is not None:
        assert advice.steps == (251, 251)
        assert advice.value == pytest.approx(50.0 / np.median(norms[150:250]))
        assert "shot up after a calm stretch 1 times, first at step 251" in str(advice)
        assert "K1: mid-training instability" in str(advice)


@pytest.mark.parametrize(
    "norms",
    [
        CALM,
        np.geomspace(1e5, 1.0, 400),
        np.exp(3.0 * np.random.default_rng(1).normal(size=400)),
        np.insert(CALM, 50, 1e5),
        np.zeros(400),
        np.array([]),
    ],
    ids=["calm", "falling", "never calm", "early", "zero", "empty"],
)
def test_no_calm_stretch_no_spike(norms):
    assert spikes(steps(norms), norms) is None


def test_the_windows_of_a_long_run_are_taken_in_parts():
    norms = np.tile(CALM, 60)
    norms[[10_099, 20_100, 23_000]] = 30.0
    advice = spikes(steps(norms), norms)
    assert "3 times, first at step 10100" in str(advice)
    assert advice.steps == (10_100, 23_001)


def test_the_most_severe_advice_comes_first_and_a_sound_run_has_none():
    norms = np.concatenate([CALM, np.full(900, 30.0), [np.nan]])
    advice = advise(steps(norms), norms, np.full(len(norms), 1.5))
    assert [found.source[:2] for found in advice] == ["K1", "M5", "K1"]
    assert advise(steps(CALM), CALM, np.full(400, np.percentile(CALM, 90))) == ()
    nothing = np.array([])
    assert advise(nothing, nothing, nothing) == ()
