"""Where the time of an input pipeline goes, what limits it, and what a change would bring."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

from pipelines._checks import check_seconds
from pipelines._limits import (
    CONSUMER,
    PROCESSOR,
    SERIAL_STAGE,
    WAITING,
    Limit,
    Machine,
    Work,
    find_limits,
)
from pipelines._map import PYTHON_OPS, STATEFUL_OPS
from pipelines._measurement import Measurement, count_cores, make_dataset, measure, pool_size
from pipelines._pipeline_profile import Bottleneck, PipelineProfile, StageProfile
from pipelines._remedies import Candidate, Remedy, advise, find_remedies
from pipelines._stage_chain import CallSites, Link, links
from pipelines._stage_times import StageTimes
from pipelines._stage_work import cycle_length, make_works, match
from pipelines._step_cost import compare_steps

# Model and observation may differ by this factor; beyond, nothing is known.
_AGREEMENT = 1.5
# However busy other programs are.
_LEAST_CORES = 0.1


def profile(
    pipeline: tf.data.Dataset | Callable[[], tf.data.Dataset],
    *,
    seconds: float = 3.0,
    step_fn: Callable[[Any], Any] | None = None,
    variables: Iterable[Any] | None = None,
) -> PipelineProfile:
    """Measure a `tf.data` pipeline as it runs, and say what limits it (I9).

    The pipeline is run with its own options, with nothing left out or changed, as fast as it goes,
    and repeated where it ends. tf.data's model of the running iterator says how long each stage
    itself has worked; the smallest of the bounds

        1 / (time of the stages of a thread),   parallelism / (time of a call and of its input),
        pool size / (time of all functions),    cores / (processor time),

    with times per element of the pipeline, is the rate that the model predicts. The bottleneck is
    the stage without which it would be the highest. Where the prediction and the observed rate
    differ by more than a factor of 1.5 the profile says that it does not know. What a change would
    bring is the ratio of the smallest bound after it to the smallest now.

    Args:
        pipeline: Any `tf.data.Dataset`, or better a function without arguments that makes one.
            With a function every stage is shown with its line of code, and the order of a shuffle
            that you train with is not advanced.
        seconds: Time to measure, above 0; one more second goes by before, while tf.data tunes
            itself.
        step_fn: One training step, a function of one element such as
            `lambda batch: model.train_on_batch(*batch)`. Asks as well whether *training* waits for
            its input: real steps are compared with the same steps on one batch that is kept.
            The variables that the steps change are put back.
        variables: The variables that `step_fn` changes. By default all of this process are copied,
            which takes as much memory as they do.

    Returns:
        A `PipelineProfile`; `str()` of it is a table.

    Raises:
        TypeError: If `pipeline` is no dataset and no function that returns one.
        ValueError: If it has no elements, if its autotuning is off, if `seconds` is not above 0,
            or if `step_fn` changes variables that cannot be put back.

    Examples:
        >>> import pipelines, tensorflow as tf
        >>> def squares():
        ...     return tf.data.Dataset.range(1000).map(lambda x: x * x).batch(10)
        >>> found = pipelines.profile(squares, seconds=0.2)
        >>> found.rate > 0, found.stages[0].name
        (True, 'range')

    Source: playbook I9, A3.
    """
    check_seconds(seconds)
    dataset, sites = make_dataset(pipeline)
    found = profile_dataset(dataset, sites, seconds=seconds)
    if step_fn is None:
        return found
    training = compare_steps(dataset, step_fn, seconds=seconds, variables=variables)
    return dataclasses.replace(found, training=training)


def profile_dataset(
    dataset: tf.data.Dataset, sites: CallSites, *, seconds: float
) -> PipelineProfile:
    """Return the profile of a dataset whose lines of code are known."""
    return _judge(measure(dataset, seconds=seconds), links(dataset, sites), pool_size(dataset))


def _judge(measured: Measurement, written: list[Link], pool: float) -> PipelineProfile:
    count = len(measured.stages)
    matched = match(measured.stages, written)
    rate = measured.rate
    processor = measured.processor_seconds / measured.elements
    cores = count_cores()
    explanations = []
    for opens_in_turn in (False, True):
        works, workers = make_works(measured, matched, opens_in_turn=opens_in_turn)
        free = max(cores - measured.others_cores, _LEAST_CORES * cores)
        machine = Machine(cores=free, pool=pool, workers=workers)
        limits = find_limits(works, machine, processor_seconds=processor)
        explanations.append((_ratio(limits, rate), opens_in_turn, works, machine, limits))
    ratio, _, works, machine, limits = min(explanations, key=lambda found: found[:2])
    stages = [
        _stage_profile(stage, matched[number], work, measured)
        for number, (stage, work) in enumerate(zip(measured.stages, works[:count], strict=True))
    ][::-1]
    candidates = [
        _candidate(count - 1 - place, stage, matched, works, measured, processor)
        for place, stage in enumerate(stages)
    ]
    remedies: list[Remedy] = []
    if limits[0].kind not in (CONSUMER, PROCESSOR):
        # Other programs give way to one that asks for more, up to a fair share.
        fair = dataclasses.replace(machine, cores=max(machine.cores, cores / 2))
        remedies = find_remedies(candidates, works, fair, processor_seconds=processor)
    model_rate = min(limit.rate for limit in limits)
    unseen = any(stage.unseen for stage in measured.stages)
    reason = ""
    if ratio > _AGREEMENT:
        reason = (
            f"the model predicts {model_rate:.3g} elements/s and {rate:.3g} were observed, more "
            f"than a factor of {_AGREEMENT} apart"
        )
        if unseen:
            reason += "; a stage makes iterators that end too soon to be measured"
    bottleneck = None if reason else _bottleneck(limits[0], stages, works, processor, remedies)
    second = min((limit.rate for limit in limits[1:]), default=float("inf"))
    quiet = measured.others_cores < 0.5 * cores
    sure = (
        quiet and ratio < 1.2 and not unseen and (second > 1.1 * limits[0].rate or bool(remedies))
    )
    return PipelineProfile(
        rate=rate,
        elements=measured.elements,
        seconds=measured.seconds,
        model_rate=model_rate,
        stages=tuple(stages),
        bottleneck=bottleneck,
        remedies=() if reason else tuple(remedies),
        confidence="none" if reason else "high" if sure else "low",
        reason=reason,
        processor_use=measured.processor_seconds / measured.seconds / cores,
        others_use=measured.others_cores / cores,
        pool_size=int(pool),
        reading_fraction=measured.reading_seconds / measured.seconds,
    )


def _ratio(limits: list[Limit], rate: float) -> float:
    predicted = min(limit.rate for limit in limits)
    return max(predicted / rate, rate / predicted)


def _stage_profile(
    stage: StageTimes, link: Link | None, work: Work, measured: Measurement
) -> StageProfile:
    name = stage.kind.lower() if link is None or stage.nested else link.label
    if stage.name == "MapAndBatch":
        name += ", batch"
    if stage.nested:
        name = f"each: {name}"
    return StageProfile(
        name=name,
        kind=stage.name,
        source=None if link is None else link.source,
        elements=round(stage.elements),
        seconds_per_element=work.seconds * measured.elements / max(stage.elements, 1.0),
        seconds_per_output=work.seconds,
        bytes_per_element=stage.num_bytes / max(stage.elements, 1.0),
        parallelism=stage.parallelism or 1.0,
        tuned=stage.tuned,
        added=link is None,
        link=link,
    )


def _candidate(
    number: int,
    stage: StageProfile,
    matched: list[Link | None],
    works: list[Work],
    measured: Measurement,
    processor: float,
) -> Candidate:
    times, link = measured.stages[number], matched[number]
    waits = _waiting_fraction(works[number].seconds, processor) > 0.5
    if link is None or times.nested:
        return Candidate("", stage.name, None, waits=waits)
    before = tuple(
        other
        for other, below in enumerate(measured.stages)
        if other != number and below.path[: len(times.path)] == times.path
    )
    each = (*times.path, "each")
    nested = tuple(n for n in before if measured.stages[n].path[: len(each)] == each)
    total = works[number].seconds + sum(works[other].seconds for other in nested)
    ops = link.ops()
    return Candidate(
        kind="Map" if times.name == "MapAndBatch" else times.kind,
        label=stage.label,
        work=number,
        before=before,
        nested=nested,
        cycle_length=cycle_length(link),
        waits=waits or _waiting_fraction(total, processor) > 0.5,
        stateful=bool(ops & (STATEFUL_OPS | PYTHON_OPS)),
    )


def _waiting_fraction(seconds: float, processor_seconds: float) -> float:
    """Return the share of `seconds` that certainly passes without a processor."""
    return max(0.0, 1.0 - processor_seconds / seconds) if seconds > 0 else 0.0


def _bottleneck(
    limit: Limit,
    stages: list[StageProfile],
    works: list[Work],
    processor: float,
    remedies: list[Remedy],
) -> Bottleneck:
    if limit.stage < 0:
        return Bottleneck(None, CONSUMER, 0.0, advise(CONSUMER, stage=""))
    stage = stages[limit.stage]
    work = next(work for work in works if work.stage == limit.stage)
    waiting = _waiting_fraction(work.seconds, processor)
    is_source = limit.stage == 0 or stage.name.startswith("each: ")
    if limit.kind == SERIAL_STAGE and is_source and waiting > 0.5:
        limit = Limit(WAITING, limit.rate, limit.stages)
    remedy = remedies[0].text if remedies else advise(limit.kind, stage=stage.label)
    return Bottleneck(stage, limit.kind, waiting, remedy)
