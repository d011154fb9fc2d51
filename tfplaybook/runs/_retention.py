"""Which checkpoints to keep: small pure policies that compose with `|`."""

import abc
import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from tfplaybook._arguments import check_choice, check_count

MODES = ("min", "max")


@dataclasses.dataclass(frozen=True)
class CheckpointEntry:
    """One checkpoint on disk, without its arrays.

    Attributes:
        step: Optimizer updates made when it was taken.
        metrics: Metric name to its value at that step; NaN and infinities are kept.
        resumable: Whether training can go on from it.
        path: Its folder.
    """

    step: int
    metrics: dict[str, float]
    resumable: bool
    path: Path


class RetentionPolicy(abc.ABC):
    """Decides which checkpoints stay, from their steps and metrics alone.

    Policies compose: `BestN(3, "val_loss", "min") | LatestN(1)` keeps what either keeps. For one
    of your own, derive from this class and write `kept`.

    Source: playbook I8.
    """

    @abc.abstractmethod
    def kept(self, entries: Sequence[CheckpointEntry]) -> set[int]:
        """Return the steps of those of `entries`, in any order, that stay."""

    def __or__(self, other: "RetentionPolicy") -> "AnyOf":
        if not isinstance(other, RetentionPolicy):
            return NotImplemented
        return AnyOf((self, other))


@dataclasses.dataclass(frozen=True)
class BestN(RetentionPolicy):
    """Keep the `n` best checkpoints by a metric.

    Of equal ones the earlier is better. A checkpoint whose metric is missing or not finite is
    never among the best.

    Examples:
        >>> from pathlib import Path
        >>> import tfplaybook as pb
        >>> entries = [
        ...     pb.runs.CheckpointEntry(step, {"val_loss": loss}, True, Path(f"step_{step}"))
        ...     for step, loss in [(100, 0.9), (200, 0.4), (300, float("nan")), (400, 0.5)]
        ... ]
        >>> sorted(pb.runs.BestN(2, "val_loss", "min").kept(entries))
        [200, 400]

    Args:
        n: How many, at least 1.
        monitor: The name of the metric.
        mode: `"min"` or `"max"`: which end of the metric is better.

    Raises:
        ValueError: An argument is out of range.

    Source: playbook I8.
    """

    n: int
    monitor: str
    mode: str

    def __post_init__(self) -> None:
        check_count("n", self.n, minimum=1)
        check_choice("mode", self.mode, MODES)

    def kept(self, entries: Sequence[CheckpointEntry]) -> set[int]:
        """Return the steps of the best."""
        return {entry.step for entry in ranked(entries, self.monitor, self.mode)[: self.n]}


@dataclasses.dataclass(frozen=True)
class LatestN(RetentionPolicy):
    """Keep the `n` checkpoints of the highest steps.

    Args:
        n: How many, at least 1.

    Raises:
        ValueError: `n` is out of range.
    """

    n: int

    def __post_init__(self) -> None:
        check_count("n", self.n, minimum=1)

    def kept(self, entries: Sequence[CheckpointEntry]) -> set[int]:
        """Return the steps of the latest."""
        return set(sorted(entry.step for entry in entries)[-self.n :])


@dataclasses.dataclass(frozen=True)
class EveryNSteps(RetentionPolicy):
    """Keep the first checkpoint at or after each positive multiple of `every`.

    So `EveryNSteps(1000)` keeps 1000, 2000, ... where there are checkpoints at these steps, and
    1200, 2100, ... where they are taken every 300 steps.

    Args:
        every: The interval in optimizer updates, at least 1.

    Raises:
        ValueError: `every` is out of range.
    """

    every: int

    def __post_init__(self) -> None:
        check_count("every", self.every, minimum=1)

    def kept(self, entries: Sequence[CheckpointEntry]) -> set[int]:
        """Return the first step of each interval but the one that starts at 0."""
        first: dict[int, int] = {}
        for step in sorted(entry.step for entry in entries):
            first.setdefault(step // self.every, step)
        return {step for interval, step in first.items() if interval > 0}


@dataclasses.dataclass(frozen=True)
class AnyOf(RetentionPolicy):
    """Keep what any of the policies keeps; `a | b` is `AnyOf([a, b])`.

    Args:
        policies: The policies, at least one.

    Raises:
        ValueError: There is none.
        TypeError: One is no retention policy.
    """

    policies: tuple[RetentionPolicy, ...]

    def __init__(self, policies: Iterable[RetentionPolicy]):
        object.__setattr__(self, "policies", tuple(policies))
        if not self.policies:
            raise ValueError("`policies` must hold at least one retention policy. Received none.")
        for policy in self.policies:
            check_policy("policies", policy)

    def kept(self, entries: Sequence[CheckpointEntry]) -> set[int]:
        """Return the union of what the policies keep."""
        return set().union(*(policy.kept(entries) for policy in self.policies))


def check_policy(name: str, policy: RetentionPolicy) -> RetentionPolicy:
    """Return `policy` if it is one, or raise `TypeError`."""
    if not isinstance(policy, RetentionPolicy):
        raise TypeError(
            f"`{name}` must be a retention policy such as BestN(3, 'val_loss', 'min') | "
            f"LatestN(1). Received: {policy!r}."
        )
    return policy


def ranked(entries: Iterable[CheckpointEntry], monitor: str, mode: str) -> list[CheckpointEntry]:
    """Return those of `entries` with a finite metric `monitor`, the best first."""
    check_choice("mode", mode, MODES)
    sign = 1.0 if mode == "min" else -1.0
    return sorted(
        (entry for entry in entries if math.isfinite(entry.metrics.get(monitor, math.nan))),
        key=lambda entry: (sign * entry.metrics[monitor], entry.step),
    )
