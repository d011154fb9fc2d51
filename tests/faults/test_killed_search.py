"""A search killed with SIGKILL at random moments ends like one that was left alone."""

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest
from forks import Forks

import tfplaybook as pb


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    """Runs searches that can be killed."""
    with Forks(Path(__file__).parent / "searching.py", tmp_path_factory.mktemp("forks")) as forks:
        yield forks


def outcome(directory):
    """Everything that a study says, with the curves of every execution."""
    study = pb.studies.load(directory / "study")
    return [
        (
            trial.trial_id,
            trial.status,
            trial.values,
            repr(trial.objective),
            trial.message,
            [
                {
                    name: (c.steps.tolist(), repr(c.values.tolist()))
                    for name, c in run.curves.items()
                }
                for run in trial.runs
            ],
        )
        for trial in study.trials
    ]


@pytest.fixture(scope="module")
def undisturbed(searcher, tmp_path_factory):
    """The outcome of a search that was left alone, and the seconds that it took."""
    directory = tmp_path_factory.mktemp("undisturbed")
    start = time.perf_counter()
    assert searcher.finishes(directory=str(directory), kill_after=None, checkpoints=False)
    seconds = time.perf_counter() - start
    expected = outcome(directory)
    assert [trial[1] for trial in expected].count("completed") >= 3
    assert "infeasible" in [trial[1] for trial in expected]
    return expected, seconds


@pytest.mark.parametrize(
    "kills", [2, pytest.param(100, marks=pytest.mark.soak)], ids=["short", "soak"]
)
@pytest.mark.parametrize("checkpoints", [False, True], ids=["whole trials", "from checkpoints"])
def test_kills_at_random_moments_change_nothing(
    checkpoints, kills, searcher, undisturbed, tmp_path
):
    expected, seconds = undisturbed
    moments = random.Random(0)
    killed = studies = 0
    while killed < kills:
        directory = tmp_path / str(studies)
        finished = False
        while not finished:
            delay = moments.uniform(0.0, seconds) if killed < kills else None
            finished = searcher.finishes(
                directory=str(directory), kill_after=delay, checkpoints=checkpoints
            )
            killed += not finished
            for path in directory.glob("study/**/*.json"):
                json.loads(path.read_text())
        assert outcome(directory) == expected
        studies += 1
    np.testing.assert_equal(killed, kills)
