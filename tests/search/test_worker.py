"""A worker's side of a search of many processes, as far as one process can show it."""

import keras
import numpy as np
import pytest

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
