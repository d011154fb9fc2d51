"""A worker's side of a search of many processes, as far as one process can show it."""

import contextlib
import socket

import keras
import numpy as np
import pytest

from tfplaybook._keras_tuner_rpc import SearchEndedError, WorkerClient, start_server
from tfplaybook.search._worker import StopWhenLost, TrialLostError


class Client:
    """A client whose trial is lost after some batches."""

    def __init__(self, batches):
        self.left = batches

    def has_lost_trial(self):
        self.left -= 1
        return self.left < 0


def test_the_training_of_a_lost_trial_ends():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    client = Client(batches=3)
    data = {"x": np.ones((8, 1)), "y": np.ones(8), "batch_size": 1, "verbose": 0}
    with pytest.raises(TrialLostError):
        model.fit(**data, callbacks=[StopWhenLost(client)])
    assert int(model.optimizer.iterations) == 4
    model.fit(**data, callbacks=[StopWhenLost(Client(batches=100))])


def test_a_chief_answers_only_the_workers_of_its_own_search(make_tuner, parabola):
    one = make_tuner(parabola, project_name="one").oracle
    other = make_tuner(parabola, project_name="other").oracle
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    trial = one.create_trial("worker")
    server = start_server(one, address)
    try:
        options = {"tuner_id": "worker", "address": address, "has_ended": lambda: True}
        with contextlib.closing(WorkerClient(one, **options)) as client:
            assert client.get_trial(trial.trial_id).trial_id == trial.trial_id
        # To this one it is as if no chief were there, and so it asks whether its search is over.
        with (
            contextlib.closing(WorkerClient(other, **options)) as client,
            pytest.raises(SearchEndedError),
        ):
            client.get_trial(trial.trial_id)
    finally:
        server.stop(None).wait()


def test_a_trial_whose_point_cannot_be_made_is_handed_out_later(make_tuner, parabola, monkeypatch):
    def fail(trial_id):
        raise MemoryError

    oracle = make_tuner(parabola).oracle
    with monkeypatch.context() as patch:
        patch.setattr(oracle, "populate_space", fail)
        with pytest.raises(MemoryError):
            oracle.create_trial("worker")
    assert oracle.create_trial("worker").trial_id == "0000"
