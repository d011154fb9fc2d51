"""TFDS data sets as sources: builders, names and splits."""

import difflib
import logging
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from pipelines._sources import select_features

_PROBE_SECONDS = 10


def open_builder(source: Any, *, data_dir: str | os.PathLike[str] | None, download: bool) -> Any:
    """Return a prepared TFDS builder for `source`, a name or a builder."""
    if isinstance(source, str):
        builder = _builder_of_name(source, data_dir)
    else:
        builder = source
        if data_dir is not None:
            raise ValueError(
                "`data_dir` belongs to a TFDS name; a builder knows its own directory. "
                f"Received data_dir={os.fspath(data_dir)!r} with the builder "
                f"{builder.info.full_name!r}: remove `data_dir`."
            )
    prepared = is_prepared(builder)
    if download and not prepared:
        prepare(builder)
    elif not prepared:
        raise ValueError(
            f"The TFDS data set {builder.info.full_name!r} is not prepared. Expected it in "
            f"{os.fspath(builder.data_path)!r}. Call `builder.download_and_prepare()` once, pass "
            "`download=True`, or correct `data_dir`."
        )
    return builder


def read_split(
    builder: Any, split: str | None, *, keep: Sequence[str] | None
) -> tuple[tf.data.Dataset, int]:
    """Return the examples of `split` in a fixed order, and their number.

    Without `keep` an example is the (input, target) pair that the builder declares, or a
    dictionary when it declares none; with `keep` it is a dictionary, and the other features are
    not even decoded.
    """
    import tensorflow_datasets as tfds

    known = sorted(builder.info.splits)
    if not isinstance(split, str):
        raise ValueError(
            f"`split` must name a split of the TFDS data set {builder.info.full_name!r}, one of "
            f"{known} or a slice such as '{known[0]}[:80%]'. Received: {split!r}."
        )
    try:
        num_examples = builder.info.splits[split].num_examples
    except (KeyError, ValueError, AssertionError) as error:
        raise ValueError(
            f"`split` must name a split of the TFDS data set {builder.info.full_name!r}, one of "
            f"{known} or a slice such as '{known[0]}[:80%]'. Received: {split!r}."
        ) from error
    decoders = None
    if keep is not None:
        select_features(dict(builder.info.features), keep)
        decoders = tfds.decode.PartialDecoding(dict.fromkeys(keep, True))
    dataset = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders=decoders,
        as_supervised=keep is None and builder.info.supervised_keys is not None,
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    return dataset, num_examples


def _builder_of_name(name: str, data_dir: str | os.PathLike[str] | None) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"`source={name!r}` names a TFDS data set, which needs tensorflow-datasets: "
            'pip install "tfplaybook[datasets]".'
        ) from error
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        where = "the default directory of TFDS" if data_dir is None else repr(os.fspath(data_dir))
        raise ValueError(
            f"`source` must be the name of a TFDS data set, installed or prepared in {where}. "
            f"Received: {name!r}.{closest_name(name)} Correct the name or `data_dir`, or pass a "
            "builder."
        ) from error


def is_prepared(builder: Any) -> bool:
    """Return whether the set of `builder` is on disk, without a log line if it is not."""
    logger = logging.getLogger("absl")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        return builder.is_prepared()
    finally:
        logger.disabled = was_disabled


def prepare(builder: Any) -> None:
    """Download and prepare the set of `builder`.

    Raises:
        ConnectionError: At once, if the set has to be downloaded and there is no network; TFDS
            would retry for minutes first.
    """
    urls = list(builder.url_infos or ())
    if urls:
        _require_network(builder, urls[0])
    builder.download_and_prepare()


def closest_name(name: str) -> str:
    """Return the sentence " Did you mean ...?", or nothing when no TFDS name is close."""
    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _require_network(builder: Any, url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    host = f"{parts.scheme}://{parts.netloc}"
    try:
        urllib.request.urlopen(host, timeout=_PROBE_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()  # an answer, and so a network
    except OSError as error:
        raise ConnectionError(
            f"The TFDS data set {builder.info.full_name!r} is not prepared in "
            f"{os.fspath(builder.data_path)!r} and has to be downloaded, but {host} cannot be "
            f"reached: {error}. Copy a prepared set into that folder, or connect and try again."
        ) from error
