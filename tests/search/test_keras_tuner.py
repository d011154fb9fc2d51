"""What we need of KerasTuner is still there."""

import keras_tuner as kt
import pytest

from tfplaybook import _keras_tuner, _keras_tuner_rpc


@pytest.mark.parametrize("module", [_keras_tuner, _keras_tuner_rpc], ids=lambda m: m.__name__)
def test_private_parts_exist(module):
    for owner, name in module.PRIVATE_PARTS:
        assert hasattr(owner, name), (
            f"KerasTuner {kt.__version__} has no {owner.__name__}.{name} any more; "
            f"{module.__name__} needs another way."
        )


def test_the_display_exists():
    oracle = kt.Oracle("val_loss", max_trials=1, seed=1)
    for name in ("on_trial_begin", "on_trial_end", "trial_start"):
        assert hasattr(oracle._display, name), (
            f"KerasTuner {kt.__version__} has no Oracle._display.{name} any more; "
            "tfplaybook/_keras_tuner.py needs another way."
        )


def test_new_entries_are_told_by_name_and_condition():
    known, declared = kt.HyperParameters(), kt.HyperParameters()
    for space in (known, declared):
        space.Choice("kind", ["a", "b"])
        space.Float("x", 0.0, 1.0, parent_name="kind", parent_values=["a"])
    assert _keras_tuner.new_entries(known, declared) == []
    declared.Float("x", 0.0, 1.0, parent_name="kind", parent_values=["b"])
    declared.Boolean("y")
    assert _keras_tuner.new_entries(known, declared) == ["x", "y"]
