import json
import math

import pytest
import study_factory as factory

from tfplaybook import studies

VALUES = {"learning_rate": 0.1, "units": 32, "optimizer": "adam"}


@pytest.mark.parametrize(
    ("score", "status", "message", "expected"),
    [
        (0.3, "COMPLETED", None, "completed"),
        (math.inf, "COMPLETED", None, "infeasible"),
        (math.nan, "COMPLETED", None, "infeasible"),
        (None, "FAILED", "infeasible: loss is NaN at step 10", "infeasible"),
        (None, "INVALID", "infeasible: loss is NaN at step 10", "infeasible"),
        (None, "FAILED", "Traceback ...\nMemoryError", "failed"),
        (None, "INVALID", None, "failed"),
        (None, "COMPLETED", None, "failed"),
        (None, "RUNNING", None, "running"),
        (None, "RUNNING", "infeasible: an earlier attempt", "running"),
        (None, "STOPPED", None, "running"),
    ],
)
def test_status(make_study, score, status, message, expected):
    trial = {"values": VALUES, "score": score, "status": status, "message": message}
    (loaded,) = make_study([trial]).trials
    assert loaded.status == expected
    assert loaded.message == (message or "")


def test_a_study_is_read_in_full(make_study):
    study = make_study(
        [
            {
                "values": VALUES,
                "score": 0.25,
                "runs": [{"loss": [1.0, 0.2], "val_loss": [1.0, 0.25]}],
            }
        ],
        goal="a good learning rate",
        note="first try",
    )
    assert study.name == "round1"
    assert study.objective == studies.Objective("val_loss", "min")
    assert (study.seed, study.goal, study.note) == (0, "a good learning rate", "first try")
    (trial,) = study.trials
    assert (trial.trial_id, trial.values, trial.objective) == ("0000", VALUES, 0.25)
    assert trial.best_step == 3
    (curve,) = trial.curves("val_loss")
    assert curve.steps.tolist() == [10, 20]
    assert curve.values.tolist() == [1.0, 0.25]
    assert trial.curves("val_accuracy") == ()


def test_the_space_is_read_in_declared_order(make_study):
    space = [
        factory.hyperparameter(
            "Float", "momentum", min_value=0.5, max_value=0.99, sampling="reverse_log"
        ),
        factory.hyperparameter("Int", "layers", min_value=1, max_value=4, step=1),
        factory.hyperparameter("Choice", "optimizer", values=["sgd", "adam"]),
        factory.hyperparameter("Boolean", "nesterov", conditions=[("optimizer", ["sgd"])]),
        factory.hyperparameter("Fixed", "epochs", value=10),
    ]
    assert make_study(space=space).space == (
        studies.Hyperparameter("momentum", "float", "reverse_log", 0.5, 0.99),
        studies.Hyperparameter("layers", "int", "linear", 1, 4, step=1),
        studies.Hyperparameter("optimizer", "choice", values=("sgd", "adam")),
        studies.Hyperparameter(
            "nesterov", "boolean", values=(False, True), conditions=(("optimizer", ("sgd",)),)
        ),
        studies.Hyperparameter("epochs", "fixed", values=(10,)),
    )


def test_an_unknown_kind_of_hyperparameter_is_named(make_study):
    with pytest.raises(ValueError, match=r"'x' must be one of Float, .*Received: 'Simplex'"):
        make_study(space=[factory.hyperparameter("Simplex", "x")])


def test_a_hyperparameter_declared_late_comes_from_the_oracle(tmp_path):
    path = factory.write_study(tmp_path / "round1", space=[factory.RATE])
    late = {"space": [factory.RATE, factory.UNITS], "values": {}}
    factory.write_json(path / "oracle.json", {"hyperparameters": late})
    assert [h.name for h in studies.load(path).space] == ["learning_rate", "units"]


def test_values_of_hyperparameters_that_do_not_exist_are_dropped(make_study):
    space = [
        factory.OPTIMIZER,
        factory.hyperparameter("Boolean", "nesterov", conditions=[("optimizer", ["sgd"])]),
    ]
    leaked = {"optimizer": "adam", "nesterov": False, "undeclared": 1}
    kept = {"optimizer": "sgd", "nesterov": False}
    study = make_study([{"values": leaked}, {"values": kept}], space)
    assert [t.values for t in study.trials] == [{"optimizer": "adam", "undeclared": 1}, kept]


def test_trials_and_executions_are_in_the_order_of_their_numbers(tmp_path):
    path = factory.write_study(tmp_path / "round1")
    for name in ("10", "2", "abc", "1"):
        factory.write_trial(path / f"trial_{name}", VALUES, 0.5)
    for index in (10, 9):
        factory.write_run(path / "trial_1" / f"execution_{index}", {"loss": [float(index)]})
    study = studies.load(path)
    assert [trial.trial_id for trial in study.trials] == ["1", "2", "10", "abc"]
    assert [curve.values[0] for curve in study.trials[0].curves("loss")] == [9.0, 10.0]


@pytest.mark.parametrize("torn", [None, "", '{"trial_id": "0001", "hyperp', "[]"])
def test_a_study_that_is_being_written_is_read(tmp_path, torn):
    path = factory.write_study(tmp_path / "round1", [{"values": VALUES, "score": 0.5}])
    (path / "trial_0001" / "execution_0").mkdir(parents=True)
    if torn is not None:
        (path / "trial_0001" / "trial.json").write_text(torn)
    (path / "oracle.json").write_text('{"seed": 7, "hyper')
    study = studies.load(path)
    assert study.summary() == "2 trials: 1 completed, 1 running"
    assert study.running[0].values == {}
    study.table()


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ({"score": "abc"}, "`score` must be"),
        ({"score": True}, "`score` must be"),
        ({"best_step": "3"}, "`best_step` must be"),
        ({"status": []}, "`status` must be"),
        ({"message": 3}, "`message` must be"),
        ({"hyperparameters": []}, "`hyperparameters` must be"),
        ({"hyperparameters": {"values": []}}, "`values` of `hyperparameters` must be"),
        ({"hyperparameters": {"space": [{}]}}, "an entry of `space` must have"),
        ({"metrics": []}, "`metrics` must be"),
        ({"metrics": {"metrics": {"loss": 3}}}, "the metric 'loss' must be"),
        ({"metrics": {"metrics": {"loss": {"observations": [{}]}}}}, "an observation"),
    ],
)
@pytest.mark.parametrize("header", [True, False])
def test_a_damaged_trial_is_told_and_no_other_is_lost(tmp_path, header, damage, what):
    trials = [{"values": VALUES, "score": 0.5}] * 2
    path = factory.write_study(tmp_path / "round1", trials, header=header)
    file = path / "trial_0001" / "trial.json"
    factory.write_json(file, {**json.loads(file.read_text()), **damage})
    study = studies.load(path)
    assert study.summary() == "2 trials: 1 completed, 1 running"
    assert study.completed[0].message == ""
    assert study.running[0].message.startswith(f"{file} is damaged: {what}")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 2}', '{"format": "x"}'])
def test_a_damaged_run_is_told_and_no_other_is_lost(tmp_path, text):
    runs = [{"loss": [1.0]}, {"loss": [2.0]}]
    trials = [{"values": VALUES, "score": 0.5, "runs": runs}] * 2
    path = factory.write_study(tmp_path / "round1", trials)
    file = path / "trial_0001" / "execution_0" / "run.json"
    file.write_text(text)
    whole, damaged = studies.load(path).trials
    assert (whole.message, len(whole.runs)) == ("", 2)
    assert damaged.status == "completed"
    assert [curve.values.tolist() for curve in damaged.curves("loss")] == [[2.0]]
    assert damaged.message.startswith(f"execution_0 is left out: {file}")


@pytest.mark.parametrize("text", ["", "[]", '{"hyperparameters": []}', '{"seed": "x"}'])
def test_a_damaged_file_of_keras_tuner_beside_whole_trials_does_no_harm(tmp_path, text):
    trials = [{"values": VALUES, "score": 0.5}]
    path = factory.write_study(tmp_path / "round1", trials, header=False)
    (path / "oracle.json").write_text(text)
    study = studies.load(path)
    assert (study.seed, study.summary()) == (None, "1 trial: 1 completed")


def test_a_newer_format_is_refused(make_study):
    with pytest.raises(ValueError, match=r"has format 4; this version .* up to 3\. Upgrade"):
        make_study(format=4)


@pytest.mark.parametrize("text", ["", '{"format": 1', "{}", "[1]", '{"format": 1}'])
def test_a_damaged_header_is_refused(tmp_path, text):
    path = factory.write_study(tmp_path / "round1")
    (path / "study.json").write_text(text)
    with pytest.raises(ValueError, match=r"study\.json is damaged: .* Restore it from a copy"):
        studies.load(path)


class TestNotAStudy:
    def test_nothing_there(self, tmp_path):
        with pytest.raises(ValueError, match=r"must be a study: .*which does not exist\."):
            studies.load(tmp_path / "round1")

    def test_empty(self, tmp_path):
        with pytest.raises(ValueError, match=r"which holds nothing\."):
            studies.load(tmp_path)

    def test_something_else(self, tmp_path):
        for index in range(8):
            (tmp_path / f"file{index}").touch()
        with pytest.raises(ValueError, match=r"which holds file0, .*, file5 and 2 more\."):
            studies.load(tmp_path)

    def test_a_file(self, tmp_path):
        (tmp_path / "a.txt").touch()
        with pytest.raises(ValueError, match="is another kind of file"):
            studies.load(tmp_path / "a.txt")

    def test_the_parent_of_studies(self, tmp_path):
        factory.write_study(tmp_path / "round1")
        factory.write_study(tmp_path / "round2", header=False)
        with pytest.raises(ValueError, match=r"contains studies .*: round1, round2\. .*/round1'\."):
            studies.load(tmp_path)

    @pytest.mark.parametrize("part", ["study.json", "trial_0000", "trial_0000/execution_0"])
    def test_a_part_of_a_study(self, tmp_path, part):
        runs = [{"loss": [1.0]}]
        factory.write_study(tmp_path / "round1", [{"values": VALUES, "score": 1.0, "runs": runs}])
        with pytest.raises(ValueError, match=r"part of a study\. Did you mean '.*/round1'\?"):
            studies.load(tmp_path / "round1" / part)


class TestPlainKerasTunerProject:
    def write(self, path, histories, scores):
        """Write trials that have `histories` (metric to direction and best value) and a score."""
        factory.write_study(path, header=False)
        for index, (history, score) in enumerate(zip(histories, scores, strict=True)):
            directory = path / f"trial_{index}"
            factory.write_trial(directory, VALUES, score)
            state = json.loads((directory / "trial.json").read_text())
            state["metrics"]["metrics"] = {
                name: {"direction": direction, "observations": [{"value": values, "step": 1}]}
                for name, (direction, values) in history.items()
            }
            factory.write_json(directory / "trial.json", state)

    @pytest.mark.parametrize(
        ("histories", "scores", "expected"),
        [
            ([{"loss": ("min", [0.1]), "val_loss": ("min", [0.2])}], [0.2], ("val_loss", "min")),
            ([{"loss": ("min", [0.1]), "val_loss": ("min", [0.2])}], [0.1], ("loss", "min")),
            ([{"acc": ("max", [0.9]), "val_acc": ("max", [0.9])}], [0.9], ("val_acc", "max")),
            ([{"loss": ("min", [0.1, 0.3])}], [0.2], ("loss", "min")),
            ([{"loss": ("min", [1 / 3])}], [0.3333333432674408], ("loss", "min")),
            (
                [
                    {"a": ("min", [0.2]), "b": ("min", [0.2])},
                    {"a": ("min", [0.1]), "b": ("min", [0.3])},
                ],
                [0.2, 0.3],
                ("b", "min"),
            ),
        ],
    )
    def test_the_objective_is_the_metric_that_explains_the_scores(
        self, tmp_path, histories, scores, expected
    ):
        self.write(tmp_path / "project", histories, scores)
        study = studies.load(tmp_path / "project")
        assert study.objective == studies.Objective(*expected)
        assert study.seed == 7
        assert [h.name for h in study.space] == ["learning_rate", "units", "optimizer"]

    def test_an_unexplained_score_asks_for_the_objective(self, tmp_path):
        self.write(tmp_path / "project", [{"loss": ("min", [0.1])}], [0.5])
        with pytest.raises(ValueError, match=r"none of its metrics \(loss\) explains the scores"):
            studies.load(tmp_path / "project")
        objective = studies.Objective("cost", "max")
        assert studies.load(tmp_path / "project", objective=objective).objective == objective

    def test_a_project_without_scores_asks_for_the_objective(self, tmp_path):
        self.write(tmp_path / "project", [{}], [None])
        with pytest.raises(ValueError, match="no trial has a score"):
            studies.load(tmp_path / "project")

    def test_the_objective_of_a_study_is_not_to_be_given(self, tmp_path):
        path = factory.write_study(tmp_path / "round1")
        with pytest.raises(ValueError, match=r"has one\. Leave it out"):
            studies.load(path, objective=studies.Objective("val_loss", "min"))

    def test_an_objective_says_its_direction(self, tmp_path):
        path = factory.write_study(tmp_path / "project", header=False)
        with pytest.raises(TypeError, match=r"such as Objective\(.* Received: 'val_loss'"):
            studies.load(path, objective="val_loss")
