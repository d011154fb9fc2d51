"""The rooms that are written with `keras.ops`, tested again in a process with the JAX backend."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

TESTS = Path(__file__).parent
ROOMS = [
    "test_schedules.py",
    "test_keras_hooks.py",
    "test_keras_state.py",
    "test_hosts.py",
    "callbacks",
    "runs/test_run_directory.py",  # the other files of the room never call Keras
]


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="this process is that test")
def test_rooms_work_on_jax():
    pytest.importorskip("jax", reason="the JAX backend needs jax")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *ROOMS],
        cwd=TESTS,
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
