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

from pipelines._array_records import array_record_source
from pipelines._record_index import Run
from pipelines._records import RecordStream
from pipelines._sources import Source, select_features
from pipelines._stream import DatasetStream, StreamSource

_PROBE_SECONDS = 10


def open_tfds(
    source: Any, *, data_dir: str | os.PathLike[str] | None = None, download: bool = False
) -> Any:
    """Return the prepared TFDS builder of a data set, which the pipelines take as `source`.

    Args:
        source: Name of a TFDS data set, such as "mnist", or a builder.
        data_dir: Directory of a name; by default TFDS' own.
        download: Whether to download and prepare a set that is not there yet.

    Raises:
        ValueError: If there is no set of that name, if it is not prepared and `download` is
            False, or if `data_dir` is given with a builder.
        ConnectionError: At once, if the set has to be downloaded and there is no network; TFDS
            would retry for minutes first.
        ImportError: If a name is given and tensorflow-datasets is not installed.
    """
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
    prepared = _is_prepared(builder)
    if download and not prepared:
        _prepare(builder)
    elif not prepared:
        raise ValueError(
            f"The TFDS data set {builder.info.full_name!r} is not prepared. Expected it in "
            f"{os.fspath(builder.data_path)!r}. Call `builder.download_and_prepare()` once, pass "
            "`download=True`, or correct `data_dir`."
        )
    return builder


def read_split(
    builder: Any,
    split: str | None,
    *,
    keep: Sequence[str] | None,
    encoded: Sequence[str] | None,
    shuffle_buffer_size: int,
) -> Source:
    """Return the examples of `split` in a fixed order.

    Without `keep` an example is the (input, target) pair that the builder declares, or a
    dictionary when it declares none; with `keep` it is a dictionary, and the other features are
    not even decoded. Files of records are read directly, so that they are decoded only after the
    shuffle; the builder reads other formats.
    """
    import tensorflow_datasets as tfds

    known = sorted(builder.info.splits)
    try:
        if not isinstance(split, str):
            raise KeyError(split)
        chosen = builder.info.splits[split]
        num_examples = chosen.num_examples
    except (KeyError, ValueError, AssertionError) as error:
        raise ValueError(
            f"`split` must name a split of the TFDS data set {builder.info.full_name!r}, one of "
            f"{known} or a slice such as '{known[0]}[:80%]'. Received: {split!r}."
        ) from error
    supervised = builder.info.supervised_keys if keep is None else None
    features, decoding = builder.info.features, None
    if keep is not None:
        select_features(dict(features), keep)
        decoding = tfds.decode.PartialDecoding(dict.fromkeys(keep, True))
        features = decoding.extract_features(features)
    decoders = None
    if encoded is not None:
        select_features(dict(features), encoded)
        decoders = {name: tfds.decode.SkipDecoding() for name in encoded}
        decoding = decoders if decoding is None else _partial(tfds, keep, decoders)

    def parse(record: tf.Tensor) -> Any:
        example = features.deserialize_example(record, decoders=decoders)
        if supervised is None:
            return example
        return tf.nest.map_structure(lambda name: example[name], supervised)

    formats = tfds.core.file_adapters.FileFormat
    instructions = chosen.file_instructions
    runs = [Run(os.fspath(i.filename), 0, i.skip, i.take) for i in instructions]
    if builder.info.file_format == formats.TFRECORD:
        return StreamSource(RecordStream(tuple(runs), parse), shuffle_buffer_size)
    if builder.info.file_format == formats.ARRAY_RECORD:
        return array_record_source(runs, parse)
    dataset = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders=decoding,
        as_supervised=supervised is not None,
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    return StreamSource(DatasetStream(dataset, num_examples), shuffle_buffer_size)


def _partial(tfds: Any, keep: Sequence[str] | None, decoders: Any) -> Any:
    return tfds.decode.PartialDecoding(dict.fromkeys(keep or (), True), decoders=decoders)


def _builder_of_name(name: str, data_dir: str | os.PathLike[str] | None) -> Any:
    if os.path.isabs(name) or name.startswith((".", "~")) or set("*?[") & set(name):
        raise ValueError(
            "A text as `source` is the name of a TFDS data set, such as 'mnist'. Received "
            f"{name!r}, which looks like a path: pass `TFRecordFiles`, `ArrayRecordFiles` or "
            "`ImageFolders`."
        )
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"{name!r} names a TFDS data set, which needs tensorflow-datasets: "
            'pip install "tfplaybook[datasets]".'
        ) from error
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        where = "the default directory of TFDS" if data_dir is None else repr(os.fspath(data_dir))
        raise ValueError(
            f"There is no TFDS data set {name!r}, neither installed nor prepared in {where}."
            f"{_closest_name(name)} Correct the name or `data_dir`, or pass a builder."
        ) from error


def _is_prepared(builder: Any) -> bool:
    """Return whether the set of `builder` is on disk, without a log line if it is not."""
    logger = logging.getLogger("absl")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        return builder.is_prepared()
    finally:
        logger.disabled = was_disabled


def _prepare(builder: Any) -> None:
    """Download and prepare the set of `builder`, or raise `ConnectionError` at once."""
    urls = list(builder.url_infos or ())
    if urls:
        _require_network(builder, urls[0])
    builder.download_and_prepare()


def _closest_name(name: str) -> str:
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
