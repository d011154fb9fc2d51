"""Iterators that read by a Python function end before the interpreter does.

tf.data reads ahead in threads of its own. One that asks for the interpreter while it shuts down is
ended by force, which C++ answers with `std::terminate`, or the program waits for it forever.
"""

import atexit
import functools
import gc

import tensorflow as tf


@functools.cache
def close_iterators_at_exit() -> None:
    """Let all iterators of tf.data end, their reads under way included, when the program does."""
    atexit.register(_close_iterators)


def _close_iterators() -> None:
    # They have no method for it: what they hold is released with the last reference to it.
    for thing in gc.get_objects():
        if issubclass(type(thing), tf.data.Iterator):
            vars(thing).clear()
