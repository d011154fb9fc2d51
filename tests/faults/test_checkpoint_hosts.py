"""Two processes that train one model: the first writes, and both go on from the same checkpoint."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tfplaybook as pb

BARRIERS = ("opened\n", "resumed\n", "saved\n")
TRAIN = """
import json, os, sys
import keras, numpy as np, tfplaybook as pb

folder, index, epochs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
calls = []

def barrier(name):
    # The test answers when both hosts are here.
    calls.append(name)
    print(name, flush=True)
    input()

keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile(keras.optimizers.Adam(0.1), "mse", run_eagerly=True)
x = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")
checkpoint = pb.callbacks.RetrospectiveCheckpoint(
    os.path.join(folder, "run"), monitor="loss", restore_best=True,
    host=pb.hosts.Host(index, 2, barrier))
import warnings
warnings.filterwarnings("ignore", "The run in .* but its data starts anew")
model.fit(x, x[:, :1], batch_size=4, epochs=epochs, shuffle=False, verbose=0,
          callbacks=[checkpoint])
print(json.dumps({"calls": calls, "resumed": checkpoint.resumed_step,
                  "weights": [w.tolist() for w in model.get_weights()]}))
"""


def train(folder, epochs):
    """Run both hosts at the same time, and return what each says at its end."""
    with contextlib.ExitStack() as stack:
        errors = [stack.enter_context((folder / f"{host}.log").open("w+")) for host in (0, 1)]
        hosts = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", TRAIN, str(folder), str(index), str(epochs)],
                    env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors[index],
                    text=True,
                )
            )
            for index in (0, 1)
        ]
        for host in hosts:
            stack.callback(host.kill)
        while (lines := [host.stdout.readline() for host in hosts])[0] in BARRIERS:
            assert lines[0] == lines[1]
            for host in hosts:
                host.stdin.write("\n")
                host.stdin.flush()
        for host in hosts:
            host.stdin.close()
        assert [host.wait() for host in hosts] == [0, 0], [Path(e.name).read_text() for e in errors]
    return [json.loads(line) for line in lines]


@pytest.mark.tensorflow
def test_one_host_writes_and_both_go_on(tmp_path):
    first, second = train(tmp_path, 2)
    assert first == second
    assert first["resumed"] is None
    reader = pb.runs.CheckpointReader(tmp_path / "run" / "checkpoints")
    written = {entry.step: entry.path.stat().st_mtime_ns for entry in reader.entries()}
    assert sorted(written) == [2, 4]
    first, second = train(tmp_path, 3)
    assert first == second
    assert first["resumed"] == 4
    assert first["calls"] == ["opened", "resumed", "saved"]
    assert [entry.step for entry in reader.entries()] == [2, 4, 6]
