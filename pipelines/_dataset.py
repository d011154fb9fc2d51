"""What both pipelines are: a `tf.data.Dataset` that knows its own stages."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# glibc gives larger blocks back to the kernel when they are freed, whatever was freed before.
_LARGEST_KEPT = 32 * 2**20


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of a pipeline: what it is, how large, and why it stands where it does."""

    name: str
    size: str
    reason: str


PREFETCH = Stage(
    "prefetch",
    "as many batches as the runtime finds useful",
    "last, so that the next batch is made while the model works on this one",
)


def pipeline_options(*, deterministic: bool, sharded: bool) -> tf.data.Options:
    """Return the options of a finished pipeline.

    Args:
        deterministic: Whether parallel stages keep the order.
        sharded: Whether the hosts' shares are made already, so that `tf.distribute` must not
            shard again.
    """
    options = tf.data.Options()
    options.deterministic = deterministic
    if sharded:
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options


def readable_size(num_bytes: int) -> str:
    """Return `num_bytes` in KiB or MiB, such as "1.5 MiB"."""
    size, unit = (num_bytes / 2**20, "MiB") if num_bytes >= 2**20 else (num_bytes / 2**10, "KiB")
    return f"{size:,.1f} {unit}"


def _keep_freed_memory() -> None:
    """Let the memory of batches that are freed serve the next ones.

    glibc hands large blocks back to the kernel, which clears every page of the next one: at 64
    images of 224 x 224 about a thousand page faults a batch instead of less than a hundred. What
    counts as large follows the largest block that was freed so far (mallopt(3), M_MMAP_THRESHOLD),
    so one is freed. It is never touched, and takes no memory. Arrays above 32 MiB are out of its
    reach: `docs/how-to/input-pipelines.md` says what helps there.
    """
    np.empty(_LARGEST_KEPT - 2**16, np.uint8)


class Pipeline(tf.data.Dataset):
    """A finished `tf.data` chain with its description.

    `keras.Model.fit` accepts no wrapper around a dataset but any subclass of it. Methods such as
    `take` and `map` return plain datasets.

    Args:
        dataset: The chain.
        stages: Its stages, first to last.
    """

    def __init__(self, dataset: tf.data.Dataset, *, stages: Sequence[Stage]) -> None:
        _keep_freed_memory()
        self._dataset = dataset
        self._stages = tuple(stages)
        super().__init__(tf.data.experimental.to_variant(dataset))

    @property
    def element_spec(self) -> Any:
        """Structure of `tf.TensorSpec` of one batch, every shape static."""
        return self._dataset.element_spec

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages in order, first to last."""
        return self._stages

    def _inputs(self) -> list[tf.data.Dataset]:
        return [self._dataset]
