"""From what the stages did to the work that bounds the rate, by closed forms."""

import pytest
import tensorflow as tf

from pipelines._limits import Machine, find_rate
from pipelines._measurement import Measurement, make_dataset
from pipelines._stage_chain import links
from pipelines._stage_times import StageTimes
from pipelines._stage_work import cycle_length, make_works, match


def stage(*path, elements=100, seconds=0.0, **options):
    return StageTimes(path[-1], path, "each" in path, elements=elements, seconds=seconds, **options)


def measured(*stages, elements=100, consumer_seconds=1e-6):
    return Measurement(
        stages=list(stages),
        elements=elements,
        seconds=1.0,
        processor_seconds=0.1,
        others_cores=0.0,
        consumer_seconds=consumer_seconds,
        reading_seconds=0.0,
    )


def works_of(found, matched=None, **options):
    return make_works(found, matched or [None] * len(found.stages), **options)


def test_a_parallel_stage_reads_in_the_thread_of_the_stages_before_it():
    found = measured(
        stage("Prefetch"),
        stage("Prefetch", "ParallelMapV2", seconds=1.0, parallelism=2.0),
        stage("Prefetch", "ParallelMapV2", "Map", seconds=0.5),
        stage("Prefetch", "ParallelMapV2", "Map", "Range", seconds=0.5),
    )
    works, workers = works_of(found, opens_in_turn=False)
    _, parallel, serial, source, consumer = works
    assert parallel.reads == serial.thread == source.thread != consumer.thread
    assert workers == {}
    # 2 calls, each of 10 ms of its own and 10 ms for its input.
    rate = find_rate(works, Machine(cores=8, pool=8), processor_seconds=1e-6)
    assert rate == pytest.approx(2 / 0.020)


def opened():
    numbers = tf.data.Dataset.range(9)
    return numbers.interleave(
        lambda x: tf.data.Dataset.range(x), cycle_length=4, num_parallel_calls=2
    )


def test_workers_that_wait_in_line_for_an_opening_count_it_again():
    matched = links(*make_dataset(opened))
    found = measured(
        stage("ParallelInterleaveV4", seconds=2.5, parallelism=2.0),
        stage("ParallelInterleaveV4", "Range", seconds=0.0),
        stage("ParallelInterleaveV4", "each", "Range", seconds=1.0),
    )
    matched = match(found.stages, matched)
    assert cycle_length(matched[0]) == 4
    # Four that wait in line for 1 s in all count 1/4 + 2/4 + 3/4 + 4/4 s.
    in_turn, _ = works_of(found, matched, opens_in_turn=True)
    assert in_turn[0].seconds == pytest.approx(0.010)
    assert in_turn[0].in_pool
    assert in_turn[0].thread == in_turn[1].thread != in_turn[2].thread
    # Beside the datasets that they read, the workers share all of it.
    beside, workers = works_of(found, matched, opens_in_turn=False)
    assert beside[0].seconds == pytest.approx(0.025)
    assert beside[0].thread == beside[2].thread
    assert workers == {beside[2].thread: 2.0}


def test_a_chosen_cycle_length_is_that_of_the_cores():
    chosen = tf.data.Dataset.range(9).interleave(
        tf.data.Dataset.range, num_parallel_calls=tf.data.AUTOTUNE
    )
    assert cycle_length(links(*make_dataset(chosen))[0]) >= 1
    assert cycle_length(None) == 1
