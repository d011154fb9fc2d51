"""From serialised `tf.train.Example`s to dictionaries of features."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from pipelines._messages import plain_message
from pipelines._sources import identity, select_features


def record_parser(
    features: Mapping[str, Any] | None,
    keep: Sequence[str] | None,
    first_record: Callable[[], bytes | None],
) -> Callable[[Any], Any]:
    """Return the function from a record to an example, tried on the first record.

    Raises:
        ValueError: If a feature is not in `features`, or not in the first record as stated.
    """
    if features is None:
        if keep is not None:
            raise ValueError(
                "`keep` selects features by name, and without `features` the records of `source` "
                f"are plain strings. Received keep={keep!r}: state `features`, or remove `keep`."
            )
        return identity
    if not isinstance(features, Mapping) or not features:
        raise ValueError(
            "`features` must be a dictionary of features, such as "
            "{'image': tf.io.FixedLenFeature([], tf.string)}. "
            f"Received: {features!r}."
        )
    kept = select_features(dict(features), keep)
    record = first_record()
    if record is not None:
        _check_record(record, kept)
    return lambda record: tf.io.parse_single_example(record, kept)


def _check_record(record: bytes, features: Mapping[str, Any]) -> None:
    try:
        tf.io.parse_single_example(record, dict(features))
    except (tf.errors.InvalidArgumentError, ValueError) as error:
        try:
            held = sorted(tf.train.Example.FromString(record).features.feature)
        except Exception:  # protobuf's own errors differ between its implementations
            raise ValueError(
                "The records of `source` must be serialised tf.train.Examples, as `features` is "
                f"given. The first of them, of {len(record):,} bytes, is none. Parse them in `map` "
                "instead, without `features`."
            ) from error
        raise ValueError(
            f"`features` does not fit the first record of `source`, which has the features {held}: "
            f"{plain_message(error)}. Correct names, shapes and dtypes, or give a default."
        ) from error
