import dataclasses
import importlib.util
import io
import math
import re
from pathlib import Path

import pytest
import rich.console
from study_factory import OPTIMIZER, RATE, UNITS, hyperparameter

from tfplaybook import studies


def trial(index, objective=None, status="completed", **values):
    return studies.Trial(f"{index:04d}", values, status, objective)


def study(*trials, direction="min", space=()):
    objective = studies.Objective("val_loss", direction)
    return studies.Study(Path("studies/round1"), objective, trials, space)


def ids(trials):
    return [t.trial_id for t in trials]


def printed(table, width=100):
    console = rich.console.Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("direction", "n", "expected"),
    [
        ("min", 1, ["0001"]),
        ("min", 3, ["0001", "0000", "0003"]),
        ("max", 2, ["0004", "0000"]),
        ("min", 9, ["0001", "0000", "0003", "0004"]),
    ],
)
def test_best_ranks_completed_trials_and_ties_by_id(direction, n, expected):
    trials = [
        trial(0, 0.3),
        trial(1, 0.1),
        trial(2, math.nan, "infeasible"),
        trial(3, 0.3),
        trial(4, 0.5),
        trial(5, None, "running"),
    ]
    assert ids(study(*trials, direction=direction).best(n)) == expected


def test_best_of_nothing_is_nothing():
    assert study().best(3) == ()


@pytest.mark.parametrize("n", [0, -1, 1.5, True])
def test_best_wants_a_count(n):
    with pytest.raises(ValueError, match="`n` must be an integer of at least 1"):
        study().best(n)


def test_summary_counts_what_there_is():
    statuses = ["completed", "running", "infeasible", "completed", "failed"]
    trials = [trial(i, 0.1, status) for i, status in enumerate(statuses)]
    expected = "5 trials: 2 completed, 1 infeasible, 1 failed, 1 running"
    assert study(*trials).summary() == expected
    assert repr(study(*trials)) == f"<Study 'studies/round1': {expected}>"
    assert study(trials[0]).summary() == "1 trial: 1 completed"
    assert study().summary() == "0 trials"


def test_records_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        study().seed = 1


def test_an_objective_needs_a_direction():
    with pytest.raises(ValueError, match=r"must be one of \['min', 'max'\]\. Received: 'maximise'"):
        studies.Objective("val_accuracy", "maximise")


@pytest.mark.parametrize(
    ("h", "is_varied"),
    [
        (studies.Hyperparameter("x", "float", "log", 0.1, 1.0), True),
        (studies.Hyperparameter("x", "float", "log", 0.1, 0.1), False),
        (studies.Hyperparameter("x", "choice", values=("a", "b")), True),
        (studies.Hyperparameter("x", "choice", values=("a",)), False),
        (studies.Hyperparameter("x", "boolean", values=(False, True)), True),
        (studies.Hyperparameter("x", "fixed", values=(3,)), False),
    ],
)
def test_is_varied(h, is_varied):
    assert h.is_varied == is_varied
    assert study(space=(h,)).varied == ((h,) if is_varied else ())


def test_varied_names_each_hyperparameter_once_in_declared_order():
    first = studies.Hyperparameter("b", "int", "linear", 1, 9, conditions=(("a", (1,)),))
    other = dataclasses.replace(first, conditions=(("a", (2,)),))
    parent = studies.Hyperparameter("a", "choice", values=(1, 2))
    assert study(space=(first, parent, other)).varied == (first, parent)


def test_hyperparameter_names_the_closest():
    h = studies.Hyperparameter("learning_rate", "float", "log", 0.1, 1.0)
    assert study(space=(h,)).hyperparameter("learning_rate") is h
    with pytest.raises(ValueError, match="Did you mean 'learning_rate'"):
        study(space=(h,)).hyperparameter("learning_rat")


TRACEBACK = "Traceback (most recent call last):\n  File x\nValueError: [no]\n\nReceived: 3"


class TestTable:
    TRIALS = (
        {"values": {"learning_rate": 0.5, "units": 8}, "score": math.nan},
        {"values": {"learning_rate": 0.01, "units": 16}, "score": 0.4},
        {"values": {"learning_rate": 0.001234567, "units": 32}, "score": 0.123456},
        {"values": {"units": 64}, "status": "RUNNING"},
        {"values": {"units": 9}, "status": "FAILED", "message": TRACEBACK},
    )

    def test_best_first_and_infeasible_last(self, make_study):
        text = printed(make_study(self.TRIALS, [RATE, UNITS]).table())
        assert re.findall(r"^\s*(\d{4}) +\S+ ", text, re.MULTILINE)[:5] == [
            "0002", "0001", "0003", "0004", "0000"
        ]  # fmt: skip

    def test_content(self, make_study):
        batch = hyperparameter("Fixed", "batch_size", value=256)
        text = printed(make_study(self.TRIALS, [RATE, UNITS, batch], goal="[why] so").table())
        assert "round1: 5 trials: 2 completed, 1 infeasible, 1 failed, 1 running" in text
        assert "val_loss (lower is better)" in text
        assert "[why] so" in text
        assert re.search(r"0002 +0\.1235 +4 +0\.001235 +32 +completed", text)
        assert re.search(r"0003 +– +– +– +64 +running", text)  # noqa: RUF001
        assert re.search(r"^0004 failed: ValueError: \[no\] *$", text, re.MULTILINE)
        assert "fixed: batch_size=256" in text

    def test_reasons_are_whole_and_each_is_there_once(self, make_study):
        message = "Traceback (most recent call last):\n  File x\nValueError: " + "why " * 30 + "end"
        trials = [{"values": {}, "status": "FAILED", "message": message + "\n\nmore"}] * 5
        infeasible = [
            {
                "values": {},
                "status": "FAILED",
                "message": f"infeasible: loss became nan at step {i}",
            }
            for i in range(7)
        ]
        text = printed(make_study(trials + infeasible, [RATE]).table(), width=80)
        flat = " ".join(text.split())
        assert flat.count("why end") == 1
        assert f"0000, 0001, 0002 and 2 more failed: ValueError: {'why ' * 30}end" in flat
        assert "0008 infeasible: loss became nan at step 3" in flat
        assert "step 4" not in flat
        assert "and 3 more: see `Trial.message`" in flat
        assert "…" not in text

    def test_the_best_row_stands_out(self, make_study):
        table = make_study(self.TRIALS, [RATE, UNITS]).table()
        assert [row.style for row in table.rows] == ["bold green", "", "cyan", "red", "red"]

    def test_an_empty_study(self, make_study):
        assert "0 trials" in printed(make_study().table())

    def test_a_narrow_terminal_loses_no_digit(self, make_study):
        names = [f"optimizer=adam/learning_rate_{i}" for i in range(8)]
        space = [hyperparameter("Float", name, min_value=0.0, max_value=1.0) for name in names]
        trials = [{"values": dict.fromkeys(names, 0.1234), "score": 0.5678}]
        text = printed(make_study(trials, space).table(), width=80)
        assert "0000" in text
        assert "0.5678" in text
        assert "…" not in text


def test_to_pandas(make_study):
    result = make_study(TestTable.TRIALS, [RATE, UNITS, OPTIMIZER])
    if importlib.util.find_spec("pandas") is None:
        with pytest.raises(ImportError, match=r"needs pandas, .* pip install pandas"):
            result.to_pandas()
        return
    frame = result.to_pandas()
    hyperparameters = ["learning_rate", "units", "optimizer"]
    assert list(frame) == [
        "trial_id", "status", "objective", "best_step", *hyperparameters, "message"
    ]  # fmt: skip
    assert frame["units"].tolist() == [8, 16, 32, 64, 9]
    assert frame["trial_id"].tolist() == ["0000", "0001", "0002", "0003", "0004"]


class TestExports:
    def test_csv_is_read_back(self, make_study, tmp_path):
        result = make_study(TestTable.TRIALS, [RATE, UNITS, OPTIMIZER], note="not, in it")
        path = result.to_csv(tmp_path / "trials.csv")
        assert path.read_text().splitlines()[:2] == [
            "trial_id,status,objective,best_step,learning_rate,units,optimizer,message",
            "0000,infeasible,nan,3,0.5,8,,",
        ]
        again = studies.load(path, objective=result.objective, space=result.space)
        # NaN is not equal to itself.
        assert again.trials[1:] == result.trials[1:]
        assert again.trials[0].status == "infeasible"
        assert again.space == result.space

    def test_csv_keeps_what_is_not_finite(self, tmp_path):
        result = study(trial(0, math.nan, "infeasible", x=1), trial(1, math.inf, "infeasible", x=2))
        again = studies.load(result.to_csv(tmp_path / "a.csv"), objective=result.objective)
        assert [t.status for t in again.trials] == ["infeasible"] * 2
        assert math.isnan(again.trials[0].objective)
        assert again.trials[1].objective == math.inf

    def test_markdown(self, make_study):
        batch = hyperparameter("Fixed", "batch_size", value=256)
        result = make_study(TestTable.TRIALS, [RATE, UNITS, batch], goal="[why] | so", note="a_b")
        lines = result.to_markdown().splitlines()
        assert lines[0] == "round1: 5 trials: 2 completed, 1 infeasible, 1 failed, 1 running"
        assert lines[2:7:2] == ["val\\_loss (lower is better)", "\\[why\\] \\| so", "a\\_b"]
        assert lines[8] == "| trial | val\\_loss | best epoch | learning\\_rate | units | status |"
        assert lines[10] == "| 0002 | 0.1235 | 4 | 0.001235 | 32 | completed |"
        assert lines[-2:] == ["- fixed: batch\\_size=256", "- 0004 failed: ValueError: \\[no\\]"]

    def test_markdown_of_nothing(self, make_study):
        assert "0 trials" in make_study().to_markdown()
