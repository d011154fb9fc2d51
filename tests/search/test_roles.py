"""Roles: what they demand of a space, what they plan, and what a study does with them."""

import json

import keras
import keras_tuner as kt
import numpy as np
import pytest
from hypermodels import Parabola

from tfplaybook import studies
from tfplaybook.search import QuasiRandomOracle, Roles


def declare(hp):
    """An activation, a width, and an optimizer with a learning rate of its own (C4)."""
    hp.Choice("activation", ["relu", "gelu"])
    hp.Int("width", 8, 64)
    optimizer = hp.Choice("optimizer", ["nesterov", "adam"])
    for name, low in (("nesterov", 0.0), ("adam", 10.0)):
        with hp.conditional_scope("optimizer", [name]):
            # As users write it: the branch that does not hold is not run.
            if optimizer == name:
                hp.Float("learning_rate", low, low + 1.0)
    hp.Float("dropout", 0.0, 1.0)


class Compared(Parabola):
    def build(self, hp):
        declare(hp)
        return keras.Sequential([keras.layers.Dense(1)])


@pytest.fixture
def compared():
    return Compared(lambda values: values["learning_rate"] + values["dropout"])


RATES = ["learning_rate (optimizer=nesterov)", "learning_rate (optimizer=adam)"]


class TestPlan:
    def test_a_study_for_each_configuration_is_the_default(self):
        roles = Roles(scientific=["optimizer"], fixed={"width": 32})
        plan = roles.plan(declare, max_trials=25)
        assert [(study.name, study.max_trials) for study in plan] == [
            ("optimizer=nesterov", 12),
            ("optimizer=adam", 12),
        ]
        assert plan.studies[1].roles.configuration == {"optimizer": "adam"}
        assert set(plan.studies[0].roles.nuisance) == {"activation", "dropout", *RATES}
        assert str(plan).splitlines() == [
            f"optimizer=nesterov: 12 trials over activation, {RATES[0]}, dropout",
            f"optimizer=adam: 12 trials over activation, dropout, {RATES[1]}",
            "Every conclusion holds for width=32 only (C1).",
        ]

    def test_one_joint_study(self):
        roles = Roles(scientific=["optimizer", "activation"])
        (study,) = roles.plan(declare, max_trials=30, joint=True)
        assert (study.max_trials, study.trials_per_configuration) == (28, 7)
        assert "activation: 7 for each configuration" in str(
            roles.plan(declare, max_trials=30, joint=True)
        )

    def test_a_continuous_scientific_hyperparameter_needs_a_joint_study(self):
        roles = Roles(scientific=["dropout"])
        with pytest.raises(ValueError, match=r"finitely many of them.*\['dropout'\].*joint=True"):
            roles.plan(declare, max_trials=30)
        plan = roles.plan(declare, max_trials=30, joint=True)
        assert (plan.studies[0].max_trials, len(plan)) == (30, 1)
        assert "dropout: sampled uniformly" in str(plan)

    def test_scientific_hyperparameters_below_each_other(self):
        def nested(hp):
            hp.Choice("norm", ["none", "batch"])
            hp.Choice("place", ["before", "after"], parent_name="norm", parent_values=["batch"])
            hp.Float("rate", 0.0, 1.0)

        plan = Roles(scientific=["norm", "place"]).plan(nested, max_trials=9)
        assert [study.name for study in plan] == [
            "norm=none",
            "norm=batch,place=before",
            "norm=batch,place=after",
        ]

    def test_too_few_trials(self):
        with pytest.raises(ValueError, match=r"scientific configurations, 2. Received: 1"):
            Roles(scientific=["optimizer"]).plan(declare, max_trials=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scientific": ["optimiser"]}, "`scientific` must name .* Did you mean 'optimizer'"),
        ({"fixed": {"depth": 3}}, "`fixed` must name hyperparameters of the search space"),
        ({"fixed": {"width": 65}}, "'width' must be an integer from 8 to 64. Received: 65"),
        ({"fixed": {"activation": "elu"}}, r"must be one of \['relu', 'gelu'\]. Received: 'elu'"),
        (
            {"scientific": ["optimizer"], "nuisance": ["dropout"]},
            r"Every hyperparameter must have a role. Received none for \['activation', 'width'",
        ),
        (
            {"scientific": ["learning_rate"], "nuisance": [RATES[0]]},
            "one role. Received: .* is scientific and nuisance",
        ),
        ({"scientific": ["learning_rate"]}, "exists only for some values of 'optimizer'"),
    ],
)
def test_roles_that_do_not_fit_the_space(options, message):
    with pytest.raises(ValueError, match=message):
        Roles(**options).plan(declare, max_trials=8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"scientific": "optimizer"},
            "`scientific` must be a list of names. Received: 'optimizer'",
        ),
        ({"scientific": ["x"], "fixed": {"x": 1}}, r"must have one role. Received \['x'\]"),
        ({"fixed": ["x"]}, r"`fixed` must be a dict from names to values. Received: \['x'\]"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        Roles(**options)


def test_roles_can_be_written_and_read():
    roles = Roles(scientific=["a"], nuisance=["b"], fixed={"c": 1}, configuration={"a": "x"})
    assert Roles.from_json(json.loads(json.dumps(roles.to_json()))) == roles


def test_fixed_values_are_those_that_the_hyperparameter_has():
    space = kt.HyperParameters()
    space.Float("x", 0, 1, step=0.1)
    space.Int("y", 0, 9)
    roles = Roles(fixed={"x": 3 * 0.1, "y": np.int64(2)}).resolved(space)
    assert roles.caveat == "Every conclusion holds for x=0.3, y=2 only (C1)."
    assert json.loads(json.dumps(roles.to_json()))["fixed"] == {"x": 0.3, "y": 2}


class TestStudies:
    def test_separate_studies_meet_the_same_nuisance_points(self, make_tuner, compared):
        points = {}
        for planned in Roles(scientific=["optimizer"]).plan(compared, max_trials=8):
            compared.seen.clear()
            tuner = make_tuner(
                compared,
                roles=planned.roles,
                max_trials=planned.max_trials,
                project_name=planned.name,
            )
            tuner.search(verbose=0)
            points[planned.name] = [dict(values) for values in compared.seen]
        nesterov, adam = points["optimizer=nesterov"], points["optimizer=adam"]
        assert len(nesterov) == len(adam) == 4
        for one, other in zip(nesterov, adam, strict=True):
            assert (one.pop("optimizer"), other.pop("optimizer")) == ("nesterov", "adam")
            assert one.pop("learning_rate") < 1.0 < 10.0 <= other.pop("learning_rate")
            assert one == other

    def test_fixing_one_hyperparameter_moves_no_other(self):
        space = kt.HyperParameters()
        declare(space)
        free, fixed = (
            QuasiRandomOracle("val_loss", 8, hyperparameters=space, roles=roles)
            for roles in (None, Roles(fixed={"activation": "gelu"}))
        )
        for index in range(8):
            assert fixed.point(index) == {**free.point(index), "activation": "gelu"}

    def test_a_study_keeps_its_roles_and_what_they_mean(self, make_tuner, compared, tmp_path):
        roles = Roles(scientific=["optimizer"], fixed={"width": 32})
        make_tuner(compared, roles=roles).search(verbose=0)
        assert [values["width"] for values in compared.seen] == [32] * 4
        assert [values["optimizer"] for values in compared.seen] == ["nesterov", "adam"] * 2
        study = studies.load(tmp_path / "study")
        assert study.roles.scientific == ("optimizer",)
        assert study.roles.caveat == "Every conclusion holds for width=32 only (C1)."
        assert not study.hyperparameter("width").is_varied
        tuner = make_tuner(compared, roles=roles, max_trials=6)
        assert tuner.remaining_trials == 2
        tuner.search(verbose=0)
        with pytest.raises(ValueError, match="roles are given there"):
            make_tuner(compared)

    def test_a_confined_study_shows_no_branch_that_it_cannot_enter(
        self, make_tuner, compared, tmp_path
    ):
        roles = Roles(scientific=["optimizer"], configuration={"optimizer": "adam"})
        make_tuner(compared, roles=roles).search(verbose=0)
        study = studies.load(tmp_path / "study")
        assert [h.name for h in study.varied] == [
            "activation",
            "width",
            "dropout",
            "learning_rate (optimizer=adam)",
        ]

    def test_without_roles_there_are_none(self, make_tuner, compared, tmp_path):
        make_tuner(compared, max_trials=1).search(verbose=0)
        assert studies.load(tmp_path / "study").roles is None
