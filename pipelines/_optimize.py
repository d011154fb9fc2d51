"""Changing a pipeline where its profile says so, and keeping only what makes it faster."""

import dataclasses
import statistics
import time
from collections.abc import Callable

import tensorflow as tf

from pipelines._checks import check_count, check_flag, check_seconds
from pipelines._measurement import make_dataset
from pipelines._pipeline_profile import PipelineProfile
from pipelines._profile import profile_dataset
from pipelines._remedies import PREFETCH, Remedy
from pipelines._stage_chain import (
    CallSites,
    Link,
    batch_again,
    interleave_again,
    links,
    make_again,
    map_again,
    rebuild,
)

_PARALLEL = {"Batch": batch_again, "Interleave": interleave_again, "Map": map_again}
_WARM_FRACTION = 0.3
_LEAST_GAIN = 1.05


@dataclasses.dataclass(frozen=True)
class Trial:
    """One change that was tried.

    Args:
        remedy: The change, with the gain that was predicted.
        rates: Elements per second without and with it, of each repeat.
        gain: Median over the repeats of the rate with it over the rate without; NaN if it was not
            measured.
        kept: Whether it was kept.
        reason: Why it was not; empty if it was.
    """

    remedy: Remedy
    rates: tuple[tuple[float, float], ...]
    gain: float
    kept: bool
    reason: str

    def __str__(self) -> str:
        measured = f"measured {self.gain:.2f} times the rate, " if self.rates else ""
        return f"{self.remedy}: {measured}{'kept' if self.kept else self.reason}"


@dataclasses.dataclass(frozen=True)
class Optimization:
    """A pipeline made faster, and how.

    Args:
        dataset: The pipeline with all changes that were kept, made by the function that was given
            and not yet iterated. Where a dataset was given: the one that was measured.
        history: All changes that were tried, in order.
        before: The profile of the pipeline that was given.
        after: That of the pipeline with the changes.
    """

    dataset: tf.data.Dataset
    history: tuple[Trial, ...]
    before: PipelineProfile
    after: PipelineProfile

    @property
    def gain(self) -> float:
        """Product of the gains that were measured for the changes that were kept."""
        product = 1.0
        for trial in self.history:
            product *= trial.gain if trial.kept else 1.0
        return product

    def __str__(self) -> str:
        lines = [f"{number}. {trial}" for number, trial in enumerate(self.history, start=1)]
        if not lines:
            lines = ["nothing to try"]
        return "\n".join([*lines, f"in all {self.gain:.2f} times the rate"])


def optimize(
    pipeline: tf.data.Dataset | Callable[[], tf.data.Dataset],
    *,
    seconds: float = 3.0,
    repeats: int = 4,
    max_changes: int = 4,
    allow_stateful: bool = False,
) -> Optimization:
    """Apply what a profile suggests, measure again, and keep only what is faster.

    A change is measured against the pipeline without it in `repeats` turns, one after the other in
    alternating order. It is kept if its rate is higher in every turn and, by the median, by at
    least 5%. Then the pipeline is profiled anew, until nothing more is suggested or helps.

    The elements and their order stay as they are: functions that have a state, such as
    `py_function` and `tf.random.*`, are called in parallel only with `allow_stateful`. The change
    is made in the returned dataset and not in your code; the history names the lines to change.

    A shuffle that reshuffles has another order in each iteration, and measuring takes an unknown
    number of them. A function is therefore called once more at the end, and what it makes then
    begins with its first order. A dataset cannot be made anew: the one that is returned has the
    same elements, and a seeded shuffle in it has advanced.

    Args:
        pipeline: A dataset, or better a function without arguments that makes one, as for
            `profile`; it must make the same stages whenever it is called.
        seconds: Time of each profile, and of each turn; above 0.
        repeats: Turns per change, at least 2.
        max_changes: Most changes to try, at least 1.
        allow_stateful: Whether calls of functions with a state may overtake each other. True is
            right where the result of a call does not depend on earlier calls.

    Returns:
        An `Optimization` with the faster `dataset` and the `history`.

    Raises:
        TypeError: If `pipeline` is no dataset and no function that returns one.
        ValueError: If an argument is out of range, if the dataset is empty, or if `pipeline` makes
            other stages when it is called again.

    Source: playbook I9.
    """
    check_seconds(seconds)
    repeats = check_count("repeats", repeats, minimum=2)
    max_changes = check_count("max_changes", max_changes, minimum=1)
    check_flag("allow_stateful", allow_stateful)
    dataset, sites = make_dataset(pipeline)
    before = profile_dataset(dataset, sites, seconds=seconds)
    current = before
    written = links(dataset, sites)
    history: list[Trial] = []
    kept: list[tuple[Remedy, int | None]] = []
    tried: set[str] = set()
    while len(history) < max_changes:
        remedy = next((found for found in current.remedies if found.text not in tried), None)
        if remedy is None:
            break
        tried.add(remedy.text)
        trial, changed = _try(dataset, current, remedy, sites, seconds, repeats, allow_stateful)
        history.append(trial)
        if trial.kept:
            kept.append((remedy, _place(dataset, current, remedy, sites)))
            dataset = changed
            current = profile_dataset(dataset, sites, seconds=seconds)
    if not isinstance(pipeline, tf.data.Dataset):
        dataset = _make_anew(pipeline, written, kept)
    return Optimization(dataset, tuple(history), before, current)


def _try(
    dataset: tf.data.Dataset,
    current: PipelineProfile,
    remedy: Remedy,
    sites: CallSites,
    seconds: float,
    repeats: int,
    allow_stateful: bool,
) -> tuple[Trial, tf.data.Dataset]:
    def refused(reason: str) -> tuple[Trial, tf.data.Dataset]:
        return Trial(remedy, (), float("nan"), False, reason), dataset

    if remedy.stateful and not allow_stateful:
        return refused(
            "not tried: the function has a state; use `tf.random.stateless_*`, or pass "
            "allow_stateful=True if its calls may come in any order"
        )
    try:
        changed = apply(dataset, current, remedy, sites)
    except ValueError as error:
        return refused(f"not tried: {error}")
    rates = []
    for turn in range(repeats):
        pair = [dataset, changed] if turn % 2 else [changed, dataset]
        found = {id(each): measure_rate(each, seconds) for each in pair}
        rates.append((found[id(dataset)], found[id(changed)]))
    gain = statistics.median(after / before for before, after in rates)
    kept = gain >= _LEAST_GAIN and all(after > before for before, after in rates)
    reason = "" if kept else "not kept: it is not faster in every turn and by at least 5%"
    return Trial(remedy, tuple(rates), gain, kept, reason), changed


def apply(
    dataset: tf.data.Dataset, found: PipelineProfile, remedy: Remedy, sites: CallSites
) -> tf.data.Dataset:
    """Return `dataset` with the change made.

    Args:
        dataset: The pipeline.
        found: A profile of it.
        remedy: One of the profile's.
        sites: Lines of code of the stages; those of new ones are added.

    Raises:
        ValueError: If a stage after the change cannot be made again.
    """
    link = None if remedy.stage is None else found.stages[remedy.stage].link
    return _change(dataset, link, remedy, sites)


def _change(
    dataset: tf.data.Dataset, link: Link | None, remedy: Remedy, sites: CallSites
) -> tf.data.Dataset:
    changed = dataset
    if link is not None:
        calls = tf.data.AUTOTUNE if remedy.calls is None else remedy.calls

        def change(stage: tf.data.Dataset, given: tf.data.Dataset) -> tf.data.Dataset:
            if remedy.action == PREFETCH:
                return make_again(stage, given.prefetch(tf.data.AUTOTUNE))
            return _PARALLEL[link.kind](stage, given, calls)

        changed = rebuild(dataset, link.dataset, change, sites)
    if remedy.calls is not None:
        options = tf.data.Options()
        options.threading.private_threadpool_size = remedy.calls
        changed = changed.with_options(options)
    return changed


def _place(
    dataset: tf.data.Dataset, found: PipelineProfile, remedy: Remedy, sites: CallSites
) -> int | None:
    """Return which of the links of `dataset` the remedy changes; None for the whole pipeline."""
    link = None if remedy.stage is None else found.stages[remedy.stage].link
    if link is None:
        return None
    return [each.dataset is link.dataset for each in links(dataset, sites)].index(True)


def _make_anew(
    pipeline: Callable[[], tf.data.Dataset],
    written: list[Link],
    kept: list[tuple[Remedy, int | None]],
) -> tf.data.Dataset:
    """Return what `pipeline` makes, not iterated yet, with the remedies that were kept."""
    dataset, sites = make_dataset(pipeline)
    kinds = [[link.kind for link in each] for each in (written, links(dataset, sites))]
    if kinds[0] != kinds[1]:
        raise ValueError(
            "`pipeline` must make the same stages whenever it is called. Received a function that "
            f"made {kinds[0][::-1]} first and {kinds[1][::-1]} later: take what differs out of it."
        )
    for remedy, place in kept:
        link = None if place is None else links(dataset, sites)[place]
        dataset = _change(dataset, link, remedy, sites)
    return dataset


def measure_rate(dataset: tf.data.Dataset, seconds: float) -> float:
    """Return the elements per second that `dataset` gives, once it has tuned itself."""
    iterator = iter(dataset.repeat())
    start = time.perf_counter()
    next(iterator)
    while time.perf_counter() - start < _WARM_FRACTION * seconds:
        next(iterator)
    start, count = time.perf_counter(), 0
    while not count or time.perf_counter() - start < seconds:
        next(iterator)
        count += 1
    return count / (time.perf_counter() - start)
