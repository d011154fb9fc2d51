"""Two processes that train one model: the first writes, and both go on from the same checkpoint."""

import json
import os
import subprocess
import sys

import pytest

import tfplaybook as pb

TRAIN = """
import json, os, sys, time
import keras, numpy as np, tfplaybook as pb

folder, index, epochs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
calls = []

def barrier(name):
    # Each host leaves a file and waits for the other's; the test ends a host that waits for ever.
    calls.append(name)
    place = os.path.join(folder, f"barrier-{epochs}-{len(calls)}-{name}")
    open(f"{place}.{index}", "w").close()
    while not os.path.exists(f"{place}.{1 - index}"):
        time.sleep(0.01)

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
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TRAIN, str(folder), str(index), str(epochs)],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in (0, 1)
    ]
    try:
        outputs = [process.communicate(timeout=180) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    return [json.loads(output) for output, _ in outputs]


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
