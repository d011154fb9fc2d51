"""`tfplaybook search`: supervised processes, from the command."""

import functools
import io
import json
import os
import signal
import subprocess
import sys

import pytest
import rich.console

import tfplaybook as pb
from tfplaybook.cli import main
from tfplaybook.search._launcher import RestartPolicy
from tfplaybook.search._live_table import progress_table

# What the launcher starts; without TensorFlow, so that it starts at once.
STAND_IN = """
import json, os, pathlib, signal, sys, time

name, folder = os.environ["KERASTUNER_TUNER_ID"], pathlib.Path(sys.argv[1])
(folder / f"{name}.{os.getpid()}").touch()
status = {"objective": "loss", "trials": 2, "running": 0, "infeasible": 0, "is_over": False,
          "failed": 0, "best": 0.5, "best_trial": "0000"}

def wait(path):
    while not path.exists():
        time.sleep(0.01)

if name == "chief":
    path = pathlib.Path(os.environ["TFPLAYBOOK_STATUS_FILE"])
    beside = path.with_name("beside")
    beside.write_text(json.dumps({**status, "done": 0}))
    beside.replace(path)
    wait(folder / "done")
    beside.write_text(json.dumps({**status, "done": 2}))
    beside.replace(path)
    sys.exit(0)
"""


@pytest.fixture
def stand_in(tmp_path):
    def write(of_workers):
        script = tmp_path / "script.py"
        script.write_text(STAND_IN + of_workers)
        return ["search", str(script), "--workers", "2", "--logs", str(tmp_path / "logs")]

    return write


@pytest.mark.parametrize(
    ("name", "exit_code", "deaths", "again"),
    [
        ("worker0", -9, 1, True),
        ("worker0", 1, 2, True),
        ("worker0", 0, 1, True),
        ("worker0", 1, 3, False),
        ("chief", -9, 2, True),
        ("chief", -9, 3, False),
        ("chief", 1, 1, False),
    ],
)
def test_what_is_started_again(name, exit_code, deaths, again):
    assert RestartPolicy(max_deaths=3).starts_again(name, exit_code, deaths) is again


def test_the_table():
    console = rich.console.Console(width=120, record=True, file=io.StringIO())
    status = {"objective": "val_loss", "trials": 32, "done": 12, "running": 3, "infeasible": 2}
    status |= {"failed": 1, "best": 0.03125, "best_trial": "0007"}
    console.print(progress_table(status, seconds=60.0, done_before=2, workers="3 of 3"))
    text = console.export_text()
    for part in ("12 of 32", "val_loss 0.03125 (trial 0007)", "10 a minute", "0:02:00", "3 of 3"):
        assert part in text


def test_a_worker_that_dies_is_started_again(stand_in, tmp_path, capsys):
    # The first process of each worker dies; when both are there again, the chief is done.
    of_workers = """
if len(list(folder.glob(f"{name}.*"))) == 1:
    os.kill(os.getpid(), signal.SIGKILL)
if len(list(folder.glob("worker*"))) == 4:
    (folder / "done").touch()
wait(folder / "done")
"""
    assert main([*stand_in(of_workers), "--", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for worker in ("worker0", "worker1"):
        assert f"{worker} was killed by signal 9; started again" in printed
        assert len(list(tmp_path.glob(f"{worker}.*"))) == 2
    assert "2 of 2" in printed
    assert "KERASTUNER_ORACLE_IP=127.0.0.1" in printed


def test_a_worker_that_dies_each_time_ends_the_search(stand_in, tmp_path, capsys):
    arguments = stand_in('sys.exit("no such module")')
    assert main([*arguments, "--", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "ended with exit status 1 (3 deaths and no trial done)" in printed
    assert "no such module" in printed
    assert not alive(tmp_path)


# A shell lets what it starts in the background ignore interrupts, and children inherit that.
HEAR_INTERRUPTS = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)


def run_command(arguments, *, preexec_fn=HEAR_INTERRUPTS):
    code = "import sys; from tfplaybook.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=preexec_fn,
    )


READY = 'if len(list(folder.glob("worker*"))) == 2: os.kill(os.getppid(), signal.SIG{})\n'


def test_an_interrupt_ends_all_processes(stand_in, tmp_path):
    arguments = stand_in(READY.format("INT") + 'wait(folder / "never")\n')
    done = run_command([*arguments, "--", str(tmp_path)])
    assert done.returncode == 130, done.stderr
    assert "run the command again to go on" in done.stdout
    assert not alive(tmp_path)


def test_a_second_interrupt_ends_what_does_not_want_to_leave(stand_in, tmp_path):
    again = (
        'again = lambda *_: name == "worker0" and os.kill(os.getppid(), signal.SIGINT)\n'
        "signal.signal(signal.SIGTERM, again)\n"
    )
    arguments = stand_in(again + READY.format("INT") + 'wait(folder / "never")\n')
    done = run_command([*arguments, "--", str(tmp_path)])
    assert done.returncode == 130, done.stderr
    assert not alive(tmp_path)


def test_a_hangup_that_is_ignored_ends_nothing(stand_in, tmp_path):
    finish = 'if len(list(folder.glob("worker*"))) == 2: (folder / "done").touch()\n'
    arguments = stand_in(READY.format("HUP") + finish + 'wait(folder / "done")\n')
    ignore = functools.partial(signal.signal, signal.SIGHUP, signal.SIG_IGN)
    done = run_command([*arguments, "--", str(tmp_path)], preexec_fn=ignore)
    assert done.returncode == 0, done.stderr
    assert not alive(tmp_path)


def alive(folder):
    """The processes that have been started and are still there."""
    found = []
    for path in [*folder.glob("worker*.*"), *folder.glob("chief.*")]:
        try:
            os.kill(int(path.suffix[1:]), 0)
        except ProcessLookupError:
            continue
        found.append(path.name)
    return found


def test_a_script_that_is_not_there(capsys):
    assert main(["search", "nowhere.py", "--workers", "1"]) == 2
    assert "`script` must be a Python script" in capsys.readouterr().err


SEARCH = """
import sys
import keras, keras_tuner as kt, tfplaybook as pb

class Parabola(kt.HyperModel):
    def build(self, hp):
        hp.Float("x", 0.0, 1.0)
        return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

    def fit(self, hp, model, *args, **kwargs):
        return float("nan") if hp.get("x") > 0.8 else hp.get("x")

tuner = pb.search.QuasiRandomSearch(
    Parabola(), objective=None, max_trials=8, directory=sys.argv[1], project_name="study",
    overwrite=True)
tuner.search(verbose=0)
print(tuner.get_best_hyperparameters()[0].values)
"""


def test_a_search_by_two_workers(tmp_path, capsys):
    script = tmp_path / "script.py"
    script.write_text(SEARCH)
    logs = tmp_path / "logs"
    arguments = ["search", str(script), "--workers", "2", "--logs", str(logs)]
    assert main([*arguments, "--", str(tmp_path)]) == 0
    study = pb.studies.load(tmp_path / "study")
    assert len(study.completed) + len(study.infeasible) == 8
    assert len(study.infeasible) >= 1
    assert "8 of 8" in capsys.readouterr().out
    best = repr(dict(study.best()[0].values))
    assert all(best in (logs / f"{name}.log").read_text() for name in ("chief", "worker0"))
    assert json.loads((tmp_path / "study" / "search.json").read_text())["has_ended"]
