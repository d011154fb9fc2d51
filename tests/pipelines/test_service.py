"""The tf.data service with a real dispatcher and real workers."""

import collections
import os
import socket
import subprocess
import sys
from pathlib import Path

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


def start(call):
    """Start what `call` returns, a service, in a process of its own; return it and the address."""
    code = (
        "import sys, threading, pipelines\n"
        f"service = pipelines.{call}\n"
        "print(service.address, flush=True)\n"
        "threading.Event().wait()\n"
    )
    root = str(Path(__file__).parents[2])
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": root},
    )
    return child, child.stdout.readline().strip()


def test_a_dispatcher_that_is_killed_and_restarted_loses_nothing(tmp_path):
    folder = str(tmp_path)
    first, address = start(f"serve({folder!r}, workers=0)")
    with first, pipelines.serve_workers(address, workers=2):
        through = pipelines.through_service(
            tf.data.Dataset.range(4000), address, mode="at_most_once"
        )
        numbers = iter(through)
        read = [int(next(numbers)) for _ in range(100)]
        first.kill()
        first.wait()
        port = int(address.rpartition(":")[2])
        second, _ = start(f"serve({folder!r}, port={port}, workers=0)")
        with second:
            read += [int(number) for number in numbers]
            second.kill()
    assert sorted(read) == list(range(4000))


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("mode", ["at_most_once", "every_worker_all"])
def test_a_worker_that_is_killed_and_restarted_gives_what_its_mode_says(mode, free_port, tmp_path):
    length = 3000
    with pipelines.serve(tmp_path) as service:
        call = f"serve_workers({service.address!r}, port={free_port})"
        first, _ = start(call)
        with first:
            through = pipelines.through_service(
                tf.data.Dataset.range(length), service.address, mode=mode
            )
            numbers = iter(through)
            counts = collections.Counter(int(next(numbers)) for _ in range(200))
            first.kill()
        second, _ = start(call)
        with second:
            counts.update(int(number) for number in numbers)
            second.kill()
    assert counts.keys() <= set(range(length))
    if mode == "at_most_once":
        assert set(counts.values()) == {1}
        assert len(counts) > length / 2
    else:
        # The worker of this process gives each once, and so does the restarted one; what the
        # killed one had given comes a third time.
        assert set(counts.values()) <= {2, 3}
        assert len(counts) == length


def test_one_port_serves_one_worker(service):
    with pytest.raises(ValueError, match="`port` must be 0 with several workers"):
        pipelines.serve_workers(service.address, workers=2, port=1)
