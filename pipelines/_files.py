"""From a glob or a list of paths to files that exist."""

import collections
import glob
import os
from collections.abc import Sequence

import tensorflow as tf

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def find_files(files: Paths) -> list[str]:
    """Return the files behind a path, a glob or a sequence of these; those of a glob sorted.

    Raises:
        ValueError: If a path or glob matches no file, or a file is named twice.
    """
    patterns = [files] if isinstance(files, str | os.PathLike) else list(files)
    if not patterns:
        raise ValueError("`files` must name at least one file. Received an empty sequence.")
    found = []
    for pattern in (os.fspath(pattern) for pattern in patterns):
        # A path may hold characters that a glob gives a meaning.
        exists = tf.io.gfile.exists(pattern)
        matches = [pattern] if exists else sorted(tf.io.gfile.glob(pattern))
        if not matches:
            nearby = "" if "://" in pattern else f", that is {os.path.abspath(pattern)!r}"
            raise ValueError(
                f"`files` must match at least one file. Nothing matches {pattern!r}{nearby}. "
                "Correct the path or the glob."
            )
        found += matches
    for path in found:
        if tf.io.gfile.isdir(path):
            raise ValueError(
                f"`files` must name files, and {path!r} is a folder. Pass a glob such as "
                f"{os.path.join(path, '*')!r}."
            )
    twice = [path for path, times in collections.Counter(found).items() if times > 1]
    if twice:
        raise ValueError(f"`files` must name each file once. Named twice: {twice[0]!r}.")
    return found


def exact_glob(path: str) -> str:
    """Return the glob that matches `path` and nothing else."""
    return glob.escape(path)
