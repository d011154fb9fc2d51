"""What both pipelines are: a `tf.data.Dataset` that knows its own stages."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf


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


def deterministic_options() -> tf.data.Options:
    """Return the options that keep the order of parallel stages."""
    options = tf.data.Options()
    options.deterministic = True
    return options


class Pipeline(tf.data.Dataset):
    """A finished `tf.data` chain with its description.

    `keras.Model.fit` accepts no wrapper around a dataset but any subclass of it. Methods such as
    `take` and `map` return plain datasets.

    Args:
        dataset: The chain.
        stages: Its stages, first to last.
    """

    def __init__(self, dataset: tf.data.Dataset, *, stages: Sequence[Stage]) -> None:
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
