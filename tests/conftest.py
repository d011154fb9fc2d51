"""Settings of the whole suite: quiet hosts, four virtual CPUs, no display."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import keras
import pytest

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"

if ON_TENSORFLOW:
    import tensorflow as tf

    # Replicas of MirroredStrategy; must be set before TensorFlow starts.
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration() for _ in range(4)],
    )


# Of a few tests that take minutes each. A process that began one of these files last would leave
# the others idle, since a file is run by one process.
LONGEST = ("test_jax_backend.py", "test_examples.py", "test_killed_search.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)
    if ON_TENSORFLOW:
        return
    for item in items:
        if item.get_closest_marker("tensorflow"):
            item.add_marker(pytest.mark.skip(reason="tf.distribute or tf.data: TensorFlow only"))


@pytest.fixture(autouse=True)
def _fresh_keras():
    """Names of layers and the global seed do not leak from test to test."""
    yield
    keras.utils.clear_session(free_memory=False)


@pytest.fixture(autouse=True)
def _fresh_collectives():
    """Every test reduces over replicas in groups of its own.

    Each MirroredStrategy numbers its reductions anew, and TensorFlow refuses a number that an
    earlier strategy of the process has used for another type.
    """
    yield
    if ON_TENSORFLOW:
        tf.distribute.MirroredStrategy._collective_key_base += 100_000
