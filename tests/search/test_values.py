"""The way from a number in [0, 1) to a value: every level its share, nothing out of range."""

import math
from collections import Counter

import keras_tuner as kt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfplaybook.search._values import check_value, levels_of, probability_of, value_at

ALMOST_ONE = math.nextafter(1.0, 0.0)


def declare(kind, *args, **options):
    """Return the hyperparameter that `hp.<kind>("name", ...)` declares."""
    space = kt.HyperParameters()
    getattr(space, kind)("name", *args, **options)
    return space.space[0]


LEVELS = [
    (declare("Boolean"), [False, True]),
    (declare("Choice", ["a", "b", "c"]), ["a", "b", "c"]),
    (declare("Choice", [3, 1, 2]), [3, 1, 2]),
    (declare("Int", 1, 3), [1, 2, 3]),
    (declare("Int", -2, 5, step=3), [-2, 1, 4]),
    (declare("Int", 2, 32, step=2, sampling="log"), [2, 4, 8, 16, 32]),
    (declare("Int", 2, 33, step=2, sampling="log"), [2, 4, 8, 16, 32]),
    (declare("Int", 1, 8, step=2, sampling="reverse_log"), [1, 5, 7, 8]),
    (declare("Float", 0, 1, step=0.1), [k / 10 for k in range(11)]),
    (declare("Float", 0, 1, step=0.3), [0.0, 0.3, 0.6, 0.9]),
    (declare("Float", -0.3, 0.3, step=0.1), [-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3]),
    (declare("Float", 0, 0.1 + 0.7, step=0.4), [0.0, 0.4, 0.1 + 0.7]),
    (declare("Float", 0.001, 10, step=10, sampling="log"), [0.001, 0.01, 0.1, 1.0, 10.0]),
    (declare("Float", 1e-5, 0.1, step=10, sampling="log"), [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]),
    (declare("Float", 0.1, 0.9, step=2, sampling="reverse_log"), [0.2, 0.6, 0.8, 0.9]),
    (declare("Int", 1, 999, step=10, sampling="log"), [1, 10, 100]),
    (declare("Int", 1, 10**9 - 1, step=10, sampling="log"), [10**k for k in range(9)]),
    (declare("Int", 2**62 - 3, 2**62 + 3, step=3), [2**62 - 3, 2**62, 2**62 + 3]),
    (declare("Float", 1, 8, step=2, sampling="reverse_log"), [1.0, 5.0, 7.0, 8.0]),
    (declare("Fixed", 7), [7]),
    (declare("Float", 2, 2), [2.0]),
    (declare("Int", 3, 3, sampling="log"), [3]),
]


@pytest.mark.parametrize(("hyperparameter", "levels"), LEVELS)
def test_levels_have_equal_shares_in_order(hyperparameter, levels):
    per_level = 20
    count = per_level * len(levels)
    values = [value_at(hyperparameter, (k + 0.5) / count) for k in range(count)]
    assert values == [level for level in levels for _ in range(per_level)]
    assert {type(value) for value in values} == {type(levels[0])}


@pytest.mark.parametrize(("hyperparameter", "levels"), LEVELS)
def test_the_ends_are_the_first_and_the_last_level(hyperparameter, levels):
    assert value_at(hyperparameter, 0.0) == levels[0]
    assert value_at(hyperparameter, ALMOST_ONE) == levels[-1]


@pytest.mark.parametrize(("hyperparameter", "levels"), LEVELS)
def test_a_level_is_where_it_says_it_is(hyperparameter, levels):
    places = [probability_of(hyperparameter, level) for level in levels]
    assert [value_at(hyperparameter, place) for place in places] == levels
    shares = [(k / len(levels), (k + 1) / len(levels)) for k in range(len(levels))]
    assert all(low < at < high for at, (low, high) in zip(places, shares, strict=True))


SAMPLINGS = st.sampled_from(["linear", "log", "reverse_log"])
PROBABILITIES = st.floats(0.0, ALMOST_ONE)


@settings(deadline=None, max_examples=200)
@given(
    low=st.floats(1e-6, 10),
    width=st.floats(0, 1e6),
    sampling=SAMPLINGS,
    first=PROBABILITIES,
    second=PROBABILITIES,
)
def test_floats_stay_in_range_and_in_order(low, width, sampling, first, second):
    hyperparameter = declare("Float", low, low + width, sampling=sampling)
    first, second = sorted((first, second))
    small, large = value_at(hyperparameter, first), value_at(hyperparameter, second)
    assert low <= small <= large * (1 + 1e-12)
    assert large <= low + width


@settings(deadline=None, max_examples=200)
@given(
    low=st.integers(1, 50),
    width=st.integers(0, 10**6),
    step=st.none() | st.integers(2, 5),
    sampling=SAMPLINGS,
    first=PROBABILITIES,
    second=PROBABILITIES,
)
def test_integers_stay_in_range_and_in_order(low, width, step, sampling, first, second):
    hyperparameter = declare("Int", low, low + width, step=step, sampling=sampling)
    first, second = sorted((first, second))
    small, large = value_at(hyperparameter, first), value_at(hyperparameter, second)
    assert low <= small <= large <= low + width
    assert type(small) is int


@pytest.mark.parametrize("sampling", ["linear", "log", "reverse_log"])
@pytest.mark.parametrize("probability", [0.0, 0.1, 0.37, 0.5, 0.99])
def test_where_keras_tuner_is_right_we_agree(sampling, probability):
    hyperparameter = declare("Float", 1e-4, 1e-1, sampling=sampling)
    expected = hyperparameter.prob_to_value(probability)
    assert value_at(hyperparameter, probability) == pytest.approx(expected, rel=1e-12)


def test_the_middle_of_a_log_scale_is_the_geometric_mean():
    assert value_at(declare("Float", 1e-4, 1e-2, sampling="log"), 0.5) == pytest.approx(1e-3)


def test_an_integer_on_a_log_scale_owns_the_interval_up_to_the_next():
    # P(value = n) = log((n + 1) / n) / log((high + 1) / low).
    hyperparameter = declare("Int", 1, 7, sampling="log")
    count = 60_000
    values = Counter(value_at(hyperparameter, (k + 0.5) / count) for k in range(count))
    for n in range(1, 8):
        assert values[n] / count == pytest.approx(math.log2((n + 1) / n) / 3, abs=1e-4)


@pytest.mark.parametrize(("hyperparameter", "levels"), LEVELS)
def test_the_levels_are_those_that_the_map_meets(hyperparameter, levels):
    assert levels_of(hyperparameter, at_most=100) == levels


@pytest.mark.parametrize(
    "hyperparameter",
    [
        declare("Float", 0.0, 1.0),
        declare("Int", 1, 101),
        declare("Int", 1, 101, sampling="log"),
        declare("Float", 0.0, 1.0, step=0.001),
    ],
)
def test_of_more_levels_than_asked_for_there_is_no_list(hyperparameter):
    assert levels_of(hyperparameter, at_most=100) is None


@pytest.mark.parametrize(("hyperparameter", "levels"), LEVELS)
def test_every_level_is_a_value(hyperparameter, levels):
    for level in levels:
        assert check_value(hyperparameter, level) == level


@pytest.mark.parametrize(
    ("hyperparameter", "value", "expected"),
    [
        (declare("Float", 0.0, 2.0), 1, 1.0),
        (declare("Float", 0.0, 2.0), np.float32(0.5), 0.5),
        (declare("Int", 1, 9, sampling="log"), np.int64(3), 3),
        (declare("Float", 0.0, 1.0, step=0.1), 0.1 * 3, 0.3),
        (declare("Float", -0.3, 0.3, step=0.1), -0.3 + 3 * 0.1, 0.0),
        (declare("Float", 0.0, 1.0, step=1e-9), 0.123456789, 0.123456789),
        (declare("Int", 0, 2**62, step=2), 2**62 - 2, 2**62 - 2),
        (declare("Choice", ["1", "2"]), "2", "2"),
    ],
)
def test_a_value_gets_the_type_of_its_hyperparameter(hyperparameter, value, expected):
    checked = check_value(hyperparameter, value)
    assert checked == expected
    assert type(checked) is type(expected)


@pytest.mark.parametrize(
    ("hyperparameter", "value", "message"),
    [
        (declare("Float", 0.0, 2.0), 2.5, "'name' must be a number from 0.0 to 2.0. Received: 2.5"),
        (declare("Float", 0.0, 2.0), True, "Received: True"),
        (declare("Float", 0.0, 2.0), math.nan, "Received: nan"),
        (declare("Float", 0.0, 2.0), "1", "Received: '1'"),
        (declare("Float", 0.0, 2.0), 10**400, "Received: 1000"),
        (declare("Float", 0.0, 1.0, step=0.1), 0.25, r"in steps of 0.1 \(linear\). Received: 0.25"),
        (declare("Float", 0.0, 1.0, step=0.1), math.nan, "Received: nan"),
        (declare("Float", 0.0, 1.0, step=0.1), -math.inf, "Received: -inf"),
        (declare("Float", 1e-5, 0.1, step=10, sampling="log"), 1.01e-5, "Received: 1.01e-05"),
        (declare("Int", 0, 2**62, step=2), 2**62 - 1, "Received: 4611686018427387903"),
        (declare("Int", 1, 9), 2.5, "must be an integer from 1 to 9. Received: 2.5"),
        (declare("Int", 1, 9, step=4), 3, r"in steps of 4 \(linear\). Received: 3"),
        (declare("Choice", ["a", "b"]), "c", r"must be one of \['a', 'b'\]. Received: 'c'"),
        (declare("Fixed", 7), 8, r"must be one of \[7\]. Received: 8"),
        (declare("Boolean"), "yes", r"must be one of \[False, True\]. Received: 'yes'"),
    ],
)
def test_other_values_are_refused(hyperparameter, value, message):
    with pytest.raises(ValueError, match=message):
        check_value(hyperparameter, value)
