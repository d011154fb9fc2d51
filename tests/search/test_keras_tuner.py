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


def test_the_lists_of_a_space_exist():
    for name in ("_hps", "_space"):
        assert hasattr(kt.HyperParameters(), name), (
            f"KerasTuner {kt.__version__} has no HyperParameters.{name} any more; "
            "tfplaybook/_keras_tuner.py needs another way."
        )


def test_a_copy_of_a_space_is_one_of_its_own():
    space = _keras_tuner.SearchSpace()
    space.Choice("kind", ["a", "b"], default="b")
    space.Float("x", 0.0, 1.0, parent_name="kind", parent_values=["b"])
    copy = space.copy()
    assert copy.get_config() == space.get_config()
    assert copy.get("x") == 0.0
    copy.Float("x", 2.0, 3.0, parent_name="kind", parent_values=["a"])
    copy.Boolean("late")
    copy.values["kind"] = "a"
    assert [h.name for h in copy.space] == ["kind", "x", "x", "late"]
    assert [h.name for h in space.space] == ["kind", "x"]
    assert space.values == {"kind": "b", "x": 0.0}
    assert space.Float("x", 2.0, 3.0, parent_name="kind", parent_values=["a"]) is None


def test_a_message_has_the_values_and_prints_nothing(capsys):
    space = _keras_tuner.SearchSpace()
    space.Float("x", 0.0, 1.0, step=0.1, default=0.3)
    space.Int("y", 0, 2**40, default=2**39 + 1, parent_name="x", parent_values=[0.3])
    received = kt.HyperParameters.from_proto(space.to_proto())
    assert received.values == {"x": 0.3, "y": 2**39 + 1}
    assert capsys.readouterr().out == ""


def test_new_entries_are_told_by_name_and_condition():
    known, declared = kt.HyperParameters(), kt.HyperParameters()
    for space in (known, declared):
        space.Choice("kind", ["a", "b"])
        space.Float("x", 0.0, 1.0, parent_name="kind", parent_values=["a"])
    assert _keras_tuner.new_entries(known, declared) == []
    declared.Float("x", 0.0, 1.0, parent_name="kind", parent_values=["b"])
    declared.Boolean("y")
    assert _keras_tuner.new_entries(known, declared) == ["x", "y"]
