"""A training killed with SIGKILL at random moments ends, bit for bit, like one left alone."""

import json
import os
import random
import re
import signal
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest
from exact_training import EPOCHS, STEPS, make_model, outcome, train
from forks import Forks

import tfplaybook as pb
from tfplaybook import _keras_state
from tfplaybook.callbacks._resumable_run import ResumableRun

SCRIPT = Path(__file__).parent / "exact_training.py"


def weights(directory):
    with np.load(directory / "weights.npz") as file:
        return {name: file[name].tobytes() for name in file.files}


def campaign(folder, *, kills, seed, backend):
    """Kill trainings until there were so many, and compare each with one that was left alone."""
    undisturbed = folder / "undisturbed"
    moments = random.Random(seed)
    runs = killed = resumed = 0
    with Forks(SCRIPT, folder, KERAS_BACKEND=backend) as trainer:

        def run(directory, *, kill_after=None):
            """Train or go on; return what the training says at its end, or None if killed."""
            finished = trainer.finishes(directory=str(directory), kill_after=kill_after)
            return json.loads((directory / "end.json").read_text()) if finished else None

        seconds = run(undisturbed)["seconds"]
        expected = outcome(undisturbed)
        assert len(expected[1]) >= 3
        while killed < kills:
            # A run that has ended is not trained again, and could not be killed.
            directory = folder / str(runs)
            runs += 1
            end = None
            while end is None:
                delay = moments.uniform(0.0, seconds) if killed < kills else None
                end = run(directory, kill_after=delay)
                killed += end is None
            assert outcome(directory) == expected
            assert weights(directory) == weights(undisturbed)
            resumed += end["resumed_step"] is not None
    assert resumed


def campaigns(short, soak):
    """Kills and seeds of the short campaign, and of the long ones, which run beside each other."""
    long = [
        pytest.param(soak // 4, seed, marks=pytest.mark.soak, id=f"soak-{seed}")
        for seed in range(1, 5)
    ]
    return pytest.mark.parametrize(("kills", "seed"), [pytest.param(short, 0, id="short"), *long])


@pytest.mark.tensorflow
@campaigns(short=5, soak=200)
def test_kills_at_random_moments_change_no_bit(kills, seed, tmp_path):
    campaign(tmp_path, kills=kills, seed=seed, backend="tensorflow")


@pytest.mark.tensorflow
@campaigns(short=1, soak=52)
def test_kills_change_no_bit_on_jax(kills, seed, tmp_path):
    pytest.importorskip("jax", reason="the JAX backend needs jax")
    campaign(tmp_path, kills=kills, seed=seed, backend="jax")


LEFT_OUT = {
    "weights": r"model/.*kernel",
    "batch statistics": r"model/.*moving_",
    "seeds of layers": r"model/.*seed",
    "the global seed": r"generator/global_seed",
    "NumPy's generator": r"generator/numpy",
    "Python's generator": r"generator/python",
    "iterations": r"optimizer/.*/iterations?$",
    "slots": r"optimizer/.*momentum",
    "averages": r"optimizer/average",
    "accumulated gradients": r"optimizer/.*accum",
    "loss scale": r"optimizer/.*(step_counter|dynamic_scale)",
    "clipping": r"callbacks/PercentileClipping",
    "multiplier of the schedule": r"callbacks/WarmupThenDecay",
    "evaluations": r"history/values",
    "position in the data": None,
    "nothing": r"no such name",
}


class Halve(keras.callbacks.Callback):
    """Halve the schedule in the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            optimizer = self.model.optimizer.inner_optimizer
            optimizer._learning_rate.assign(optimizer._learning_rate / 2)


# An odd number of batches, in the middle of an accumulation, when the run is stopped.
STOPPED_AFTER = 3


def train_eagerly(directory, epochs):
    """Train without compiling, which would take longer than these few steps."""
    return train(directory, epochs=epochs, callbacks=[Halve()], run_eagerly=True)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The end of a run that was left alone, the checkpoint to resume from, and fresh state."""
    folder = tmp_path_factory.mktemp("reference")
    _, checkpoint, whole = train_eagerly(folder / "whole", STOPPED_AFTER + 2)
    train_eagerly(folder / "part", STOPPED_AFTER)
    fresh = make_model()
    _keras_state.build_optimizer(fresh)
    return folder, whole, checkpoint.best, _keras_state.capture(fresh)


@pytest.mark.tensorflow
@pytest.mark.parametrize("what", LEFT_OUT)
def test_each_piece_of_state_that_is_left_out_is_noticed(what, reference, monkeypatch, tmp_path):
    """With a piece as it is at the beginning, not as it was saved, the run must go otherwise."""
    folder, whole, best, fresh = reference
    directory = tmp_path / "run"
    subprocess.run(["cp", "-r", folder / "part", directory], check=True)
    pattern = LEFT_OUT[what]
    touched = []

    def load_latest(self):
        checkpoint = original(self)
        if pattern is None:
            touched.append("data_step")
            return checkpoint._replace(record={**checkpoint.record, "data_step": 0})
        arrays = dict(checkpoint.arrays)
        for name, value in arrays.items():
            if re.match(pattern, name):
                touched.append(name)
                arrays[name] = initial(name, value)
        return checkpoint._replace(arrays=arrays)

    def initial(name, value):
        if name in fresh:
            return fresh[name]
        same = {_keras_state._comparable(n): v for n, v in fresh.items()}
        if _keras_state._comparable(name) in same:
            return same[_keras_state._comparable(name)]
        return np.ones_like(value) if "multiplier" in name else np.zeros_like(value)

    original = ResumableRun.load_latest
    monkeypatch.setattr(ResumableRun, "load_latest", load_latest)
    _, checkpoint, state = train_eagerly(directory, STOPPED_AFTER + 2)
    assert checkpoint.resumed_step == STOPPED_AFTER * STEPS // 2
    same_state = {_keras_state._comparable(n): v.tobytes() for n, v in state.items()} == {
        _keras_state._comparable(n): v.tobytes() for n, v in whole.items()
    }
    same = same_state and checkpoint.best == best and same_curves(directory, folder / "whole")
    assert bool(touched) == (what != "nothing")
    assert same == (what == "nothing")


def same_curves(one, other):
    return outcome(one)[0] == outcome(other)[0]


@pytest.mark.tensorflow
def test_a_sigterm_ends_training_and_repeats_at_most_one_epoch(tmp_path):
    class Preempt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            if (self.epoch, batch) == (3, 5):
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.warns(
        UserWarning, match=f"SIGTERM has ended the training after epoch 3 of {EPOCHS}"
    ):
        _, checkpoint, _ = train(tmp_path / "run", callbacks=[Preempt()])
    assert checkpoint.preempted
    assert signal.getsignal(signal.SIGTERM) is before
    entries = pb.runs.CheckpointReader(tmp_path / "run" / "checkpoints").entries()
    assert max(entry.step for entry in entries if entry.resumable) == 3 * STEPS // 2
    assert all(entry.step % 8 == 0 for entry in entries if not entry.resumable)
    _, checkpoint, resumed = train(tmp_path / "run")
    assert checkpoint.resumed_step == 3 * STEPS // 2
    assert not checkpoint.preempted
    _, _, whole = train(tmp_path / "whole")
    for value, expected in zip(resumed.values(), whole.values(), strict=True):
        assert value.tobytes() == expected.tobytes()
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
