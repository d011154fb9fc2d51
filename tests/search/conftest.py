import gc
import json
from pathlib import Path

import numpy as np
import pytest
from hypermodels import Parabola

from tfplaybook.search import QuasiRandomSearch


# Not for the session, which goes on with the tests of other rooms.
@pytest.fixture(scope="module", autouse=True)
def _cheap_collections():
    """KerasTuner collects garbage in every trial, each time through all of TensorFlow."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def line_data():
    """Features of shape (64, 3) and targets of shape (64, 1), float32."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(64, 3)).astype("float32") * 3
    return features, features @ np.array([[1.0], [-2.0], [0.5]], dtype="float32")


@pytest.fixture
def parabola():
    return Parabola()


@pytest.fixture
def make_tuner(tmp_path):
    def make(hypermodel, **options):
        defaults = {
            "objective": "val_loss",
            "max_trials": 4,
            "directory": tmp_path,
            "project_name": "study",
        }
        return QuasiRandomSearch(hypermodel, **{**defaults, **options})

    return make


@pytest.fixture
def read_study(tmp_path):
    def read(path="study/study.json"):
        # A strict reader: NaN is not JSON.
        def refuse(name):
            raise AssertionError(f"{name} in {path}")

        text = Path(tmp_path, path).read_text(encoding="utf-8")
        return json.loads(text, parse_constant=refuse)

    return read
