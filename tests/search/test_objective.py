"""What is optimized, in which direction, and what counts as its history."""

import keras
import keras_tuner as kt
import numpy as np
import pytest

from tfplaybook.search._objective import resolve_objective, unknown_objective
from tfplaybook.search._objective_history import ObjectiveHistory


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("loss", "min"),
        ("val_loss", "min"),
        ("val_head_loss", "min"),
        ("val_mse", "min"),
        ("mean_absolute_error", "min"),
        ("val_root_mean_squared_error", "min"),
        ("val_sparse_categorical_crossentropy", "min"),
        ("val_accuracy", "max"),
        ("acc", "max"),
        ("val_weighted_binary_accuracy", "max"),
        ("val_top_k_categorical_accuracy", "max"),
        ("val_auc", "max"),
        # KerasTuner minimizes these two, and raises a TypeError for the third.
        ("val_f1_score", "max"),
        ("val_r2_score", "max"),
        ("val_mean_io_u", "max"),
    ],
)
def test_directions_that_a_name_tells(name, direction):
    objective = resolve_objective(name)
    assert (objective.name, objective.direction) == (name, direction)


@pytest.mark.parametrize("name", ["val_acuracy", "score", "val_cosine_similarity", "", "val_"])
def test_other_names_need_a_direction(name):
    with pytest.raises(ValueError, match=r"minimized or maximized.*keras_tuner.Objective"):
        resolve_objective(name)


def test_an_objective_is_taken_as_it_is():
    objective = kt.Objective("val_bleu", direction="max")
    assert resolve_objective(objective) is objective
    assert resolve_objective(None) is None


@pytest.mark.parametrize("objective", [["loss", "val_loss"], 3])
def test_one_objective_only(objective):
    with pytest.raises(ValueError, match="must be the name of one metric"):
        resolve_objective(objective)


def history_of(epochs, objective="val_loss", **options):
    history = ObjectiveHistory(resolve_objective(objective), **options)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.stop_training = False
    history.set_model(model)
    for epoch, logs in enumerate(epochs):
        history.on_epoch_end(epoch, logs)
    return history


def test_only_epochs_with_the_objective_are_kept():
    history = history_of(
        [
            {"loss": 3.0},
            {"loss": 2.0, "val_loss": 2.5},
            {"loss": 1.0},
            {"loss": 0.5, "val_loss": 2.0},
        ]
    ).history()
    assert history.epoch == [1, 3]
    assert history.history == {"loss": [2.0, 0.5], "val_loss": [2.5, 2.0]}


@pytest.mark.parametrize(
    ("logs", "divergence"),
    [
        ({"loss": 1.0, "val_loss": float("nan")}, "val_loss became nan at step 0"),
        ({"loss": float("inf"), "val_loss": 1.0}, "loss became inf at step 0"),
        ({"loss": 1.0, "val_loss": -float("inf")}, "val_loss became -inf at step 0"),
        ({"loss": 1.0, "val_loss": 1.0, "other": float("nan")}, None),
    ],
)
def test_a_non_finite_objective_or_loss_ends_the_training(logs, divergence):
    history = history_of([{"loss": 1.0, "val_loss": 1.0}, logs])
    assert history.divergence == divergence
    assert history.model.stop_training == (divergence is not None)


def test_an_objective_is_one_number_and_other_metrics_may_be_arrays():
    shares = np.array([0.5, 0.25])
    history = history_of([{"loss": 1.0, "val_loss": 2.0, "val_f1": shares}]).history()
    assert history.history == {"loss": [1.0], "val_loss": [2.0]}
    with pytest.raises(ValueError, match=r"'val_f1_score' of shape \(2,\)"):
        history_of([{"loss": 1.0, "val_f1_score": shares}], kt.Objective("val_f1_score", "max"))


@pytest.mark.parametrize("last", [0.5, float("nan")])
def test_the_history_goes_on_from_its_state(last):
    history = history_of([{"loss": 1.0, "val_loss": 0.1}, {"loss": 1.0}, {"loss": last}])
    other = ObjectiveHistory(history.objective)
    other.load_state_dict(history.state_dict())
    assert other.history().history == history.history().history
    assert (other.divergence, other.metric_names) == (history.divergence, {"loss", "val_loss"})


def test_an_absurdly_large_value_is_divergence():
    epochs = [{"loss": 9.0, "val_loss": -9.0}, {"loss": 10.0, "val_loss": 1.0}]
    history = history_of(epochs, divergence_threshold=10.0)
    assert history.divergence == "loss became 10.0 at step 0"
    assert history.history().epoch == [0]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("val_acc", "Did you mean 'val_accuracy'"),
        ("val_mae", "Pass `validation_data` to `search`"),
        ("accuracy_of_test", "one of"),
    ],
)
def test_an_unknown_objective_names_what_there_is(name, hint):
    available = {"loss", "mae", "val_accuracy"}
    message = unknown_objective(kt.Objective(name, "min"), available)
    assert hint in message
    assert "['loss', 'mae', 'val_accuracy']" in message


@pytest.mark.parametrize(
    ("name", "meant"),
    [("val_los", "'val_loss'"), ("val_acuracy", "'val_accuracy'"), ("f1score", "'f1_score'")],
)
def test_a_misspelt_name_is_told_the_right_one(name, meant):
    with pytest.raises(ValueError, match=f"Did you mean {meant}. Else pass"):
        resolve_objective(name)
    with pytest.raises(ValueError, match=r"leaves it open\. Pass `keras_tuner"):
        resolve_objective("perplexity_of_mine")
