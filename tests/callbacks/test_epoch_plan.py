"""plan_epochs: arithmetic, and a `fit` that makes exactly those updates."""

import keras
import numpy as np
import pytest

from tfplaybook.callbacks import EpochPlan, plan_epochs


@pytest.mark.parametrize(
    ("arguments", "options", "plan"),
    [
        ((10_000, 500), {}, EpochPlan(20, 500)),
        ((7, 7), {}, EpochPlan(1, 7)),
        ((6, 3), {"gradient_accumulation_steps": 4}, EpochPlan(2, 12)),
        ((6, 3), {"gradient_accumulation_steps": 4, "steps_per_execution": 6}, EpochPlan(2, 12)),
    ],
)
def test_a_plan(arguments, options, plan):
    assert plan_epochs(*arguments, **options) == plan


@pytest.mark.tensorflow
@pytest.mark.parametrize("options", [{}, {"steps_per_execution": 4}])
def test_fit_makes_exactly_the_planned_updates(options):
    import tensorflow as tf

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", **options)
    x = np.ones((4, 1))
    train = tf.data.Dataset.from_tensor_slices((x, x)).batch(2).repeat()
    plan = plan_epochs(24, 8, **options)
    history = model.fit(train, validation_data=(x, x), shuffle=False, verbose=0, **plan)
    assert len(history.history["val_loss"]) == 3
    assert int(model.optimizer.iterations) == 24


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            (10_000, 300),
            {},
            r"10,000 = 33 x 300 \+ 100\. Pass total_steps=9,900 or total_steps=10,200, or "
            r"every_steps=250\.",
        ),
        ((5, 8), {}, r"5 = 0 x 8 \+ 5\. Pass total_steps=8, or every_steps=5\."),
        ((0, 5), {}, "`total_steps` must be an integer of at least 1"),
        ((10, 0.5), {}, "`every_steps` must be an integer of at least 1. Received: 0.5"),
        ((40, 20), {"steps_per_execution": 8}, "Keras makes 24 of them. Received: 20 batches"),
    ],
)
def test_refuses_what_does_not_divide(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        plan_epochs(*arguments, **options)
