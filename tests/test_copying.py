"""Copies of many arrays."""

import numpy as np
import pytest

from tfplaybook._copying import copy_all


def test_copies_every_array():
    sources = [np.full(size, size, "float32") for size in range(200)]
    targets = [np.zeros_like(source) for source in sources]
    copy_all(zip(targets, sources, strict=True))
    for target, source in zip(targets, sources, strict=True):
        np.testing.assert_array_equal(target, source)


def test_an_error_in_between_is_raised_and_ends_both_threads():
    target = np.zeros(3)

    def pairs():
        yield target, np.ones(3)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        copy_all(pairs())
    np.testing.assert_array_equal(target, np.ones(3))
