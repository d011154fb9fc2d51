"""Which of the hosts is this one, and what is its share."""

import dataclasses
from typing import Any

from pipelines._checks import check_count


@dataclasses.dataclass(frozen=True)
class Host:
    """One of `count` processes that read disjoint shares of a set.

    Args:
        index: Number of this host, in [0, count).
        count: Number of hosts, at least 1.

    Raises:
        ValueError: If `count` is below 1, or `index` outside [0, count).

    Examples:
        >>> import numpy as np
        >>> import pipelines
        >>> shares = [
        ...     pipelines.training_pipeline(
        ...         (np.arange(12),), batch_size=2, seed=0, host=pipelines.Host(index, 3)
        ...     )
        ...     for index in range(3)
        ... ]
        >>> [share.steps_per_epoch for share in shares]
        [2, 2, 2]
        >>> sorted(int(x) for share in shares for (batch,) in share.take(2) for x in batch)
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]

    The playbook's J3.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        count = check_count("count", self.count, minimum=1)
        index = check_count("index", self.index, minimum=0, maximum=count - 1)
        object.__setattr__(self, "count", count)
        object.__setattr__(self, "index", index)

    @classmethod
    def from_input_context(cls, context: Any) -> "Host":
        """Return the host of a `tf.distribute.InputContext`.

        `strategy.distribute_datasets_from_function` gives one to the function that builds the
        input of each host:

            strategy.distribute_datasets_from_function(
                lambda context: pipelines.training_pipeline(
                    source,
                    batch_size=context.get_per_replica_batch_size(global_batch_size),
                    seed=0,
                    host=pipelines.Host.from_input_context(context),
                )
            )

        Each replica of a host takes a batch of this pipeline per step, so that R replicas on a
        host make `steps_per_epoch / R` steps.

        Raises:
            TypeError: If `context` is no input context.
        """
        try:
            return cls(context.input_pipeline_id, context.num_input_pipelines)
        except AttributeError as error:
            raise TypeError(
                "`context` must be a tf.distribute.InputContext, which "
                "`strategy.distribute_datasets_from_function` gives to its function. Received an "
                f"object of type {type(context).__name__}."
            ) from error


ONLY_HOST = Host(0, 1)


def check_host(host: Any) -> Host:
    """Return `host`, or the only one for None; raise `TypeError` for anything else."""
    if host is None:
        return ONLY_HOST
    if not isinstance(host, Host):
        raise TypeError(
            f"`host` must be a `pipelines.Host(index, count)` or None. Received: {host!r}."
        )
    return host


def share(num_examples: int, host: Host) -> tuple[int, int]:
    """Return the half-open range of the examples of `host`, even to one example."""
    return (
        num_examples * host.index // host.count,
        num_examples * (host.index + 1) // host.count,
    )
