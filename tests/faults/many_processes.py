"""A search of many processes for the tests to kill: real ones, over real RPC.

They are forked from a server that has imported TensorFlow, so that one starts in no time.
"""

import dataclasses
import gc
import json
import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import keras
import keras_tuner as kt

from tfplaybook.search import QuasiRandomSearch

LEASE_SECONDS = 2.0
PATIENCE_SECONDS = 60.0

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tfplaybook.search"])


class Recorded(kt.HyperModel):
    """Score x without training; leaves a file when a trial begins, and waits while told to."""

    def __init__(self, directory, outcome="score", extra=False):
        super().__init__()
        self.directory, self.outcome, self.extra = Path(directory), outcome, extra

    def build(self, hp):
        hp.Float("x", 0.0, 1.0)
        if self.extra:
            hp.Boolean("extra")
        return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

    def fit(self, hp, model, *args, **kwargs):
        name = f"{os.environ['KERASTUNER_TUNER_ID']}-{os.getpid()}-{time.monotonic_ns()}"
        (self.directory / f"{name}.began").write_text(repr(hp.get("x")))
        while (self.directory / "hold").exists():
            time.sleep(0.01)
        if self.outcome == "raise":
            raise RuntimeError("no such luck")
        return float("nan") if self.outcome == "nan" else hp.get("x") / 3


def run(tuner_id, port, directory, options, hypermodel, search_id):
    """Be one process of the search; its error, if any, goes to a file."""
    # KerasTuner collects garbage in every trial, each time through all of TensorFlow.
    gc.freeze()
    os.environ["KERASTUNER_TUNER_ID"] = tuner_id
    os.environ["KERASTUNER_ORACLE_IP"] = "127.0.0.1"
    os.environ["KERASTUNER_ORACLE_PORT"] = str(port)
    if search_id:
        os.environ["TFPLAYBOOK_SEARCH_ID"] = search_id
    try:
        tuner = QuasiRandomSearch(
            Recorded(Path(directory, "log"), **hypermodel),
            objective=None,
            directory=directory,
            project_name="study",
            lease_seconds=LEASE_SECONDS,
            **options,
        )
        tuner.search(verbose=0)
    except Exception:
        Path(directory, f"{tuner_id}.error").write_text(traceback.format_exc())
        sys.exit(1)


@dataclasses.dataclass
class Processes:
    """The processes of searches in one directory."""

    directory: Path
    search_id: str = ""
    hypermodel: dict = dataclasses.field(default_factory=dict)
    options: dict = dataclasses.field(default_factory=lambda: {"max_trials": 6})

    def __post_init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.alive = {}
        self.log = self.directory / "log"
        self.log.mkdir()

    @property
    def study(self):
        return self.directory / "study"

    def start(self, *tuner_ids):
        """Start processes; "chief" is the chief."""
        for tuner_id in tuner_ids:
            arguments = (
                tuner_id,
                self.port,
                str(self.directory),
                self.options,
                self.hypermodel,
                self.search_id,
            )
            process = _context.Process(target=run, args=arguments)
            process.start()
            self.alive[tuner_id] = process

    def kill(self, tuner_id):
        """Kill a process with SIGKILL; return whether it was still there."""
        process = self.alive.pop(tuner_id)
        process.kill()
        process.join()
        return process.exitcode == -signal.SIGKILL

    def pause(self, tuner_id):
        """Stop a process for a while."""
        os.kill(self.alive[tuner_id].pid, signal.SIGSTOP)

    def resume(self, tuner_id):
        """Let a process go on."""
        os.kill(self.alive[tuner_id].pid, signal.SIGCONT)

    def end(self, *tuner_ids):
        """Wait for processes, or for all; return their exit codes."""
        codes = []
        for tuner_id in tuner_ids or list(self.alive):
            process = self.alive.pop(tuner_id)
            process.join(PATIENCE_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
            codes.append(process.exitcode)
        return codes

    def close(self):
        """Kill what is left."""
        for tuner_id in list(self.alive):
            self.kill(tuner_id)

    def hold(self):
        """Let trials begin but not end."""
        (self.log / "hold").touch()

    def release(self):
        """Let trials end."""
        (self.log / "hold").unlink()

    def began(self):
        """The point of every time that a trial began."""
        return [path.read_text() for path in self.log.glob("*.began")]

    def error(self, tuner_id):
        """The traceback with which a process ended."""
        return (self.directory / f"{tuner_id}.error").read_text()

    def trials(self):
        """Every trial file, read strictly."""
        paths = sorted(self.study.glob("trial_*/trial.json"))
        return [json.loads(path.read_text()) for path in paths]

    def ended(self):
        """How many trials have ended."""
        return sum(trial["status"] != "RUNNING" for trial in self.trials())


def wait_until(condition):
    """Wait for an event that is sure to come."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it has not come"
        time.sleep(0.01)
