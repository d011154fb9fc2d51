"""Studies from rows and from files of rows."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfplaybook import studies

LOSS = studies.Objective("val_loss", "min")
RATE = studies.Hyperparameter("learning_rate", "float", "log", 1e-5, 1.0)
NAN = math.nan
EXAMPLES = 40


def of(*rows, **options):
    return studies.from_records(rows, **options)


class TestFromRecords:
    def test_a_study_in_full(self):
        study = of(
            {"trial_id": 7, "learning_rate": 0.1, "val_loss": 0.5, "best_step": 3.0, "seed": 0},
            {"trial_id": "b", "learning_rate": 1.0, "val_loss": NAN, "message": "NaN at step 3"},
            space=[RATE],
            name="elsewhere/round1",
            seed=0,
            goal="why",
            note="so",
        )
        assert (study.name, study.seed, study.goal, study.note) == ("round1", 0, "why", "so")
        assert study.objective == LOSS
        assert study.space == (RATE,)
        first, second = study.trials
        assert (first.trial_id, first.values, first.status) == (
            "7",
            {"learning_rate": 0.1},
            "completed",
        )
        assert (first.objective, first.best_step) == (0.5, 3)
        assert [run.info for run in first.runs] == [{"seed": 0}]
        assert (second.status, second.message, second.runs) == ("infeasible", "NaN at step 3", ())
        assert math.isnan(second.objective)

    def test_no_rows(self):
        study = of(objective=LOSS, space=[RATE])
        assert (study.trials, study.space) == ((), (RATE,))
        assert of(objective=LOSS).space == ()

    @pytest.mark.parametrize(
        ("row", "status"),
        [
            ({"val_loss": 0.5}, "completed"),
            ({"val_loss": math.inf}, "infeasible"),
            ({"val_loss": "NaN"}, "infeasible"),
            ({"val_loss": None}, "failed"),
            ({"val_loss": 0.5, "status": "COMPLETE"}, "completed"),
            ({"val_loss": 0.5, "status": "TrialState.PRUNED"}, "failed"),
            ({"val_loss": 0.5, "status": "Diverged"}, "infeasible"),
            ({"val_loss": None, "status": "completed"}, "failed"),
            ({"val_loss": NAN, "status": "finished"}, "infeasible"),
            ({"val_loss": None, "status": "running"}, "running"),
            ({"objective": 0.5}, "completed"),
        ],
    )
    def test_status(self, row, status):
        assert of(row, objective=LOSS).trials[0].status == status

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([1e-3, 0.1], ("float", "log", 1e-3, 0.1, ())),
            ([1e-3, 0.09], ("float", "linear", 1e-3, 0.09, ())),
            ([-1.0, 500.0], ("float", "linear", -1.0, 500.0, ())),
            ([8, np.int64(1024)], ("int", "log", 8, 1024, ())),
            ([8, 64.0], ("float", "linear", 8, 64.0, ())),
            (["sgd", "adam", "sgd"], ("choice", None, None, None, ("sgd", "adam"))),
            ([1, "auto"], ("choice", None, None, None, (1, "auto"))),
            ([True, True], ("boolean", None, None, None, (False, True))),
            ([3, 3], ("fixed", None, None, None, (3,))),
        ],
    )
    def test_what_nobody_described_is_inferred(self, values, expected):
        (h,) = of(*({"x": value, "val_loss": 1.0} for value in values)).space
        assert (h.kind, h.sampling, h.min_value, h.max_value, h.values) == expected
        assert h.is_inferred
        assert not RATE.is_inferred

    def test_a_missing_value_is_no_value(self):
        study = of(
            {"x": 1, "y": None, "z": None, "val_loss": 1.0}, {"x": NAN, "y": 2, "val_loss": 1.0}
        )
        assert [t.values for t in study.trials] == [{"x": 1}, {"y": 2}]
        assert [h.name for h in study.space] == ["x", "y"]

    def test_metrics_are_no_hyperparameters_unless_named(self):
        row = {"loss": "mse", "val_loss": 1.0, "loss_scale": 2, "train_acc": 0.5, "val_x": 1}
        assert of(row, objective=LOSS).trials[0].values == {"loss": "mse", "loss_scale": 2}
        study = of(row, hyperparameters=["loss", "val_x"])
        assert study.trials[0].values == {"loss": "mse", "val_x": 1}
        assert study.objective == LOSS

    def test_nested_hyperparameters(self):
        row = {"hyperparameters": {"x": 3}, "val_loss": 1.0}
        assert of(row).trials[0].values == {"x": 3}

    @pytest.mark.parametrize(
        ("columns", "expected"),
        [
            (["x", "loss"], ("loss", "min")),
            (["x", "loss", "val_loss"], ("val_loss", "min")),
            (["test/accuracy"], ("test/accuracy", "max")),
            (["Error"], ("Error", "min")),
        ],
    )
    def test_the_objective_is_the_only_metric(self, columns, expected):
        assert of(dict.fromkeys(columns, 0.5)).objective == studies.Objective(*expected)

    @pytest.mark.parametrize(
        ("columns", "reason"),
        [
            (["x", "y"], r"no column is known to be a metric\. Columns: x, y\."),
            (["val_loss", "val_accuracy"], "val_loss, val_accuracy could be it"),
            (["val_bleu"], r"'val_bleu' does not say whether lower is better"),
        ],
    )
    def test_an_objective_that_cannot_be_told_is_asked_for(self, columns, reason):
        with pytest.raises(ValueError, match=f"The objective must be given, since {reason}"):
            of(dict.fromkeys(columns, 0.5))

    def test_curves(self):
        study = of(
            {"curves": {"val_loss": [3, 1, 2], "loss": {"steps": [10, 20], "values": [2, "NaN"]}}},
            {"curves": [{"val_loss": [1]}, {"val_loss": [2]}]},
            {"curves": {"val_loss": [1, None]}},
            {"curves": {"val_loss": []}},
            objective=LOSS,
        )
        first, second, third, fourth = study.trials
        assert (first.objective, first.best_step, first.status) == (1.0, 1, "completed")
        (loss,) = first.curves("loss")
        assert loss.steps.tolist() == [10, 20]
        assert math.isnan(loss.values[1])
        assert first.curves("val_loss")[0].steps.tolist() == [1, 2, 3]
        assert (second.objective, len(second.runs)) == (1.5, 2)
        assert (third.status, third.best_step) == ("infeasible", None)
        assert fourth.status == "failed"

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ({"val_loss": "x"}, "'val_loss' of row 1 must be a number"),
            ({"val_loss": True}, "'val_loss' of row 1 must be a number"),
            ({"status": "odd"}, "`status` of row 1 must be one of"),
            ({"trial_id": "0000"}, "`trial_id` of row 1 must not be that of an earlier row"),
            ({"seed": -1}, "'seed' of row 1 must be an integer of at least 0"),
            ({"best_step": 0.5}, "'best_step' of row 1 must be an integer"),
            ({"x": [1]}, r"'x' of row 1 must be a finite number, .*: \[1\]\. If it is no"),
            ({"x": math.inf}, "'x' of row 1 must be a finite number"),
            ({"curves": 3}, "`curves` of row 1 must map"),
            ({"curves": {"loss": ["x"]}}, "the curve 'loss' of row 1 must be a list of numbers"),
            ({"curves": {"loss": 3}}, "the curve 'loss' of row 1 must be a list"),
            ({"curves": {"loss": {"steps": [1], "values": [1, 2]}}}, "the curve 'loss' of row 1"),
            ({"curves": {"loss": {"steps": [2, 1], "values": [1, 2]}}}, "ascending integers"),
            ({"curves": {"loss": {"steps": [1.5], "values": [1]}}}, "ascending integers"),
            ({"hyperparameters": 3}, "`hyperparameters` of row 1 must be a mapping"),
            ({"val_loss": 10**400}, "'val_loss' of row 1 must be a number"),
            ({"x": 10**400}, "'x' of row 1 must be a finite number"),
            ({"curves": {"loss": {"steps": ["a"], "values": [1]}}}, "ascending integers"),
            ({"curves": {"loss": {"steps": [NAN], "values": [1]}}}, "ascending integers"),
            ({"curves": {"loss": {"steps": [1e300], "values": [1]}}}, "ascending integers"),
        ],
    )
    def test_a_bad_value_is_named_with_its_row(self, row, message):
        with pytest.raises(ValueError, match=message):
            of({"val_loss": 1.0}, {"val_loss": 1.0, **row}, objective=LOSS)

    def test_other_bad_arguments(self):
        with pytest.raises(TypeError, match=r"must be mappings .* as row 0: 3"):
            of(3, objective=LOSS)
        with pytest.raises(TypeError, match="`objective` must be a tfplaybook"):
            of(objective="val_loss")
        with pytest.raises(ValueError, match=r"objective` must be .* mean 'val_los'"):
            of({"val_los": 1.0}, objective=LOSS)
        with pytest.raises(ValueError, match="Did you mean 'learning_rat'"):
            of({"learning_rat": 1.0, "val_loss": 1.0}, space=[RATE])


class TestFiles:
    @settings(deadline=None, max_examples=EXAMPLES)
    @given(
        st.sampled_from(["a.csv", "a.tsv", "a.json", "a.jsonl"]),
        st.one_of(
            st.text(max_size=60),
            st.text('x,val_loss\n"[]{}:019.-e\t;', max_size=60),
            st.recursive(
                st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
                lambda inner: (
                    st.lists(inner, max_size=4)
                    | st.dictionaries(
                        st.sampled_from(["trials", "val_loss", "x", "curves", "seed", "objective"]),
                        inner,
                        max_size=4,
                    )
                ),
                max_leaves=8,
            ).map(json.dumps),
        ),
    )
    def test_any_text_is_a_study_or_an_error_of_value(self, tmp_path_factory, name, text):
        path = tmp_path_factory.getbasetemp() / name
        path.write_text(text, encoding="utf-8", errors="replace")
        try:
            study = studies.load(path, objective=LOSS)
        except ValueError:
            return
        study.table()
        for h in study.varied:
            studies.axis_plot_record(study, h.name)

    def read(self, path, text, **options):
        path.write_text(text)
        return studies.load(path, **options)

    def test_csv(self, tmp_path):
        text = (
            "\ufefftrial_id,x,rate,opt,flag,val_loss,seed\n0001, 1,1e-3,sgd,true,0.5,3\n"
            '0002,2,,"a,b",False,nan,4\n\n'
        )
        study = self.read(tmp_path / "a.csv", text)
        assert study.name == "a.csv"
        assert study.path.is_absolute()
        assert [(t.trial_id, t.values, t.status) for t in study.trials] == [
            ("0001", {"x": 1, "rate": 1e-3, "opt": "sgd", "flag": True}, "completed"),
            ("0002", {"x": 2, "opt": "a,b", "flag": False}, "infeasible"),
        ]
        assert study.trials[1].runs[0].info == {"seed": 4}

    def test_tsv_with_json_cells(self, tmp_path):
        text = 'x\tcurves\n1\t{"val_loss": [2, 1]}\n'
        study = self.read(tmp_path / "a.tsv", text, objective=LOSS)
        assert study.trials[0].objective == 1.0

    @pytest.mark.parametrize("torn", ["0.3", "0.3,", '"0.'])
    def test_a_line_that_is_being_written_is_left_out(self, tmp_path, torn):
        text = "x,y,val_loss\n1,2,0.5\n" + torn
        assert len(self.read(tmp_path / "a.csv", text).trials) == 1
        lines = '{"x": 1, "val_loss": 0.5}\n{"x": ' + torn
        assert len(self.read(tmp_path / "a.jsonl", lines).trials) == 1

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("a.csv", "", "It is empty"),
            ("a.csv", "x;val_loss\n1;2\n", "must be separated by commas"),
            ("a.csv", "x,x\n1,2\n", r"different names\. Twice: \{'x'\}"),
            ("a.csv", "x,val_loss\n1\n1,2\n", "Line 2 of .* must have 2 cells.*Received 1"),
            ("a.csv", "x,val_loss\n1,2,3\n", "Line 2 of .* must have 2 cells.*Received 3"),
            ("a.csv", "x,curves\n1,{\n", "'curves' in .* must be JSON"),
            ("a.json", "", "must be JSON"),
            ("a.json", '{"trials": 3}', r"must hold a list of trials, .*\. Received: 3"),
            ("a.json", '{"trials": [], "objective": "x"}', '"objective" in .* must have a "name"'),
            ("a.jsonl", '{\n{"x": 1}\n', "Line 1 of .* must be JSON"),
            ("a.jsonl", '3\n{"x": 1}\n', "Line 1 of .* must be an object. Received: 3"),
            ("a.json", '[{"x": 1}, 3]', "Trial 1 of .* must be an object"),
            ("a.csv", "x,curves\n1," + "9" * 200_000, "cannot be read beyond line .*jsonl"),
        ],
    )
    def test_a_file_that_is_no_table_says_where(self, tmp_path, name, text, message):
        with pytest.raises(ValueError, match=message):
            self.read(tmp_path / name, text)

    def test_text_must_be_utf_8(self, tmp_path):
        (tmp_path / "a.csv").write_bytes(b"x,val_loss\n\xff,1\n")
        with pytest.raises(ValueError, match="Byte 11 is not"):
            studies.load(tmp_path / "a.csv")

    def test_json_with_and_without_its_objective(self, tmp_path):
        rows = [{"x": 1, "score": 0.5}]
        content = {"objective": {"name": "score", "direction": "max"}, "trials": rows}
        study = self.read(tmp_path / "a.json", json.dumps(content))
        assert study.objective == studies.Objective("score", "max")
        again = self.read(tmp_path / "b.json", json.dumps(rows), objective=study.objective)
        assert again.trials == study.trials

    def test_space_and_hyperparameters_are_passed_on(self, tmp_path):
        text = "learning_rate,x,val_loss\n0.1,2,0.5\n"
        study = self.read(tmp_path / "a.csv", text, space=[RATE], hyperparameters=["learning_rate"])
        assert study.space == (RATE,)

    def test_they_are_not_for_a_directory(self, make_study, tmp_path):
        make_study()
        with pytest.raises(ValueError, match="`space` and `hyperparameters` are for a table"):
            studies.load(tmp_path / "round1", space=[RATE])

    def test_a_table_within_a_study_is_a_table(self, make_study, tmp_path):
        make_study()
        path = Path(tmp_path / "round1" / "trials.csv")
        assert len(self.read(path, "x,val_loss\n1,2\n").trials) == 1
