"""Who this process is among the hosts of one training: its number, and who writes (J3)."""

import dataclasses
import json
import os
from collections.abc import Callable
from typing import Any

import keras

from tfplaybook._arguments import check_count

__all__ = ["Host", "current_host"]


def _alone(name: str) -> None:
    """Return at once: there is nobody to wait for."""


@dataclasses.dataclass(frozen=True)
class Host:
    """One of the processes that train one model together.

    Args:
        index: Number of this process, from 0 to `count - 1`. Process 0 writes checkpoints.
        count: Number of processes, at least 1.
        barrier: Called with a name, returns when all processes have called it with that name.
            Needed when `count` is above 1.

    Raises:
        ValueError: `index` is outside its range, or the barrier is missing.

    Source: playbook J3.
    """

    index: int = 0
    count: int = 1
    barrier: Callable[[str], Any] = _alone

    def __post_init__(self) -> None:
        check_count("count", self.count, minimum=1)
        check_count("index", self.index, minimum=0)
        if self.index >= self.count:
            raise ValueError(
                f"`index` must be below `count`. Received: index={self.index}, count={self.count}."
            )
        if self.count > 1 and self.barrier is _alone:
            raise ValueError(
                f"`barrier` is needed for {self.count} hosts: a function of a name that returns "
                "when all hosts have called it, such as "
                "`jax.experimental.multihost_utils.sync_global_devices`."
            )

    @property
    def is_writer(self) -> bool:
        """Whether this is the one process that writes files."""
        return self.index == 0


def current_host() -> Host:
    """Return who this process is, as the backend knows it.

    On JAX the process index of `jax.distributed`, with its barrier. On TensorFlow a process that
    `TF_CONFIG` makes one of many is refused, since Keras cannot train there (keras#20585).

    Raises:
        ValueError: `TF_CONFIG` names more than one process.
    """
    if keras.backend.backend() == "jax":
        import jax

        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            return Host(
                jax.process_index(), jax.process_count(), multihost_utils.sync_global_devices
            )
        return Host()
    processes = _processes_of_tf_config()
    if processes > 1:
        raise ValueError(
            f"TF_CONFIG names {processes} processes, on which `fit` of Keras 3 cannot train "
            "(keras#20585). Train on many hosts with the JAX backend, or pass a "
            "`tfplaybook.hosts.Host` with the barrier of your own training loop."
        )
    return Host()


def _processes_of_tf_config() -> int:
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {})
        return sum(len(cluster.get(job, [])) for job in ("chief", "worker"))
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"TF_CONFIG must be a JSON object with a `cluster`. Received: "
            f"{os.environ['TF_CONFIG']!r} ({error})."
        ) from error
