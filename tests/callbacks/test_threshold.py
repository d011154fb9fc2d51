"""The rules of the threshold, as pure functions against NumPy, without training."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import tfplaybook as pb
from tfplaybook.callbacks import Calibrated, Rolling, threshold_from
from tfplaybook.callbacks._threshold import Fixed, make_rule, percentile_of

NORMS = np.random.default_rng(0).lognormal(sigma=2.0, size=50).astype("float32")


def thresholds(rule, norms, percentile=90.0):
    state, found = rule.initial_state(), []
    for norm in norms:
        state, threshold = rule.update(state, ops.convert_to_tensor(norm, "float32"), percentile)
        found.append(float(ops.convert_to_numpy(threshold)))
    return np.array(found)


def rolling(norms, window, min_history, percentile):
    """Rolling thresholds by NumPy."""
    found = []
    for end in range(1, len(norms) + 1):
        finite = [norm for norm in norms[:end] if math.isfinite(norm)][-window:]
        enough = len(finite) >= min_history
        found.append(np.percentile(finite, percentile) if enough else math.inf)
    return np.array(found)


@pytest.mark.parametrize("percentile", [0.5, 10.0, 50.0, 90.0, 99.9])
@pytest.mark.parametrize(("window", "min_history"), [(2, 1), (7, 3), (16, 16), (1000, 20)])
def test_rolling_is_the_percentile_of_the_last_norms(window, min_history, percentile):
    rule = Rolling(window=window, min_history=min_history)
    np.testing.assert_allclose(
        thresholds(rule, NORMS, percentile),
        rolling(NORMS, window, min_history, percentile),
        rtol=1e-5,
    )


@settings(deadline=None, max_examples=30)
@given(
    norms=st.lists(st.floats(2**-20, 2**20, width=32), min_size=1, max_size=12),
    empty=st.integers(0, 5),
    percentile=st.floats(0.1, 99.9),
)
def test_percentile_of_is_numpy_percentile(norms, empty, percentile):
    history = np.array(norms + [-math.inf] * max(empty, 2 - len(norms)), "float32")
    found = float(ops.convert_to_numpy(percentile_of(history, len(norms), percentile)))
    expected = np.percentile(np.array(norms), percentile)
    assert abs(found - expected) <= 2e-6 * max(norms)


def test_norms_that_are_not_finite_never_enter_the_history():
    dirty = np.insert(NORMS, [0, 3, 3, 20], [math.nan, math.inf, math.nan, -math.inf])
    rule = Rolling(window=7, min_history=2)
    found = thresholds(rule, dirty)
    assert not np.isnan(found).any()
    np.testing.assert_allclose(found, rolling(dirty, 7, 2, 90.0), rtol=1e-6)
    clean = thresholds(rule, NORMS)
    np.testing.assert_array_equal(found[np.isfinite(dirty)], clean)


def test_a_history_of_equal_norms_has_that_norm_as_its_threshold():
    found = thresholds(Rolling(window=7, min_history=1), np.full(20, 0.1, "float32"))
    np.testing.assert_array_equal(found, np.float32(0.1))


def test_a_percentile_of_zero_clips_nothing():
    assert np.isinf(thresholds(Rolling(window=4, min_history=1), np.zeros(6))).all()
    assert np.isinf(thresholds(Calibrated(steps=3), np.zeros(6))).all()


def test_calibrated_observes_then_keeps_the_percentile():
    found = thresholds(Calibrated(steps=16), NORMS)
    assert np.isinf(found[:16]).all()
    np.testing.assert_allclose(found[16:], np.percentile(NORMS[:16], 90.0), rtol=1e-6)


def test_calibrated_counts_finite_norms_only():
    dirty = np.insert(NORMS, [0, 3], [math.nan, math.inf])
    found = thresholds(Calibrated(steps=16), dirty)
    assert np.isinf(found[:18]).all()
    np.testing.assert_allclose(found[18:], np.percentile(NORMS[:16], 90.0), rtol=1e-6)


def test_a_number_is_a_fixed_threshold():
    assert make_rule(2) == Fixed(2.0)
    np.testing.assert_array_equal(thresholds(make_rule(2.5), [1.0, math.nan]), 2.5)


def test_a_short_window_needs_no_more_history_than_it_has():
    assert Rolling().min_history == 20
    assert Rolling(window=5).min_history == 5


def record(directory, norms):
    recorder = pb.runs.RunRecorder(directory)
    directory.mkdir()
    recorder.scalar("loss", 1, 0.5)
    for step, norm in enumerate(norms, start=1):
        recorder.scalar("gradient_norm", step, norm)
    recorder.flush()
    return directory


def test_threshold_from_is_the_percentile_of_a_run(tmp_path):
    directory = record(tmp_path / "run", [*NORMS, math.nan, math.inf])
    expected = np.percentile(NORMS.astype("float64"), 75)
    assert threshold_from(directory, percentile=75) == pytest.approx(expected)
    assert threshold_from(pb.runs.load_run(directory), percentile=75) == pytest.approx(expected)


@pytest.mark.parametrize("norms", [[], [math.nan], [0.0, 0.0]])
def test_threshold_from_refuses_a_run_without_norms(tmp_path, norms):
    directory = record(tmp_path / "run", norms)
    with pytest.raises(ValueError, match=r"monitor_only=True|must be greater than 0"):
        threshold_from(directory)
    with pytest.raises(ValueError, match="There is none at"):
        threshold_from(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rolling(window=1), "`window` must be an integer of at least 2"),
        (lambda: Rolling(window=0.5), "`window` must be an integer"),
        (lambda: Rolling(window=10, min_history=11), "`min_history` must be at most `window`"),
        (lambda: Rolling(min_history=0), "`min_history` must be an integer of at least 1"),
        (lambda: Calibrated(steps=1), "`steps` must be an integer of at least 2"),
        (lambda: make_rule(Rolling), r"not a class.*threshold=Rolling\(\.\.\.\)"),
        (lambda: make_rule(0.0), "greater than 0"),
        (lambda: make_rule("auto"), r"must be Rolling\(\.\.\.\), Calibrated\(\.\.\.\) or"),
        (lambda: make_rule(math.nan), "finite number greater than 0"),
        (lambda: threshold_from(".", percentile=100), "`percentile` must be less than 100"),
        (lambda: threshold_from(".", percentile=0), "`percentile` must be a finite number greater"),
    ],
)
def test_refuses_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
