"""Schedules against a closed form, Keras' own, and the playbook's rules for lengthening."""

import warnings

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from keras.optimizers.schedules import CosineDecay, ExponentialDecay, PiecewiseConstantDecay

from tfplaybook.schedules import WarmupDecaySchedule, lengthen, prepend_warmup

NEVER_ZERO = ("exponential", "inverse_sqrt")
NAMED = ("constant", "linear", "cosine", "exponential", "inverse_sqrt", "polynomial")

# Beyond the longest schedule drawn; one length, so that JAX compiles each operation once.
STEPS = np.arange(1700)

SHAPES = {
    "constant": lambda x, f, p: np.ones_like(x),
    "linear": lambda x, f, p: f + (1 - f) * (1 - x),
    "polynomial": lambda x, f, p: f + (1 - f) * (1 - x) ** p,
    "cosine": lambda x, f, p: f + (1 - f) * (1 + np.cos(np.pi * x)) / 2,
    "exponential": lambda x, f, p: f**x,
    "inverse_sqrt": lambda x, f, p: 1 / np.sqrt(1 + (1 / f**2 - 1) * x),
}


def closed_form(config, steps):
    """The table of the docstring in float64 NumPy."""
    steps = np.asarray(steps, np.float64)
    warmup, hold, decay = config["warmup_steps"], config["hold_steps"], config["decay_steps"]
    x = np.clip((steps - warmup - hold) / decay, 0, 1)
    decayed = SHAPES[config["decay"]](x, config["final_fraction"], config["decay_power"])
    first = config["initial_fraction"]
    with np.errstate(divide="ignore", invalid="ignore"):
        ramp = first + (1 - first) * (steps / warmup) ** config["warmup_power"]
    return config["peak_learning_rate"] * np.where(steps < warmup, ramp, decayed)


def rates(schedule, steps):
    return ops.convert_to_numpy(schedule(np.asarray(steps)))


@st.composite
def schedules(draw, decays=NAMED):
    decay = draw(st.sampled_from(decays))
    fraction = st.floats(0.001, 1.0)
    return WarmupDecaySchedule(
        peak_learning_rate=draw(st.floats(1e-6, 10.0)),
        warmup_steps=draw(st.integers(0, 300)),
        hold_steps=draw(st.integers(0, 300)),
        decay_steps=draw(st.integers(1, 1000)),
        decay=decay,
        final_fraction=0.0
        if decay == "constant"
        else draw(fraction if decay in NEVER_ZERO else st.just(0.0) | fraction),
        initial_fraction=draw(st.just(0.0) | fraction),
        warmup_power=draw(st.sampled_from([0.5, 1.0, 2.0])),
        decay_power=draw(st.sampled_from([0.5, 1.0, 3.0])) if decay == "polynomial" else 1.0,
    )


@settings(max_examples=60, deadline=None)
@given(schedules())
def test_equals_the_closed_form(schedule):
    expected = closed_form(schedule.get_config(), STEPS)
    np.testing.assert_allclose(
        rates(schedule, STEPS), expected, rtol=2e-6, atol=4e-7 * schedule.peak_learning_rate
    )


@settings(max_examples=40, deadline=None)
@given(schedules())
def test_continuous_at_the_joints_monotone_in_the_parts_and_exact_at_the_ends(schedule):
    peak = np.float32(schedule.peak_learning_rate)
    warmup, hold = schedule.warmup_steps, schedule.hold_steps
    curve = rates(schedule, STEPS)
    slack = 1e-6 * peak
    assert curve[warmup] == pytest.approx(peak, rel=1e-6)
    assert (np.diff(curve[: warmup + 1]) >= -slack).all()
    np.testing.assert_allclose(curve[warmup : warmup + hold + 1], peak, rtol=1e-6)
    assert (np.diff(curve[warmup + hold :]) <= slack).all()
    last = 1.0 if schedule.decay == "constant" else schedule.final_fraction
    np.testing.assert_allclose(curve[schedule.total_steps :], peak * last, rtol=3e-6)
    if warmup:
        assert curve[0] == pytest.approx(peak * schedule.initial_fraction, rel=1e-6)
        just_before = rates(schedule, np.float32(warmup) - 1e-3)
        assert just_before == pytest.approx(peak, rel=0.5 / warmup + 2e-3)


@pytest.mark.parametrize(("warmup", "decay", "alpha"), [(100, 900, 0.0), (1, 10, 0.1), (7, 1, 0.5)])
def test_equals_keras_cosine_decay_with_warmup(warmup, decay, alpha):
    ours = WarmupDecaySchedule(
        peak_learning_rate=0.3, warmup_steps=warmup, decay_steps=decay, final_fraction=alpha
    )
    keras_own = CosineDecay(0.0, decay, alpha=alpha, warmup_target=0.3, warmup_steps=warmup)
    joint, end = warmup, warmup + decay
    steps = [0, 1, joint - 1, joint, joint + 1, (joint + end) // 2, end - 1, end, end + 5]
    expected = [float(keras_own(step)) for step in steps]
    np.testing.assert_allclose(rates(ours, steps), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("decay", NAMED)
def test_exact_to_float32_over_a_million_steps(decay):
    schedule = WarmupDecaySchedule(
        peak_learning_rate=1e-3,
        warmup_steps=40_000,
        hold_steps=60_000,
        decay_steps=900_000,
        decay=decay,
        final_fraction=0.01 if decay in NEVER_ZERO else 0.0,
    )
    steps = np.concatenate([np.arange(0, 1_000_001, 997), [39_999, 40_000, 999_999, 1_000_000]])
    expected = closed_form(schedule.get_config(), steps)
    np.testing.assert_allclose(rates(schedule, steps), expected, rtol=3e-6, atol=3e-10)
    one_by_one = [rates(schedule, step) for step in steps[-4:]]
    np.testing.assert_allclose(one_by_one, rates(schedule, steps)[-4:], rtol=1e-6, atol=1e-10)


def test_computes_a_tensor_of_steps_of_any_shape_in_float32():
    schedule = WarmupDecaySchedule(peak_learning_rate=1.0, warmup_steps=4, decay_steps=4)
    result = schedule(ops.reshape(ops.arange(6), (2, 3)))
    assert tuple(result.shape) == (2, 3)
    assert keras.backend.standardize_dtype(result.dtype) == "float32"


@settings(max_examples=20, deadline=None)
@given(schedules())
def test_config_round_trip(schedule):
    config = keras.saving.serialize_keras_object(schedule)
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == schedule.get_config()


def test_config_round_trip_with_a_keras_schedule_as_decay_and_through_an_optimizer():
    schedule = prepend_warmup(ExponentialDecay(0.5, 10, 0.9), 5)
    optimizer = keras.optimizers.SGD(schedule)
    again = keras.optimizers.SGD.from_config(optimizer.get_config())
    steps = np.arange(30)
    np.testing.assert_array_equal(rates(again._learning_rate, steps), rates(schedule, steps))


def test_a_schedule_as_decay_gives_its_shape_scaled_to_the_peak():
    decay = ExponentialDecay(0.5, decay_steps=1, decay_rate=0.5)
    schedule = WarmupDecaySchedule(
        peak_learning_rate=8.0, warmup_steps=2, hold_steps=1, decay_steps=3, decay=decay
    )
    np.testing.assert_allclose(rates(schedule, range(8)), [0, 4, 8, 8, 4, 2, 1, 1], rtol=1e-6)


def test_prepend_warmup_leaves_the_schedule_bit_for_bit_as_it_was():
    piecewise = PiecewiseConstantDecay([10, 20], [0.3, 0.1, 0.07])
    schedule = prepend_warmup(piecewise, 4)
    assert schedule.total_steps is None
    np.testing.assert_allclose(rates(schedule, range(4)), [0, 0.075, 0.15, 0.225], rtol=1e-6)
    expected = np.float32([float(piecewise(float(step))) for step in range(40)])
    np.testing.assert_array_equal(rates(schedule, range(4, 44)), expected)


def test_prepend_warmup_to_a_constant():
    schedule = prepend_warmup(0.5, 2, initial_fraction=0.5)
    np.testing.assert_allclose(rates(schedule, [0, 1, 2, 10**6]), [0.25, 0.375, 0.5, 0.5])


LENGTHENED = [
    # decay, final fraction, hold and decay steps after 100 -> 1000 total with a warmup of 10
    ("linear", 0.0, 900, 90),
    ("polynomial", 0.1, 900, 90),
    ("cosine", 0.0, 0, 990),
    ("constant", 0.0, 0, 990),
    ("exponential", 0.2, 0, 990),
]


@pytest.mark.parametrize(("decay", "final", "hold_steps", "decay_steps"), LENGTHENED)
def test_lengthen_by_the_rule_of_the_playbook(decay, final, hold_steps, decay_steps):
    short = WarmupDecaySchedule(
        peak_learning_rate=0.1,
        warmup_steps=10,
        decay_steps=90,
        decay=decay,
        final_fraction=final,
    )
    longer = lengthen(short, 1000)
    expected = {**short.get_config(), "hold_steps": hold_steps, "decay_steps": decay_steps}
    assert longer.get_config() == expected
    assert longer.total_steps == 1000
    assert lengthen(short, 100).get_config() == short.get_config()


def test_lengthened_inverse_sqrt_keeps_every_earlier_rate():
    short = WarmupDecaySchedule(
        peak_learning_rate=0.1,
        warmup_steps=10,
        decay_steps=90,
        decay="inverse_sqrt",
        final_fraction=0.5,
    )
    longer = lengthen(short, 300)
    np.testing.assert_allclose(rates(longer, range(101)), rates(short, range(101)), rtol=1e-5)
    assert longer.final_fraction < 0.5


def test_lengthen_warns_of_steps_spent_at_small_rates_with_their_number():
    short = WarmupDecaySchedule(
        peak_learning_rate=0.1,
        warmup_steps=0,
        decay_steps=100,
        decay="exponential",
        final_fraction=1e-3,
    )
    with pytest.warns(UserWarning, match=r"60\d of the 900 added steps run below 10%.*H7"):
        lengthen(short, 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lengthen(WarmupDecaySchedule(peak_learning_rate=0.1, warmup_steps=0, decay_steps=100), 1000)


GOOD = {"peak_learning_rate": 0.1, "warmup_steps": 10, "decay_steps": 90}
BAD = [
    ({"peak_learning_rate": 0.0}, r"`peak_learning_rate` must be a finite number greater than 0"),
    ({"peak_learning_rate": float("nan")}, r"Received: nan"),
    ({"peak_learning_rate": "0.1"}, r"`peak_learning_rate` must be .*Received: '0.1'"),
    ({"peak_learning_rate": -1.0}, r"Received: -1.0"),
    ({"warmup_steps": -1}, r"`warmup_steps` must be an integer of at least 0. Received: -1"),
    ({"warmup_steps": 0.1}, r"`warmup_steps` must be an integer of at least 0. Received: 0.1"),
    ({"warmup_steps": True}, r"`warmup_steps` must be an integer"),
    ({"hold_steps": 1.5}, r"`hold_steps` must be an integer"),
    ({"decay_steps": 0}, r"`decay_steps` must be an integer of at least 1"),
    ({"decay_steps": None}, r"`decay_steps` must be an integer of at least 1 for decay='cosine'"),
    ({"decay": "cosin"}, r"Received: 'cosin'. Did you mean 'cosine'\?"),
    ({"decay": None}, r"`decay` must be one of"),
    ({"final_fraction": 1.5}, r"`final_fraction` must be .* at most 1. Received: 1.5"),
    ({"initial_fraction": -0.1}, r"`initial_fraction` must be .* at least 0"),
    ({"peak_learning_rate": 1e-46}, r"greater than 0 in float32"),
    ({"decay": "inverse_sqrt", "final_fraction": 1e-30}, r"at least 1e-12. Received: 1e-30"),
    ({"decay": "exponential"}, r"never reaches 0.*Pass, say, final_fraction=0.01"),
    ({"decay": "inverse_sqrt"}, r"Vaswani"),
    ({"decay": "constant", "final_fraction": 0.1}, r"`final_fraction` has no effect"),
    ({"decay_power": 2.0}, r"`decay_power` belongs to decay='polynomial'"),
    ({"warmup_power": 0.0}, r"`warmup_power` must be a finite number greater than 0"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_refuses_bad_arguments_at_construction(change, message):
    with pytest.raises(ValueError, match=message):
        WarmupDecaySchedule(**{**GOOD, **change})


def test_refuses_what_cannot_be_prepended_or_lengthened():
    warmed = WarmupDecaySchedule(**GOOD)
    with pytest.raises(ValueError, match=r"starts at 0: does it already have a warmup\?"):
        prepend_warmup(warmed, 10)
    with pytest.raises(ValueError, match=r"`warmup_steps` must be an integer of at least 1"):
        prepend_warmup(0.1, 0)
    with pytest.raises(
        ValueError, match=r"at least 100, the steps of .*does not shorten. Received: 99"
    ):
        lengthen(warmed, 99)
    with pytest.raises(TypeError, match="must be a WarmupDecaySchedule"):
        lengthen(CosineDecay(0.1, 10), 100)
    with pytest.raises(ValueError, match="no rule for lengthening"):
        lengthen(prepend_warmup(0.1, 10), 100)


def test_plot_draws_the_rates_with_their_corners():
    from matplotlib.figure import Figure

    schedule = WarmupDecaySchedule(peak_learning_rate=0.1, warmup_steps=3, decay_steps=100_000)
    ax = schedule.plot(ax=Figure().subplots())
    x, y = ax.lines[0].get_data()
    assert y[list(x).index(3)] == np.float32(0.1)
    assert x[-1] == schedule.total_steps
    with pytest.raises(ValueError, match="pass `total_steps`"):
        prepend_warmup(0.1, 3).plot(ax=Figure().subplots())
