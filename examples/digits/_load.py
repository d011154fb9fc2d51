"""Open a TFDS data set by name, prepared on the first call."""

import contextlib
import io
import os

import tensorflow_datasets as tfds

import pipelines
from digits.builder import Digits


def load(
    name: str = Digits.name, *, data_dir: str | os.PathLike[str] = "data"
) -> tfds.core.DatasetBuilder:
    """Return the prepared builder of the TFDS data set `name`.

    "digits" is made from scikit-learn's own files in about a second, quietly and without a
    network. Any other set is downloaded the first time.

    Args:
        name: "digits", or a name of the TFDS catalogue such as "mnist".
        data_dir: Folder of the prepared sets; made if missing.

    Raises:
        ValueError: If TFDS knows no such name.
        ConnectionError: If the set has to be downloaded and cannot be.
    """
    if name == Digits.name:
        builder = Digits(data_dir=data_dir)
        # TFDS announces a download, and there is none.
        tfds.disable_progress_bar()
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
        return builder
    try:
        return pipelines.open_tfds(name, data_dir=data_dir, download=True)
    except ConnectionError as error:
        raise ConnectionError(f"{error} The embedded set is {Digits.name!r}.") from error
