"""The box around the good region of a study."""

import math

import pytest

from tfplaybook import studies
from tfplaybook.search import BayesianOracle
from tfplaybook.studies import Hyperparameter, Objective

RATE = Hyperparameter("rate", "float", "log", 1e-4, 1.0)
UNITS = Hyperparameter("units", "int", "linear", 8, 64, step=8)
KIND = Hyperparameter("kind", "choice", values=("a", "b", "c"))


def make_study(rows, space=(RATE, UNITS, KIND), direction="min"):
    return studies.from_records(rows, objective=Objective("loss", direction), space=space)


def row(number, loss, rate=1e-2, units=32, kind="a"):
    status = "infeasible" if math.isnan(loss) else "completed"
    return {
        "trial_id": f"{number:04d}",
        "rate": rate,
        "units": units,
        "kind": kind,
        "loss": loss,
        "status": status,
    }


ROWS = [
    row(0, 0.1, 1e-2, 24, "a"),
    row(1, 0.2, 1e-3, 32, "b"),
    row(2, 0.9, 1e-4, 64, "c"),
    row(3, math.nan, 1.0, 8, "a"),
    row(4, math.nan, 5e-3, 24, "a"),
    row(5, 0.8, 2e-3, 24, "c"),
    row(6, 0.7, 2e-3, 24, "b"),
]


def test_the_box_spans_the_good_trials_and_a_margin():
    refined = make_study(ROWS).refine(min_good=2, margin_fraction=0.125)
    assert [trial.trial_id for trial in refined.good] == ["0000", "0001"]
    # An eighth of four decades is half a decade on either side.
    assert refined.box("rate") == pytest.approx((10**-3.5, 10**-1.5))
    # 24 to 32 and seven on either side, out to the next steps.
    assert refined.box("units") == (16, 40)
    assert refined.box("kind") == ("a", "b")


def test_the_trials_inside_are_its_prior():
    refined = make_study(ROWS).refine(min_good=2)
    assert [trial.trial_id for trial in refined.trials] == ["0000", "0001", "0004", "0006"]
    values, objective = refined.prior[2]
    assert (dict(values), objective) == ({"rate": 5e-3, "units": 24, "kind": "a"}, None)
    assert refined.prior[0][1] == 0.1


def test_the_box_stays_within_what_was_searched():
    refined = make_study(ROWS).refine(good_fraction=1.0, margin_fraction=1.0)
    assert refined.box("rate") == (1e-4, 1.0)
    assert refined.box("units") == (8, 64)


def test_the_direction():
    refined = make_study(ROWS, direction="max").refine(good_fraction=0.1, min_good=1)
    assert [trial.trial_id for trial in refined.good] == ["0002"]
    assert refined.box("kind") == ("c",)


def test_a_search_goes_on_in_the_box(tmp_path):
    refined = make_study(ROWS).refine(min_good=2)
    space = refined.hyperparameters()
    assert [h.name for h in space.space] == ["rate", "units", "kind"]
    oracle = BayesianOracle(
        space, prior=refined.prior, objective="loss", max_trials=2, num_initial_points=2
    )
    oracle.verbose = 0
    # What every `keras_tuner.Tuner` does with its oracle.
    oracle._set_project_dir(tmp_path, "study")
    values = oracle.create_trial("tuner0").hyperparameters.values
    low, high = refined.box("rate")
    assert low <= values["rate"] <= high
    assert values["units"] in (16, 24, 32, 40)
    assert values["kind"] in ("a", "b")


def test_what_cannot_exist_in_the_box_is_left_out():
    child = Hyperparameter("beta", "float", "linear", 0.0, 1.0, conditions=(("kind", ("c",)),))
    rows = [{**entry, "beta": 0.25 if entry["kind"] == "c" else None} for entry in ROWS]
    study = make_study(rows, space=(KIND, RATE, UNITS, child))
    only_a = study.refine(good_fraction=0.1, min_good=1)
    assert [type(h).__name__ for h in only_a.hyperparameters().space] == ["Fixed", "Float", "Int"]
    # Of those with c one is good, and its coefficient is all there is to go by.
    everything = study.refine(good_fraction=1.0, margin_fraction=0.25)
    assert everything.box("beta") == (0.0, 0.5)
    assert len(everything.trials) == len(ROWS) - 1
    (beta,) = (h for h in everything.hyperparameters().space if h.name == "beta")
    assert [(c.name, c.values) for c in beta.conditions] == [("kind", ["c"])]


def test_axis_plots_show_the_box():
    study = make_study(ROWS)
    refined = study.refine(min_good=2)
    record = studies.axis_plot_record(study, "rate", refinement=refined)
    assert record.box == (pytest.approx(refined.box("rate")),)
    assert studies.axis_plot_record(study, "kind", refinement=refined).box == (
        (-0.5, 0.5),
        (0.5, 1.5),
    )
    assert studies.axis_plot_record(study, "rate").box == ()
    plain = len(studies.plot_axis(study, "rate").patches)
    assert len(studies.plot_axis(study, "rate", refinement=refined).patches) == plain + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"good_fraction": 0.0}, "`good_fraction`"),
        ({"margin_fraction": 2.0}, "`margin_fraction`"),
        ({"min_good": 0}, "`min_good`"),
    ],
)
def test_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        make_study(ROWS).refine(**options)


def test_nothing_is_completed():
    with pytest.raises(ValueError, match="must have a completed trial"):
        make_study(ROWS[3:5]).refine()
    with pytest.raises(ValueError, match=r"`name` must be one of.*Received: 'depth'"):
        make_study(ROWS).refine().box("depth")
