"""Start TensorFlow without its start-up messages: import this module first.

They are written before TensorFlow reads any setting that could silence them, so the error stream is
closed to them for the import. Errors of the import itself are exceptions and still show.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_stderr = os.dup(2)
_nowhere = os.open(os.devnull, os.O_WRONLY)
os.dup2(_nowhere, 2)
try:
    import tensorflow as tf

    tf.config.list_physical_devices()
finally:
    os.dup2(_stderr, 2)
    os.close(_nowhere)
    os.close(_stderr)
