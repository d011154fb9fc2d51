"""The user's callbacks in a search: checked once, and copied for every execution."""

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import keras_tuner as kt

from tfplaybook import _keras
from tfplaybook.runs import RunRecorder


def check_callbacks(callbacks: Any) -> None:
    """Raise `ValueError` unless `callbacks` can serve every execution of a search."""
    if callbacks is None:
        return
    if not isinstance(callbacks, list | tuple) or not all(
        isinstance(callback, keras.callbacks.Callback) for callback in callbacks
    ):
        raise ValueError(
            f"`callbacks` must be a list of `keras.callbacks.Callback`. Received: {callbacks!r}."
        )
    for callback in callbacks:
        name = type(callback).__name__
        if isinstance(callback, RunRecorder):
            raise ValueError(
                f"`callbacks` must do without {name}. Received one for {callback.directory}: every "
                "trial would write there. Leave it out: the search records each execution in "
                "`trial_<id>/execution_<k>/`."
            )
        if isinstance(callback, _keras.Callback) and getattr(callback, "log_dir", None) is not None:
            raise ValueError(
                f"`callbacks` must not write into one directory for all trials. Received: {name} "
                f"with log_dir={str(callback.log_dir)!r}. Leave `log_dir` out: its numbers go to "
                "the records of each execution."
            )


@contextlib.contextmanager
def copies_for(
    callbacks: list[keras.callbacks.Callback], directory: Path
) -> Iterator[list[keras.callbacks.Callback]]:
    """Lend copies to one execution; ours learn its directory and its end, if they want to."""
    try:
        # All at once: callbacks that refer to each other still do.
        copied = copy.deepcopy(callbacks)
    except Exception as error:
        raise kt.errors.FatalValueError(
            "`callbacks` must be deep-copyable, since every execution trains with its own copy. "
            f"Received: {callbacks!r} ({error}). A callback that holds a dataset, a lock or a file "
            "should open it in `on_train_begin`."
        ) from error
    ours = [callback for callback in copied if isinstance(callback, _keras.Callback)]
    for callback in ours:
        if hasattr(callback, "for_execution"):
            callback.for_execution(directory)
    try:
        yield copied
    finally:
        for callback in ours:
            if hasattr(callback, "end_execution"):
                callback.end_execution()
