"""`Study.diagnose`: the order, what to do next, and studies of every size."""

import dataclasses
import io
import math

import numpy as np
import pytest
import rich.console
from hypothesis import given, settings
from hypothesis import strategies as st
from study_factory import OPTIMIZER, RATE
from trial_records import OPTIMIZER as OPTIMIZER_RECORD
from trial_records import RATE as RATE_RECORD
from trial_records import curves_study, rate_study, run, study, trial

from tfplaybook import cli, studies

AT = np.linspace(0, 1, 12)
NAMES = [
    "training_loss_rising", "periodicity", "infeasible_fraction", "stability_edge",
    "search_space_boundary", "max_train_steps", "still_improving", "saturated_early",
    "overfitting", "overfitting_anywhere", "late_variance", "enough_points", "objective_noise",
    "importance",
]  # fmt: skip

SIZES = {
    "none": study([]),
    "one": study([trial(0, 1.0)], [RATE_RECORD]),
    "running": study([trial(0, status="running"), trial(1, status="running")]),
    "infeasible": rate_study(np.full(12, math.nan)),
    "failed": study([trial(i, status="failed") for i in range(12)], [RATE_RECORD]),
    "no curves": rate_study(1 + (AT - 0.5) ** 2),
    "equal": rate_study(np.ones(12)),
    "constant curves": curves_study(np.ones(30), count=12),
    "running and infeasible": study(
        [trial(0, status="running"), trial(1, math.nan, status="infeasible")]
    ),
}


@pytest.mark.parametrize("made", SIZES.values(), ids=SIZES)
def test_every_study_has_all_findings_and_a_next_step(made):
    diagnosis = made.diagnose()
    assert [finding.name for finding in diagnosis.findings] == NAMES
    assert diagnosis.next_step.endswith(".")
    assert str(diagnosis).splitlines()[1] == f"Next: {diagnosis.next_step}"
    for finding in diagnosis.findings:
        assert finding.verdict in ("ok", "act", "unknown")
        assert finding.evidence
        assert finding.source
        assert bool(finding.remedy) or finding.verdict != "act"


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ("none", "Run the first trials"),
        ("one", "Run more trials. 1 trial ended, fewer than 5 (D3)"),
        ("running", "Wait: 2 trials: 2 running"),
        ("infeasible", "Look for a bug first: no trial works. 12 of 12 trials are infeasible"),
        ("running and infeasible", "Wait for trial 0000"),
    ],
)
def test_what_to_do_next(size, words):
    assert SIZES[size].diagnose().next_step.startswith(words)


def test_the_first_action_in_order_is_next():
    outside = rate_study(1 + (AT - 1.3) ** 2)
    diagnosis = outside.diagnose()
    assert diagnosis.actions[0] == diagnosis["search_space_boundary"]
    assert diagnosis.next_step.startswith(
        "Raise the upper end of learning_rate from 1 to 100. Search again. The best 3 trials are "
        "on average 9% of the range away"
    )
    assert "! The best 3 trials" in str(diagnosis)


def test_one_reason_for_several_questions_is_said_once():
    diagnosis = SIZES["no curves"].diagnose()
    lines = [line for line in str(diagnosis).splitlines() if "a curve of val_loss" in line]
    assert lines[0] == "? No trial has a curve of val_loss (H2, D8, D9, D6, N5, D7)"
    assert len(lines) == 2  # the other is of F1, which has a remedy
    console = rich.console.Console(file=io.StringIO(), width=80)
    console.print(diagnosis)
    rows = console.file.getvalue().splitlines()
    (row,) = [i for i, line in enumerate(rows) if line.startswith("?  H2, D8,")]
    assert [line.split()[0] for line in rows[row + 1 : row + 3]] == ["D9,", "N5,"]


def test_silent_importance_is_no_reason_for_more_trials():
    noise = np.random.default_rng(0).uniform(0.0, 1e-4, 40)
    curve = np.concatenate([np.linspace(2, 0, 30), np.zeros(10)])
    trials = [
        trial(
            i, 0.3 + u, values={"learning_rate": 10.0 ** -(4 * u * 1e4)}, runs=[run(val_loss=curve)]
        )
        for i, u in enumerate(noise)
    ]
    diagnosis = study(trials, [RATE_RECORD]).diagnose()
    silent = diagnosis["importance"]
    if silent.verdict == "unknown":
        assert silent.evidence not in diagnosis.next_step


VALUES = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0])
CURVES = st.dictionaries(
    st.sampled_from(["loss", "val_loss"]), st.lists(VALUES, min_size=1, max_size=30)
)


@st.composite
def any_trial(draw):
    status = draw(st.sampled_from(["completed", "infeasible", "failed", "running"]))
    objective = draw(st.floats(-1e6, 1e6)) if status == "completed" else None
    settings_ = st.fixed_dictionaries(
        {}, optional={"learning_rate": st.floats(0, 10), "optimizer": st.sampled_from("ab")}
    )
    return dataclasses.replace(
        trial(0, objective, status=status, values=draw(settings_)),
        objective=objective,
        runs=tuple(run(**curves) for curves in draw(st.lists(CURVES, max_size=2))),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(any_trial(), max_size=9), st.sampled_from(["min", "max"]))
def test_no_study_is_too_strange(trials, direction):
    made = study(trials, [RATE_RECORD, OPTIMIZER_RECORD], objective=("val_loss", direction))
    made = dataclasses.replace(
        made,
        trials=tuple(
            dataclasses.replace(t, trial_id=f"{i:04d}") for i, t in enumerate(made.trials)
        ),
    )
    baseline = made.trials[0].trial_id if made.trials else None
    text = str(made.diagnose(scientific=["optimizer"], baseline=baseline))
    assert text.startswith("round1: ")


def test_scientific_and_baseline_add_their_findings():
    diagnosis = rate_study(np.ones(12)).diagnose(scientific=["learning_rate"], baseline="0003")
    assert [finding.name for finding in diagnosis.findings] == [
        *NAMES, "scientific_comparison", "adoption"
    ]  # fmt: skip


def test_a_finding_that_is_not_there_names_the_others():
    with pytest.raises(KeyError, match="search_space_boundary"):
        SIZES["none"].diagnose()["boundary"]


def test_it_can_be_printed_as_a_table():
    console = rich.console.Console(file=io.StringIO(), width=100)
    console.print(rate_study(1 + (AT - 1.3) ** 2).diagnose())
    text = " ".join(console.file.getvalue().split())
    assert "next Raise the upper end of learning_rate" in text
    assert "! D1 The best 3 trials" in text


def test_relabeling_trials_changes_no_verdict():
    rng = np.random.default_rng(0)
    original = rate_study(1 + (AT - 0.9) ** 2 + 0.01 * rng.normal(size=12))
    relabeled = dataclasses.replace(
        original,
        trials=tuple(
            dataclasses.replace(original.trials[i], trial_id=f"{place:04d}")
            for place, i in enumerate(rng.permutation(12))
        ),
    )
    one, other = (
        [f.verdict for f in made.diagnose().findings if f.name != "importance"]
        for made in (original, relabeled)
    )
    assert one == other


class TestWithObjective:
    RUNS = (
        run(val_loss=[1.0, 0.5], val_accuracy=[0.6, 0.8], score=[1.0, 2.0]),
        run(val_loss=[0.9, 0.7], val_accuracy=[0.9, 0.7], score=[1.0, 2.0]),
    )

    def test_scores_the_mean_over_executions_of_the_best_over_training(self):
        made = study([trial(0, 0.6, runs=self.RUNS)]).with_objective("val_accuracy")
        assert made.objective == studies.Objective("val_accuracy", "max")
        assert made.trials[0].objective == pytest.approx((0.8 + 0.9) / 2)
        assert made.trials[0].best_step == 0  # of the execution that was best

    def test_the_first_objective_comes_back(self):
        original = study([trial(0, 0.6, runs=self.RUNS)])
        there = original.with_objective("val_accuracy").with_objective("val_loss")
        assert there.trials[0].objective == pytest.approx(0.6)
        assert there.objective == original.objective

    def test_what_is_not_there_or_not_finite(self):
        made = study(
            [
                trial(0, 0.6, runs=self.RUNS),
                trial(1, 0.5, runs=[run(val_loss=[0.5])]),
                trial(2, 0.5, runs=[run(val_loss=[0.5], val_accuracy=[math.nan])]),
                trial(3, status="running"),
                trial(4, math.nan, status="infeasible"),
            ]
        ).with_objective("val_accuracy")
        statuses = ["completed", "failed", "infeasible", "running", "infeasible"]
        assert [t.status for t in made.trials] == statuses
        assert made.trials[1].message == "no run has recorded val_accuracy"

    def test_a_table_without_curves_has_no_other_objective(self):
        with pytest.raises(ValueError, match=r"'val_accuracy' for 'round1', which has no curves"):
            rate_study(1 + AT).with_objective("val_accuracy")

    def test_refuses_what_was_not_recorded_or_has_no_direction(self):
        made = study([trial(0, 0.6, runs=self.RUNS)])
        with pytest.raises(ValueError, match="Did you mean 'val_accuracy'"):
            made.with_objective("val_acuracy_accuracy")
        with pytest.raises(ValueError, match=r'Objective\(\'score\', "min"\)'):
            made.with_objective("score")
        score = studies.Objective("score", "max")
        assert made.with_objective(score).trials[0].objective == 2.0


def test_the_command(make_study, capsys):
    runs = [{"val_loss": [0.5, 0.4], "val_accuracy": [0.7, 0.9]}]
    made = make_study(
        [{"values": {"learning_rate": 0.1, "optimizer": "sgd"}, "score": 0.4, "runs": runs}] * 2,
        [RATE, OPTIMIZER],
    )
    options = ["--objective", "val_accuracy", "--scientific", "optimizer", "--baseline", "0000"]
    assert cli.main(["diagnose", str(made.path), *options]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "round1: 2 trials: 2 completed" in shown
    assert "Run more trials. 2 trials ended, fewer than 5 (D3)." in shown
    assert "Completed trials have 1 of the values to compare" in shown
    assert cli.main(["diagnose", str(made.path), "--baseline", "0007"]) == 2
    assert "`baseline` must be one of" in capsys.readouterr().err
