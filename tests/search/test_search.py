"""The bookkeeping of `QuasiRandomSearch`, with a hypermodel that scores without training."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap

import keras
import keras_tuner as kt
import pytest
from hypermodels import Parabola

from tfplaybook.callbacks import PercentileClipping, WarmupThenDecay
from tfplaybook.runs import RunRecorder
from tfplaybook.search import QuasiRandomSearch


def compiled():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_it_meets_the_points_of_the_oracle(make_tuner, parabola):
    tuner = make_tuner(parabola, max_trials=6, seed=5, start_index=3)
    tuner.search(verbose=0)
    assert parabola.seen == [tuner.oracle.point(index) for index in range(6)]
    best = min(parabola.seen, key=lambda values: (values["x"] - 0.3) ** 2)
    assert tuner.get_best_hyperparameters()[0].values == best


def test_a_finished_search_is_not_run_again(make_tuner, parabola, capsys):
    make_tuner(parabola).search(verbose=0)
    tuner = make_tuner(parabola)
    assert tuner.remaining_trials == 0
    assert len(tuner.get_best_hyperparameters(9)) == 4
    assert capsys.readouterr().out == ""
    tuner.search()
    assert len(parabola.seen) == 4
    assert capsys.readouterr().out == (
        "nothing to run: trials done: 4, max_trials: 4; raise `max_trials` for more\n"
    )


def test_an_interrupted_search_goes_on_at_the_same_points(make_tuner):
    def interrupt(values):
        if len(hypermodel.seen) == 3:
            raise KeyboardInterrupt
        return values["x"]

    hypermodel = Parabola(interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_tuner(hypermodel, max_trials=5).search(verbose=0)
    rest = Parabola()
    tuner = make_tuner(rest, max_trials=5)
    assert tuner.remaining_trials == 3
    tuner.search(verbose=0)
    points = [tuner.oracle.point(index) for index in range(5)]
    assert hypermodel.seen == points[:3]
    assert rest.seen == points[2:]


def test_the_same_tuner_goes_on_after_an_interrupt(make_tuner):
    def interrupt(values):
        if len(hypermodel.seen) == 2:
            raise KeyboardInterrupt
        return values["x"]

    hypermodel = Parabola(interrupt)
    tuner = make_tuner(hypermodel, max_trials=3)
    with pytest.raises(KeyboardInterrupt):
        tuner.search(verbose=0)
    tuner.search(verbose=0)
    assert hypermodel.seen == [tuner.oracle.point(index) for index in (0, 1, 1, 2)]


def test_a_killed_process_loses_the_trial_that_ran_and_no_other(tmp_path, make_tuner, read_study):
    script = f"""
        import os, signal
        from hypermodels import Parabola
        from tfplaybook.search import QuasiRandomSearch

        def score(values):
            if len(hypermodel.seen) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return values["x"]

        hypermodel = Parabola(score)
        QuasiRandomSearch(hypermodel, objective="val_loss", max_trials=4, seed=8,
                          directory={str(tmp_path)!r}, project_name="study").search(verbose=0)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env=environment, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert read_study("study/trial_0002/trial.json")["status"] == "RUNNING"
    rest = Parabola()
    tuner = make_tuner(rest, seed=8)
    tuner.search(verbose=0)
    assert rest.seen == [tuner.oracle.point(2), tuner.oracle.point(3)]
    assert [trial.trial_id for trial in tuner.oracle.trials.values()] == [
        "0000",
        "0001",
        "0002",
        "0003",
    ]


def test_a_study_of_format_1_goes_on(make_tuner, parabola, tmp_path, read_study):
    make_tuner(parabola, max_trials=2).search(verbose=0)
    study = read_study()
    del study["roles"], study["enqueued"]
    (tmp_path / "study" / "study.json").write_text(json.dumps({**study, "format": 1}))
    tuner = make_tuner(parabola)
    tuner.search(verbose=0)
    assert parabola.seen == [tuner.oracle.point(index) for index in range(4)]
    assert read_study()["format"] == 3


def test_overwrite_starts_afresh(make_tuner, parabola, tmp_path):
    make_tuner(parabola, max_trials=2).search(verbose=0)
    (tmp_path / "study" / "mine.txt").write_text("left by hand")
    tuner = make_tuner(parabola, max_trials=3, seed=1, overwrite=True)
    assert tuner.remaining_trials == 3
    tuner.search(verbose=0)
    assert len(parabola.seen) == 5
    assert not (tmp_path / "study" / "mine.txt").exists()


def test_overwrite_deletes_nothing_when_the_hypermodel_does_not_work(make_tuner, parabola):
    def build(hp):
        raise ZeroDivisionError("a bug of the user")

    make_tuner(parabola, max_trials=2).search(verbose=0)
    for hypermodel, error in ((build, ZeroDivisionError), (lambda hp: None, ValueError)):
        with pytest.raises(error):
            make_tuner(hypermodel, overwrite=True)
    with pytest.raises(ValueError, match="search space is empty"):
        make_tuner(lambda hp: compiled(), overwrite=True)
    assert len(make_tuner(parabola).oracle.trials) == 2


@pytest.mark.parametrize("damage", ["delete", "null"])
def test_a_study_that_lost_its_header_is_not_mixed_with_another(
    make_tuner, parabola, tmp_path, damage
):
    make_tuner(parabola, max_trials=2).search(verbose=0)
    header = tmp_path / "study" / "study.json"
    header.unlink() if damage == "delete" else header.write_text("null")
    with pytest.raises(ValueError, match=r"study\.json"):
        make_tuner(parabola, seed=1)
    make_tuner(parabola, seed=1, overwrite=True).search(verbose=0)
    assert len(parabola.seen) == 6


def test_a_project_of_another_tuner_is_refused(make_tuner, parabola, tmp_path):
    (tmp_path / "study" / "trial_0000").mkdir(parents=True)
    for name in ("oracle.json", "tuner0.json"):
        (tmp_path / "study" / name).write_text("{}")
    with pytest.raises(ValueError, match=r"holds oracle\.json, trial_0000, but no study\.json"):
        make_tuner(parabola)
    assert make_tuner(parabola, overwrite=True).remaining_trials == 4


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "{",
        '{"score": "abc"}',
        '{"hyperparameters": []}',
        '{"message": 3}',
        '{"trial_id": "0000", "hyperparameters": {"space": [], "values": {}}}',
    ],
)
def test_a_damaged_trial_is_named(make_tuner, parabola, tmp_path, text):
    make_tuner(parabola, max_trials=1).search(verbose=0)
    path = tmp_path / "study" / "trial_0000" / "trial.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"trial_0000/trial\.json is damaged: .* Move it away"):
        make_tuner(parabola)
    path.unlink()
    make_tuner(parabola, max_trials=1).search(verbose=0)
    assert len(parabola.seen) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, "seed is 0 there, 1 here"),
        ({"start_index": 4}, "start_index is 0 there, 4 here"),
        ({"objective": "val_accuracy"}, "objective is min val_loss there, max val_accuracy here"),
        ({"executions_per_trial": 2}, "executions_per_trial is 1 there, 2 here"),
    ],
)
def test_another_study_in_the_directory_is_refused(make_tuner, parabola, options, message):
    make_tuner(parabola, max_trials=1).search(verbose=0)
    with pytest.raises(ValueError, match=message):
        make_tuner(parabola, **options)


def test_a_changed_range_is_refused(make_tuner, parabola):
    class Wider(Parabola):
        def build(self, hp):
            hp.Float("x", 0.0, 2.0)
            hp.Choice("kind", ["plain", "fancy"])
            return keras.Sequential([keras.layers.Dense(1)])

    make_tuner(parabola, max_trials=1).search(verbose=0)
    with pytest.raises(ValueError, match=r"'x' is Float\(.*max_value=1.0.*max_value=2.0"):
        make_tuner(Wider())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_diverged_trials_do_not_stop_the_search(make_tuner, value):
    hypermodel = Parabola(lambda values: value)
    tuner = make_tuner(hypermodel, max_trials=5)
    tuner.search(verbose=0)
    assert len(hypermodel.seen) == 5
    assert {trial.message for trial in tuner.oracle.trials.values()} == {
        f"infeasible: val_loss was {value}"
    }
    assert tuner.get_best_hyperparameters() == []


def test_exceptions_stop_the_search_after_three_in_a_row(make_tuner):
    def fail(values):
        raise ZeroDivisionError("a bug of the user")

    hypermodel = Parabola(fail)
    tuner = make_tuner(hypermodel, max_trials=5)
    with pytest.raises(RuntimeError, match=r"3 trials in a row failed[\s\S]*a bug of the user"):
        tuner.search(verbose=0)
    assert len(hypermodel.seen) == 3
    assert "ZeroDivisionError" in tuner.oracle.trials["0000"].message


@pytest.mark.parametrize("max_trials", [1, 2])
def test_a_search_in_which_every_trial_failed_says_so(make_tuner, max_trials, capfd):
    hypermodel = Parabola(lambda values: 1 / 0)
    with pytest.raises(RuntimeError, match=r"trial failed: 0000[\s\S]*ZeroDivisionError"):
        make_tuner(hypermodel, max_trials=max_trials).search()
    printed = capfd.readouterr()
    assert printed.err == ""
    assert printed.out.count("failed: ZeroDivisionError: division by zero") == max_trials
    assert "Traceback" not in printed.out


def test_keras_tuner_prints_tracebacks_only_when_it_prints_its_tables(make_tuner, capfd):
    hypermodel = Parabola(lambda values: 1 / (len(hypermodel.seen) - 1))
    make_tuner(hypermodel, max_trials=2, project_name="quiet").search(verbose=0)
    assert capfd.readouterr() == ("", "")
    hypermodel.seen.clear()
    make_tuner(hypermodel, max_trials=2, project_name="loud").search(verbose=1)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_small_space_ends_with_a_message(make_tuner, capsys):
    class Discrete(Parabola):
        def build(self, hp):
            hp.Choice("kind", ["plain", "fancy"])
            return keras.Sequential([keras.layers.Dense(1)])

    hypermodel = Discrete(lambda values: 0.5)
    make_tuner(hypermodel).search()
    assert sorted(values["kind"] for values in hypermodel.seen) == ["fancy", "plain"]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("[1/2] trial 0000")
    message = "all configurations of the search space are tried: 2 trials of 4"
    assert printed[2:] == [message]
    make_tuner(hypermodel).search()
    assert capsys.readouterr().out == f"{message}\n"


def test_a_crash_is_run_again_as_often_as_asked(make_tuner):
    def crash_once(values):
        if len(hypermodel.seen) == 1:
            raise ZeroDivisionError("out of memory, say")
        return values["x"]

    hypermodel = Parabola(crash_once)
    tuner = make_tuner(hypermodel, max_trials=2, max_retries_per_trial=1)
    tuner.search(verbose=0)
    assert hypermodel.seen == [tuner.oracle.point(index) for index in (0, 1, 0)]
    assert {trial.status for trial in tuner.oracle.trials.values()} == {"COMPLETED"}


def test_failed_trials_run_again_when_the_bug_is_gone_and_infeasible_ones_do_not(make_tuner):
    def fails_at_0(values):
        if len(hypermodel.seen) == 1:
            raise ZeroDivisionError("a bug of the user")
        return math.nan if len(hypermodel.seen) == 2 else values["x"]

    hypermodel = Parabola(fails_at_0)
    make_tuner(hypermodel, max_trials=3).search(verbose=0)
    fixed = Parabola()
    tuner = make_tuner(fixed, max_trials=4)
    assert tuner.remaining_trials == 2
    tuner.search(verbose=0)
    assert fixed.seen == [tuner.oracle.point(3), tuner.oracle.point(0)]
    statuses = [trial.status for trial in tuner.oracle.trials.values()]
    assert statuses == ["COMPLETED", "FAILED", "COMPLETED", "COMPLETED"]
    assert tuner.oracle.trials["0000"].message is None
    tuner.search(verbose=0)
    assert len(fixed.seen) == 2


def test_the_same_tuner_runs_failed_trials_again(make_tuner):
    def fails_twice(values):
        if len(hypermodel.seen) < 3:
            raise ZeroDivisionError("a bug of the user")
        return values["x"]

    hypermodel = Parabola(fails_twice)
    tuner = make_tuner(hypermodel, max_trials=2)
    with pytest.raises(RuntimeError, match="Every trial failed: 0000, 0001"):
        tuner.search(verbose=0)
    tuner.search(verbose=0)
    assert hypermodel.seen == [tuner.oracle.point(index) for index in (0, 1, 0, 1)]


def test_fewer_trials_than_there_are(make_tuner, parabola, capsys):
    make_tuner(parabola, max_trials=2).search(verbose=0)
    make_tuner(parabola, max_trials=1).search()
    assert "trials done: 2, max_trials: 1; raise" in capsys.readouterr().out


def test_one_line_per_trial(make_tuner, capsys):
    def score(values):
        if len(hypermodel.seen) == 2:
            return math.nan
        if len(hypermodel.seen) == 3:
            raise ZeroDivisionError("a bug of the user [bold]")
        return 0.25 * len(hypermodel.seen)

    hypermodel = Parabola(score)
    make_tuner(hypermodel).search()
    assert capsys.readouterr().out.splitlines() == [
        "[1/4] trial 0000  val_loss 0.25  best 0.25 (trial 0000)  0 infeasible",
        "[2/4] trial 0001  infeasible: val_loss was nan  best 0.25 (trial 0000)  1 infeasible",
        "[3/4] trial 0002  failed: ZeroDivisionError: a bug of the user [bold]  "
        "best 0.25 (trial 0000)  1 infeasible  1 failed",
        "[4/4] trial 0003  val_loss 1  best 0.25 (trial 0000)  1 infeasible  1 failed",
    ]


def test_verbose_0_is_silent_and_1_shows_the_tables_of_keras_tuner(make_tuner, parabola, capsys):
    tuner = make_tuner(parabola, max_trials=2)
    tuner.search(verbose=0)
    assert capsys.readouterr().out == ""
    make_tuner(parabola, max_trials=3).search(verbose=1)
    printed = capsys.readouterr().out
    assert "Search: Running Trial #3" in printed
    assert "Best val_loss So Far" in printed


def test_verbose_reaches_a_fit_that_takes_it(make_tuner):
    class Strict(Parabola):
        def fit(self, hp, model, callbacks):
            return hp.get("x")

    class Open(Parabola):
        def fit(self, hp, model, callbacks, verbose):
            asked.append(verbose)
            return hp.get("x")

    asked = []
    make_tuner(Strict(), max_trials=1, project_name="strict").search()
    make_tuner(Open(), max_trials=1, project_name="open").search()
    make_tuner(Open(), max_trials=2, project_name="open").search(verbose=2)
    assert asked == [0, 2]


def test_results_summary_lists_completed_trials(make_tuner, parabola, capsys):
    tuner = make_tuner(parabola)
    tuner.search(verbose=0)
    tuner.results_summary(2)
    printed = capsys.readouterr().out
    assert printed.count("Score:") == 2


class TestSpace:
    def test_an_empty_space_is_refused_at_once(self, make_tuner):
        def build(hp):
            return compiled()

        with pytest.raises(ValueError, match="`hypermodel` declared no hyperparameter"):
            make_tuner(build)

    def test_conditions_are_explored(self, make_tuner):
        class Conditional(Parabola):
            def build(self, hp):
                kind = hp.Choice("kind", ["plain", "fancy"])
                with hp.conditional_scope("kind", ["fancy"]):
                    if kind == "fancy":
                        hp.Float("depth", 0.0, 1.0)
                return keras.Sequential([keras.layers.Dense(1)])

        hypermodel = Conditional(lambda values: values.get("depth", 0.5))
        tuner = make_tuner(hypermodel, max_trials=6)
        tuner.search(verbose=0)
        names = {tuple(sorted(values)) for values in hypermodel.seen}
        assert names == {("kind",), ("depth", "kind")}
        assert hypermodel.seen == [tuner.oracle.point(index) for index in range(6)]

    def test_one_that_python_hides_is_refused_before_training(self, make_tuner):
        class Hiding(Parabola):
            def build(self, hp):
                for layer in range(hp.Int("layers", 1, 4)):
                    hp.Int(f"units_{layer}", 1, 8)
                return keras.Sequential([keras.layers.Dense(1)])

        hypermodel = Hiding(lambda values: 0.0)
        with pytest.raises(ValueError, match=r"\['units_1'.*`build` of trial.*conditional_scope"):
            make_tuner(hypermodel, max_trials=8).search(verbose=0)
        assert all(values["layers"] == 1 for values in hypermodel.seen)

    def test_a_range_that_depends_on_another_one_is_refused(self, make_tuner):
        class Dependent(Parabola):
            def build(self, hp):
                hp.Int("units", 8, 8 * hp.Int("layers", 1, 3))
                return keras.Sequential([keras.layers.Dense(1)])

        # KerasTuner would search the range of the first build, 8 to 8.
        expected = r"must be the same in every trial.*max_value=24.*which is.*max_value=8"
        with pytest.raises(kt.errors.FatalValueError, match=expected):
            make_tuner(Dependent(lambda values: 0.0)).search(verbose=0)

    def test_one_that_appears_in_fit_is_refused_after_the_first_trial(self, make_tuner):
        class Late(Parabola):
            def fit(self, hp, model, *args, **kwargs):
                return hp.Float("late", 0.0, 1.0)

        with pytest.raises(ValueError, match=r"Found \['late'\] in `fit` of trial 0000"):
            make_tuner(Late()).search(verbose=0)

    def test_a_space_given_in_advance(self, make_tuner):
        space = kt.HyperParameters()
        space.Float("x", 0.5, 0.75)
        hypermodel = Parabola()
        tuner = make_tuner(hypermodel, hyperparameters=space, tune_new_entries=False)
        tuner.search(verbose=0)
        assert list(tuner.oracle.point(0)) == ["x"]
        assert all(0.5 <= values["x"] <= 0.75 for values in hypermodel.seen)
        assert {values["kind"] for values in hypermodel.seen} == {"plain"}

    def test_a_tuner_without_hypermodel(self, tmp_path):
        class BlackBox(QuasiRandomSearch):
            def run_trial(self, trial):
                return (trial.hyperparameters.get("x") - 0.5) ** 2

        space = kt.HyperParameters()
        space.Float("x", 0.0, 1.0)
        tuner = BlackBox(
            None,
            objective=None,
            max_trials=8,
            directory=tmp_path,
            project_name="box",
            hyperparameters=space,
        )
        tuner.search(verbose=0)
        assert abs(tuner.get_best_hyperparameters()[0].get("x") - 0.5) < 1 / 8


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"max_trials": 0}, "`max_trials` must be an integer of at least 1. Received: 0"),
            ({"max_trials": 2.5}, "`max_trials` must be an integer"),
            ({"seed": None}, "`seed` must be an integer"),
            ({"start_index": -1}, "`start_index` must be an integer of at least 0"),
            ({"executions_per_trial": 0}, "`executions_per_trial` must be an integer of at least"),
            ({"objective": "val_acuracy"}, "`objective` must say whether"),
            ({"objective": ["loss", "mae"]}, "`objective` must be the name of one metric"),
            ({"project_name": ""}, "`project_name` must be a non-empty string"),
            ({"directory": None}, "`directory` must be a path. Received: None"),
            ({"roles": {"fixed": {}}}, "`roles` must be a `Roles` or None. Received: {"),
            ({"hyperparameters": {"x": 1}}, "`hyperparameters` must be a `HyperParameters` or"),
            ({"directory": "gs://bucket"}, "must be a path of the local file system"),
            ({"max_trails": 3}, "max_trails"),
            ({"hypermodel": None}, "`hypermodel` must be a `keras_tuner.HyperModel` or"),
        ],
    )
    def test_bad_ones(self, make_tuner, parabola, options, message):
        with pytest.raises(ValueError, match=message):
            make_tuner(**{"hypermodel": parabola, **options})

    @pytest.mark.parametrize(
        ("hypermodel", "message"),
        [
            (compiled, "a model. Pass the function that builds"),
            (lambda: Parabola, r"a class. Pass an instance: `Parabola\(\)`"),
            (lambda: 3, "`hypermodel` must be a .* Received: 3"),
            (lambda: lambda hp: None, "must return the model .* `return model`"),
            (lambda: lambda hp: 3, "works with a `keras.Model` of Keras 3. Received: int"),
            (lambda: lambda hp: keras.Sequential(), "needs a compiled model"),
        ],
    )
    def test_hypermodels(self, make_tuner, hypermodel, message):
        with pytest.raises(ValueError, match=message):
            make_tuner(hypermodel())

    def test_keras_tuner_may_compile(self, make_tuner):
        def build(hp):
            hp.Float("x", 0.0, 1.0)
            return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

        assert make_tuner(build, optimizer="sgd", loss="mse").remaining_trials == 4

    @pytest.mark.parametrize(
        ("callback", "message"),
        [
            (lambda d: RunRecorder(d), "must do without RunRecorder.* records each execution"),
            (
                lambda d: WarmupThenDecay(warmup_steps=1, log_dir=d),
                "Received: WarmupThenDecay with log_dir=.*Leave `log_dir` out",
            ),
            (
                lambda d: PercentileClipping(log_dir=d),
                "Received: PercentileClipping with log_dir=.*Leave `log_dir` out",
            ),
        ],
    )
    def test_callbacks_with_one_directory(self, make_tuner, parabola, tmp_path, callback, message):
        with pytest.raises(ValueError, match=message):
            make_tuner(parabola).search(callbacks=[callback(tmp_path / "mine")], verbose=0)

    @pytest.mark.parametrize("name", ["study", "study/inside"])
    def test_a_file_in_the_way(self, make_tuner, parabola, tmp_path, name):
        (tmp_path / "study").write_text("a file")
        with pytest.raises(ValueError, match="study is a file"):
            make_tuner(parabola, project_name=name)

    @pytest.mark.parametrize("callbacks", [keras.callbacks.TerminateOnNaN(), ["early"]])
    def test_callbacks_are_a_list(self, make_tuner, parabola, callbacks):
        with pytest.raises(ValueError, match="`callbacks` must be a list"):
            make_tuner(parabola).search(callbacks=callbacks, verbose=0)

    def test_callbacks_can_be_copied(self, make_tuner, parabola):
        import threading

        callback = keras.callbacks.Callback()
        callback.lock = threading.Lock()
        with pytest.raises(ValueError, match=r"deep-copyable[\s\S]*on_train_begin"):
            make_tuner(parabola).search(callbacks=[callback], verbose=0)

    def test_verbose(self, make_tuner, parabola):
        with pytest.raises(ValueError, match='`verbose` must be "auto", 0, 1 or 2'):
            make_tuner(parabola).search(verbose="quiet")

    def test_half_of_the_variables_for_many_processes(self, make_tuner, parabola, monkeypatch):
        monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
        with pytest.raises(RuntimeError, match='"KERASTUNER_ORACLE_PORT" was not'):
            make_tuner(parabola)
