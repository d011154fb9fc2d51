"""Preprocessing once: examples are made, written to shards, and read from there ever after."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipelines._cache import OfflineCache, serialise
from pipelines._checks import check_count, check_flag
from pipelines._dataset import Pipeline
from pipelines._fingerprint import function_fingerprint, key
from pipelines._map import ExampleMap
from pipelines._open import TfdsOptions, decoded_bytes, open_source
from pipelines._shards import ShardFolder
from pipelines._sources import Source, example_spec, map_parsed

_SHARD_BYTES = 64 * 2**20
_SHARD_EXAMPLES = 1024
# As many as a stream reads at a time, so that an epoch is mixed well.
_MIN_SHARDS = 16


def cache_offline(
    source: Any,
    directory: str | os.PathLike[str],
    *,
    map: Callable[..., Any] | None = None,
    keep: Sequence[str] | None = None,
    version: str = "",
    examples_per_shard: int | None = None,
    repair: bool = False,
    progress: bool = True,
    split: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    encoded: Sequence[str] | None = None,
) -> OfflineCache:
    """Preprocess each example once, on disk, and return the results as a source.

    The examples `map(example)` of the whole set, in its own order, are written to TFRecord shards
    in `directory/<key>/`. The next call with the same pipeline, in any process, finds them there
    and returns at once. What is the same each time belongs into this `map`: decoding, resizing,
    tokenising. What is random belongs into the `map` of the training pipeline that reads the
    cache, as do shuffling, batching and sharding.

    The key is made of

        the examples (the values of arrays; path, size and time of change of files; the
        fingerprint of a `tf.data.Dataset`), `keep`, the fingerprint of `map` with all its
        constants, the form of its result, `examples_per_shard` and `version`,

    so a change in any of these makes a new cache beside the old one, which you may remove. It does
    not see what changes in files that a `tf.data.Dataset` or `map` reads itself, and it may differ
    between versions of TensorFlow, which then make the cache again.

    A killed process leaves only whole shards; the next call goes on with the first that is
    missing. The index is written last. If another process of this machine writes the same cache,
    this one waits for it and then reads. A disk that runs full is an error that keeps the finished
    shards.

    Args:
        source: As in `training_pipeline`.
        directory: Local folder of caches; made if it is not there.
        map: As in `training_pipeline`, but without randomness, and its results may differ in
            shape.
        keep: As in `training_pipeline`.
        version: Any text. Needed where the fingerprint cannot see the whole of a function or
            dataset, that is with Python functions, variables and lookup tables: change it whenever
            what these do or hold changes.
        examples_per_shard: At least 1. By default as many as make 64 MiB, or 1,024 if examples
            differ in size, but at most a sixteenth of the set. A shard is held in memory while it
            is written.
        repair: Whether to check all shards against their checksums first, and to make damaged and
            missing ones again. Otherwise only their sizes are compared; a damaged record is an
            error that names the shard when it is read.
        progress: Whether to show one line of progress on stderr, if that is a terminal, while
            shards are written.
        split: As in `training_pipeline`.
        data_dir: As in `training_pipeline`.
        download: As in `training_pipeline`.
        encoded: As in `training_pipeline`.

    Returns:
        A source for `training_pipeline` and `evaluation_pipeline`. It is read like other TFRecord
            files: from memory and by index if it fits into their `cache_bytes`, otherwise as a
            stream of known length; sharded by file where that costs no step.

    Raises:
        ValueError: As `training_pipeline`; and if `source` is a finished pipeline, if anything is
            random, if `version` is needed and empty, or if a shard or the index is missing or
            damaged and `repair` is False.
        OSError: If a shard cannot be written.
        ImportError: If the system has no POSIX file locks.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> import pipelines
        >>> x, y = np.arange(20.0).reshape(10, 2), np.arange(10)
        >>> cached = pipelines.cache_offline(
        ...     (x, y), tempfile.mkdtemp(), map=lambda x, y: (x / 2, y), progress=False
        ... )
        >>> cached.num_examples
        10
        >>> train = pipelines.training_pipeline(cached, batch_size=2, seed=0, shuffle=False)
        >>> next(iter(train))[0].numpy().tolist()
        [[0.0, 0.5], [1.0, 1.5]]

    The playbook's I9 (preprocess offline).
    """
    if isinstance(source, Pipeline):
        raise ValueError(
            "`source` must be a source of single examples, and a finished pipeline gives batches, "
            "for training without end and in random order. Pass the source and the `map` of the "
            "pipeline, and then the cache as the source of the pipeline. Received a "
            f"{type(source).__name__}."
        )
    if not isinstance(version, str):
        raise ValueError(f"`version` must be a text. Received: {version!r}.")
    repair, progress = check_flag("repair", repair), check_flag("progress", progress)
    opened = open_source(
        source,
        keep=keep,
        tfds=TfdsOptions(split, data_dir, download, encoded),
        cache_bytes=0,
        shuffle_buffer_size=1,
    )
    prepare = _preparation(opened, map)
    element_spec = map_parsed(opened, _raw(opened), prepare).element_spec
    _check_components(element_spec)
    per_shard = (
        _default_examples_per_shard(element_spec, opened.num_examples)
        if examples_per_shard is None
        else check_count("examples_per_shard", examples_per_shard, minimum=1)
    )
    parts = [
        *opened.fingerprint(version=version),
        *function_fingerprint(
            lambda raw: serialise(prepare(opened.parse(raw))), opened.raw_spec, version=version
        ),
        getattr(map, "__qualname__", ""),
        repr(element_spec),
        str(per_shard),
        version,
    ]
    shards = ShardFolder(_local(directory) / key(parts), opened.num_examples, per_shard)

    def records_between(start: int, stop: int) -> Iterable[bytes]:
        raw = opened.in_order(start, stop)
        records = map_parsed(opened, raw, lambda example: serialise(prepare(example)))
        return records.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()

    return _cache(shards, element_spec, records_between, repair=repair, progress=progress)


def _cache(
    shards: ShardFolder,
    element_spec: Any,
    records_between: Callable[[int, int], Iterable[bytes]],
    *,
    repair: bool,
    progress: bool,
) -> OfflineCache:
    found = None if repair else shards.read_index()
    if found is None:
        with (
            _progress_line(shards, shown=progress) as show,
            shards.locked(waiting=lambda: show("waiting for another process", 0)),
        ):
            if repair:
                shards.remove_damaged()
            # Another process may have completed them meanwhile.
            if shards.read_index() is None:
                shards.complete(records_between, lambda number: show("preprocessing", number))
        found = shards.read_index()
    if found is None:
        raise OSError(f"{shards.folder} is not there any more. Call `cache_offline` again.")
    return OfflineCache(
        folder=shards.folder,
        paths=tuple(shard.path for shard in found),
        lengths=tuple(shard.num_examples for shard in found),
        element_spec=element_spec,
    )


def _raw(source: Source) -> tf.data.Dataset:
    return source.in_order(0, source.num_examples)


def _preparation(source: Source, function: Callable[..., Any] | None) -> Callable[[Any], Any]:
    if function is None:
        return lambda example: example
    # Checked here; it is called without a seed.
    example_map = ExampleMap(function, example_spec(source), training=False)
    return lambda example: example_map.function(
        *(example if isinstance(example, tuple) else (example,))
    )


def _check_components(element_spec: Any) -> None:
    for spec in tf.nest.flatten(element_spec):
        if not isinstance(spec, tf.TensorSpec) or spec.dtype in (tf.variant, tf.resource):
            raise ValueError(
                f"Every component of an example must be a dense tensor. Received {spec} in "
                f"examples of the form {element_spec}. Convert it in `map`, such as with "
                "`tf.sparse.to_dense` or `ragged.to_tensor()`."
            )


def _default_examples_per_shard(element_spec: Any, num_examples: int) -> int:
    size = decoded_bytes(element_spec, num_examples)
    fitting = _SHARD_EXAMPLES if not size else _SHARD_BYTES * num_examples // size
    return max(1, min(fitting, -(-num_examples // _MIN_SHARDS)))


def _local(directory: str | os.PathLike[str]) -> Path:
    path = os.fspath(directory)
    if "://" in path:
        raise ValueError(
            "`directory` must be a local folder, which can be locked and in which files are "
            f"renamed at once. Received: {path!r}. Copy a finished cache by other means."
        )
    if os.path.exists(path) and not os.path.isdir(path):
        raise ValueError(f"`directory` must be a folder. Received the file {path!r}.")
    return Path(path)


@contextlib.contextmanager
def _progress_line(shards: ShardFolder, *, shown: bool) -> Iterator[Callable[[str, int], None]]:
    """Give a function that shows what is done, and how many shards are finished."""
    import rich.console
    import rich.progress

    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("shards"),
        rich.progress.TimeRemainingColumn(),
    )
    console = rich.console.Console(stderr=True)
    shown = shown and console.is_terminal
    with rich.progress.Progress(*columns, console=console, disable=not shown) as line:
        task = line.add_task("preprocessing", total=shards.num_shards)
        yield lambda text, finished: line.update(task, description=text, completed=finished)
