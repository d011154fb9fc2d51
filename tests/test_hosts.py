"""Who a process is among the hosts of one training."""

import json

import keras
import pytest

import tfplaybook as pb

HERE = pb.hosts.Host()


def test_alone_by_default():
    assert (HERE.index, HERE.count, HERE.is_writer) == (0, 1, True)
    assert HERE.barrier("anything") is None


def test_the_first_of_many_writes():
    def barrier(name):
        raise AssertionError(name)

    assert [pb.hosts.Host(i, 3, barrier).is_writer for i in range(3)] == [True, False, False]


@pytest.mark.parametrize(
    ("index", "count", "message"),
    [
        (0, 0, "`count` must be an integer of at least 1"),
        (-1, 2, "`index` must be an integer of at least 0"),
        (2, 2, "`index` must be below `count`. Received: index=2, count=2"),
        (0, 2, "`barrier` is needed for 2 hosts"),
    ],
)
def test_bad_arguments(index, count, message):
    with pytest.raises(ValueError, match=message):
        pb.hosts.Host(index, count)


def test_the_backend_knows_one_process():
    assert pb.hosts.current_host() == HERE


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("config", "message"),
    [
        (json.dumps({"cluster": {"chief": ["a:1"], "worker": ["b:1"]}}), "names 2 processes"),
        ("{", "must be a JSON object"),
        ("[1]", "must be a JSON object"),
    ],
)
def test_a_tf_config_of_many_processes_is_refused(config, message, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match=message):
        pb.hosts.current_host()


@pytest.mark.tensorflow
def test_a_tf_config_of_one_process_is_alone(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": ["a:1"]}}))
    assert keras.backend.backend() == "tensorflow"
    assert pb.hosts.current_host() == HERE
