"""The tf.data service with a real dispatcher and real workers."""

import collections
import socket

import numpy as np
import pytest
import tensorflow as tf

import pipelines


@pytest.fixture
def service(tmp_path):
    with pipelines.serve(tmp_path / "journal", workers=2) as running:
        yield running


@pytest.mark.parametrize(("mode", "times"), [("at_most_once", 1), ("every_worker_all", 2)])
def test_each_element_comes_as_often_as_its_mode_says(service, mode, times):
    squares = tf.data.Dataset.range(200).map(lambda number: number**2)
    through = pipelines.through_service(squares, service.address, mode=mode)
    for _ in range(2):
        counts = collections.Counter(int(square) for square in through)
        assert counts == {number**2: times for number in range(200)}


def test_nothing_listens_after_it_is_stopped(tmp_path):
    with pipelines.serve(tmp_path) as service:
        host, port = service.address.split(":")
        socket.create_connection((host, int(port)), timeout=5).close()
    with pytest.raises(ConnectionError, match=f"No tf.data service answers at {service.address}"):
        pipelines.through_service(tf.data.Dataset.range(3), service.address, mode="at_most_once")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "exactly_once"}, "`mode` must be one of"),
        ({"address": "grpc://localhost:1"}, "without a scheme"),
        ({"address": "localhost"}, "must be 'host:port'"),
        ({"dataset": [1]}, "Received a list"),
    ],
)
def test_bad_arguments(arguments, message):
    given = {
        "dataset": tf.data.Dataset.range(3),
        "address": "localhost:1",
        "mode": "at_most_once",
    } | arguments
    with pytest.raises(ValueError, match=message):
        pipelines.through_service(given.pop("dataset"), given.pop("address"), **given)


def test_a_finished_pipeline_is_refused():
    train = pipelines.training_pipeline((np.arange(4),), batch_size=2, seed=0)
    with pytest.raises(ValueError, match="Received a TrainingPipeline"):
        pipelines.through_service(train, "localhost:1", mode="at_most_once")


def test_bad_ports_and_workers(tmp_path):
    with pytest.raises(ValueError, match="`port` must be"):
        pipelines.serve(tmp_path, port=65_536)
    with pytest.raises(ValueError, match="`workers` must be"):
        pipelines.serve(tmp_path, workers=-1)
