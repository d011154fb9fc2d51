"""The fault table of a search by one chief and three workers, with real processes."""

import json
import random

import pytest
from many_processes import Processes, wait_until

import tfplaybook as pb

WORKERS = ("worker0", "worker1", "worker2")


@pytest.fixture
def make(tmp_path):
    made = []

    def make_processes(**options):
        made.append(Processes(tmp_path, **options))
        return made[-1]

    yield make_processes
    for processes in made:
        processes.close()


def check_complete(processes, trials=6):
    """Every trial is completed, once, with its own point and score."""
    stored = processes.trials()
    assert [trial["status"] for trial in stored] == ["COMPLETED"] * trials
    points = pb.search.halton(range(trials), 1, seed=0)[:, 0]
    values = [trial["hyperparameters"]["values"]["x"] for trial in stored]
    assert values == points.tolist()
    # To the last digit, although KerasTuner's messages have 24 bits.
    assert [trial["score"] for trial in stored] == [x / 3 for x in values]


def test_the_trial_of_a_killed_worker_is_anothers(make):
    processes = make()
    processes.hold()
    processes.start("chief", *WORKERS)
    wait_until(lambda: len(processes.began()) == 3)
    assert processes.kill("worker1")
    processes.release()
    assert processes.end() == [0, 0, 0]
    check_complete(processes)
    assert len(processes.began()) == 7


def test_a_chief_that_starts_again_runs_nothing_twice(make):
    processes = make(search_id="one", options={"max_trials": 6, "overwrite": True})
    processes.hold()
    processes.start("chief", *WORKERS)
    wait_until(lambda: len(processes.began()) == 3)
    assert processes.kill("chief")
    processes.start("chief")
    # Its workers hold their trials; a further one gets the next.
    processes.start("worker3")
    wait_until(lambda: len(processes.began()) == 4)
    processes.release()
    assert processes.end() == [0] * 5
    check_complete(processes)
    assert len(set(processes.began())) == len(processes.began()) == 6


def test_a_chief_that_is_killed_while_it_is_called_loses_nothing(make):
    processes = make(options={"max_trials": 120})
    processes.start("chief", *WORKERS)
    for count in (20, 60):
        wait_until(lambda count=count: len(processes.began()) >= count)
        assert processes.kill("chief")
        processes.start("chief")
    assert processes.end() == [0] * 4
    check_complete(processes, 120)
    assert len(set(processes.began())) == 120


def test_what_a_worker_says_too_late_is_ignored(make):
    processes = make(options={"max_trials": 3})
    processes.hold()
    processes.start("chief", *WORKERS)
    wait_until(lambda: len(processes.began()) == 3)
    processes.pause("worker1")
    processes.release()
    wait_until(lambda: processes.ended() == 2)
    processes.hold()
    wait_until(lambda: len(processes.began()) == 4)
    processes.resume("worker1")
    processes.release()
    assert processes.end() == [0] * 4
    check_complete(processes, 3)
    (again,) = {x for x in processes.began() if processes.began().count(x) == 2}
    assert again in [repr(x) for x in pb.search.halton(range(3), 1, seed=0)[:, 0].tolist()]


def test_infeasible_trials_in_a_row_end_nothing(make):
    processes = make(hypermodel={"outcome": "nan"})
    processes.start("chief", *WORKERS)
    # All of them are infeasible, and none is an error.
    assert processes.end() == [0] * 4
    assert [trial["message"] for trial in processes.trials()] == [
        "infeasible: default_objective was nan"
    ] * 6


def test_failures_in_a_row_end_the_search_and_all_processes(make):
    # By the id of the search a worker that comes when it has failed knows that it is over.
    processes = make(search_id="one", options={"max_trials": 20}, hypermodel={"outcome": "raise"})
    processes.start("chief", *WORKERS)
    assert processes.end() == [1, 0, 0, 0]
    assert "3 trials in a row failed" in processes.error("chief")
    failed = [trial for trial in processes.trials() if trial["status"] == "FAILED"]
    assert 3 <= len(failed) <= 6
    assert all("RuntimeError: no such luck" in trial["message"] for trial in failed)


def test_a_finished_search_is_not_run_again_and_late_workers_leave(make):
    processes = make()
    processes.start("chief", "worker0")
    assert processes.end() == [0, 0]
    processes.start("worker1")
    assert processes.end() == [0]
    processes.start("chief", "worker0", "worker1")
    assert processes.end() == [0, 0, 0]
    check_complete(processes)
    assert len(processes.began()) == 6
    # With more trials to run, a worker that comes first waits for the chief.
    processes.options = {"max_trials": 8}
    processes.start("worker0", "chief")
    assert processes.end() == [0, 0]
    check_complete(processes, 8)
    assert len(processes.began()) == 8


def test_workers_delete_nothing(make):
    processes = make(options={"max_trials": 12, "overwrite": True})
    processes.start("chief", "worker0")
    wait_until(lambda: processes.ended() >= 4)
    processes.start("worker1", "worker2")
    assert processes.end()[:2] == [0, 0]
    check_complete(processes, 12)
    assert len(processes.began()) == 12


@pytest.mark.parametrize(
    ("options", "hypermodel", "difference"),
    [
        ({"seed": 1}, {}, "seed is 0 there, 1 here"),
        ({}, {"extra": True}, "hyperparameter 'extra' is only here"),
    ],
)
def test_another_study_is_refused_with_the_difference(make, options, hypermodel, difference):
    processes = make()
    processes.hold()
    processes.start("chief", "worker0")
    wait_until(lambda: processes.began())
    processes.options = {**processes.options, **options}
    processes.hypermodel = hypermodel
    processes.start("worker1")
    assert processes.end("worker1") == [1]
    assert difference in processes.error("worker1")
    processes.kill("chief")
    processes.start("chief")
    assert processes.end("chief") == [1]
    assert difference in processes.error("chief")


def test_two_chiefs_do_not_share_a_port(make):
    processes = make()
    processes.hold()
    processes.start("chief", "worker0")
    wait_until(lambda: processes.began())
    processes.start("chief2")
    assert processes.end("chief2") == [1]
    assert "the port is taken" in processes.error("chief2")
    processes.release()
    assert processes.end() == [0, 0]
    check_complete(processes)


@pytest.mark.parametrize(
    "kills", [8, pytest.param(100, marks=pytest.mark.soak)], ids=["short", "soak"]
)
def test_random_kills_change_nothing(make, kills):
    trials = 12 * kills
    processes = make(search_id="soak", options={"max_trials": trials, "overwrite": True})
    processes.start("chief", *WORKERS)
    chance = random.Random(0)
    for number in range(1, kills + 1):
        enough = 12 * number - chance.randrange(1, 12)
        wait_until(lambda enough=enough: len(list(processes.log.glob("*.began"))) >= enough)
        victim = chance.choice(["chief", *WORKERS])
        assert processes.kill(victim)
        # KerasTuner writes build_config.json in place, and reads it of completed trials only.
        for path in processes.study.rglob("*.json"):
            if path.name != "build_config.json":
                json.loads(path.read_text())
        processes.start(victim)
    assert processes.end() == [0] * 4
    check_complete(processes, trials)
