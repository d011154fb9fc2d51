"""Adam by the number of trials (G4), and Nesterov momentum."""

import keras
import keras_tuner as kt
import pytest

from tfplaybook.search import adam_space, nesterov_space


@pytest.mark.parametrize(
    ("max_trials", "names"),
    [
        (1, ["learning_rate"]),
        (9, ["learning_rate"]),
        (10, ["learning_rate", "one_minus_beta_1"]),
        (24, ["learning_rate", "one_minus_beta_1"]),
        (25, ["learning_rate", "one_minus_beta_1", "epsilon"]),
        (49, ["learning_rate", "one_minus_beta_1", "epsilon"]),
        (50, ["learning_rate", "one_minus_beta_1", "epsilon", "one_minus_beta_2"]),
    ],
)
def test_adam_grows_with_the_trials(max_trials, names):
    hp = kt.HyperParameters()
    arguments = adam_space(hp, max_trials)
    assert [h.name for h in hp.space] == names
    assert {h.sampling for h in hp.space} == {"log"}
    optimizer, plain = keras.optimizers.Adam(**arguments), keras.optimizers.Adam()
    # What the hypermodel builds by default is Keras' own Adam, but for the rate.
    for name in ("beta_1", "beta_2", "epsilon"):
        assert getattr(optimizer, name) == pytest.approx(getattr(plain, name))


@pytest.mark.parametrize(
    ("max_trials", "names"),
    [(9, ["learning_rate"]), (10, ["learning_rate", "one_minus_momentum"])],
)
def test_nesterov_momentum(max_trials, names):
    hp = kt.HyperParameters()
    optimizer = keras.optimizers.SGD(**nesterov_space(hp, max_trials))
    assert [h.name for h in hp.space] == names
    assert optimizer.nesterov
    assert optimizer.momentum == pytest.approx(0.9)


@pytest.mark.parametrize("space", [adam_space, nesterov_space])
def test_a_range_of_your_own(space):
    hp = kt.HyperParameters()
    space(hp, 1, learning_rate=(0.25, 0.5))
    assert (hp.space[0].min_value, hp.space[0].max_value) == (0.25, 0.5)


@pytest.mark.parametrize("space", [adam_space, nesterov_space])
def test_in_a_branch_that_does_not_hold_there_is_nothing(space):
    hp = kt.HyperParameters()
    hp.Choice("optimizer", ["a", "b"])
    with hp.conditional_scope("optimizer", ["b"]):
        assert space(hp, 64) == {}
    assert len(hp.space) > 2


@pytest.mark.parametrize("space", [adam_space, nesterov_space])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_trials": 0}, "`max_trials` must be an integer of at least 1"),
        ({"learning_rate": 0.1}, "`learning_rate` must be the lowest and the highest rate"),
        ({"learning_rate": (0.0, 1.0)}, r"`learning_rate\[0\]` must be .* greater than 0"),
        ({"learning_rate": (0.1, 0.01)}, r"`learning_rate\[1\]` must be .* at least 0.1"),
    ],
)
def test_bad_arguments(space, options, message):
    with pytest.raises(ValueError, match=message):
        space(kt.HyperParameters(), **{"max_trials": 8, **options})


def test_a_value_that_the_oracle_lost_is_an_error_that_says_what_to_search_with():
    hp = kt.HyperParameters()
    hp.Choice("optimizer", ["nesterov", "adam"])
    for name, space in (("nesterov", nesterov_space), ("adam", adam_space)):
        with hp.conditional_scope("optimizer", [name]):
            space(hp, 4)
    # What KerasTuner's own oracles do before every trial.
    hp.ensure_active_values()
    message = r"'learning_rate' has no value.*`QuasiRandomSearch`"
    with hp.conditional_scope("optimizer", ["nesterov"]), pytest.raises(ValueError, match=message):
        nesterov_space(hp, 4)
