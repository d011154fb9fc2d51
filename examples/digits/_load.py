"""Open a TFDS data set by name, prepared on the first call."""

import contextlib
import io
import os
import urllib.error
import urllib.request

import tensorflow_datasets as tfds

from digits.builder import Digits

_PROBE_URL = "https://storage.googleapis.com"
_PROBE_SECONDS = 10


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
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"`name` must be {Digits.name!r} or a name of the TFDS catalogue, such as 'mnist'. "
            f"Received: {name!r}."
        ) from error
    if not builder.is_prepared():
        _require_network(name, data_dir)
        builder.download_and_prepare()
    return builder


def _require_network(name: str, data_dir: str | os.PathLike[str]) -> None:
    """Raise at once if there is no network; TFDS would retry for minutes first."""
    try:
        urllib.request.urlopen(_PROBE_URL, timeout=_PROBE_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()  # an answer, and so a network
    except OSError as error:
        raise ConnectionError(
            f"The data set {name!r} is not prepared in {os.fspath(data_dir)!r} and has to be "
            f"downloaded, but {_PROBE_URL} cannot be reached: {error}. Use the embedded set "
            f"{Digits.name!r}, or copy a prepared {name!r} into that folder."
        ) from error
