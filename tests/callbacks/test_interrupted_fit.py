"""A `fit` that does not reach its end gives back what it has taken; one that runs keeps it."""

import signal
import threading
import warnings

import keras
import numpy as np
import pytest

import tfplaybook as pb
from tfplaybook.callbacks import RetrospectiveCheckpoint

X = np.ones((4, 2), "float32")


class Data:
    """Stands for a pipeline whose position can be set."""

    def __init__(self):
        self.start_step = keras.Variable(5, dtype="int32", trainable=False)

    @property
    def position(self):
        return int(self.start_step.numpy())


class Do(keras.callbacks.Callback):
    """Do something at the beginning of an epoch."""

    def __init__(self, epoch, action):
        super().__init__()
        self.epoch = epoch
        self.action = action

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            self.action()


def interrupt():
    raise KeyboardInterrupt


def fit(directory, callbacks=(), *, epochs=3, monitor="loss", data=None):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    checkpoint = RetrospectiveCheckpoint(directory, monitor=monitor, mode="min", data=data)
    model.fit(
        X, X[:, :1], batch_size=2, epochs=epochs, verbose=0, callbacks=[checkpoint, *callbacks]
    )


def is_free(directory):
    """Return whether another may write there."""
    try:
        pb.runs.CheckpointStore(directory / "checkpoints", keep=pb.runs.LatestN(1)).close()
    except RuntimeError:
        return False
    return True


def interrupt_twice(directory, data, kept=None):
    """Interrupt two fits, the second of which has moved the data to its second epoch."""
    for epoch in (1, 2):
        try:
            fit(directory, [Do(epoch, interrupt)], data=data)
        except KeyboardInterrupt as error:
            if kept is not None:
                kept.append(error)


def test_an_interrupted_fit_gives_everything_back(tmp_path):
    before, data = signal.getsignal(signal.SIGTERM), Data()
    interrupt_twice(tmp_path, data)
    assert signal.getsignal(signal.SIGTERM) is before
    assert data.position == 5
    assert is_free(tmp_path)


def test_one_whose_error_is_kept_gives_everything_back_to_the_next(tmp_path):
    before, data, kept = signal.getsignal(signal.SIGTERM), Data(), []
    interrupt_twice(tmp_path / "first", data, kept)
    seen = []
    fit(
        tmp_path / "other",
        [Do(1, lambda: seen.extend([data.position, is_free(tmp_path / "first")]))],
    )
    assert seen == [5, True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_errors_of_ours_give_everything_back_at_once(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="Did you mean 'loss'") as kept:
        fit(tmp_path, monitor="los")
    assert kept
    assert signal.getsignal(signal.SIGTERM) is before
    assert is_free(tmp_path)


def test_a_fit_that_runs_keeps_its_directory(tmp_path):
    errors = []

    def again():
        for directory in (tmp_path / "first", tmp_path / f"other_{len(errors)}"):
            try:
                fit(directory)
            except RuntimeError as error:
                errors.append(str(error))

    def in_a_thread():
        thread = threading.Thread(target=again)
        thread.start()
        thread.join()

    fit(tmp_path / "first", [Do(1, again), Do(2, in_a_thread)])
    assert len(errors) == 2
    assert all("this process, which has them open already" in error for error in errors)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The run in .* has ended")
        fit(tmp_path / "first")


def test_a_handler_that_was_closed_below_another_lets_the_signal_through():
    from tfplaybook.callbacks._preemption import PreemptionNotice

    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append("first"))
    try:
        closed, second = PreemptionNotice(), PreemptionNotice()
        closed.listen()
        second.listen()
        closed.close()
        second.close()
        signal.raise_signal(signal.SIGTERM)
        assert heard == ["first"]
        assert not closed.received
    finally:
        signal.signal(signal.SIGTERM, before)
