"""Writes a cache and stands still in the middle, until it is killed: `<this file> FOLDER`."""

import sys
import threading

import numpy as np
import tensorflow as tf

import pipelines

LENGTH, PER_SHARD, STANDS_STILL_AT = 40, 4, 22


def write(folder, prepare, progress=False):
    """Cache the numbers below `LENGTH`, each through the Python function `prepare`."""
    return pipelines.cache_offline(
        tf.data.Dataset.range(LENGTH),
        folder,
        map=lambda number: tf.ensure_shape(tf.numpy_function(prepare, [number], tf.int64), []),
        version="squares",
        examples_per_shard=PER_SHARD,
        progress=progress,
    )


def stand_still(number):
    if number == STANDS_STILL_AT:
        threading.Event().wait()
    return np.square(number)


if __name__ == "__main__":
    write(sys.argv[1], stand_still, progress=True)
