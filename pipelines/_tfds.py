"""TFDS data sets as sources: builders, names and splits."""

import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from pipelines._sources import select_features


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
    if download and not builder.is_prepared():
        builder.download_and_prepare()
    if not builder.is_prepared():
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
        where = "the default directory of TFDS" if data_dir is None else os.fspath(data_dir)
        raise ValueError(
            f"`source` must be the name of a TFDS data set, installed or prepared in {where!r}. "
            f"Received: {name!r}. Correct the name or `data_dir`, or pass a builder."
        ) from error
