import sys
from pathlib import Path

import numpy as np
import pytest

# The examples run as scripts of their own folder, which is how they import `digits`.
sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))


@pytest.fixture(scope="session")
def digits_builder(tmp_path_factory):
    import digits

    return digits.load(data_dir=tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def numbered():
    """Ten examples that carry their own number: x is (number, number), y the number."""
    number = np.arange(10)
    return np.stack([number, number], axis=1).astype("float32"), number
