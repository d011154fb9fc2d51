"""The arithmetic of bottlenecks and of what a change brings, by closed forms."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines._limits import Machine, Work, find_limits, find_rate, find_rate_after
from pipelines._remedies import Candidate, find_remedies
from pipelines._stage_times import StageTimes, complete

TWO_CORES = Machine(cores=2, pool=2)


def first(works, machine=TWO_CORES, processor_seconds=1e-6):
    return find_limits(works, machine, processor_seconds=processor_seconds)[0]


@pytest.mark.parametrize(
    ("works", "machine", "processor_seconds", "kind", "stage", "rate"),
    [
        # Two stages of one thread add up; the larger one is named.
        ([Work(1, 0.03, 1), Work(0, 0.01, 1)], TWO_CORES, 1e-6, "serial stage", 1, 25),
        # In two threads they do not.
        ([Work(1, 0.03, 1), Work(0, 0.04, 2)], TWO_CORES, 1e-6, "serial stage", 0, 25),
        ([Work(0, 0.4, 1, parallelism=4)], Machine(2, 8), 1e-6, "parallelism limit", 0, 10),
        ([Work(0, 0.4, 1, parallelism=1)], Machine(2, 8), 1e-6, "serial stage", 0, 2.5),
        # Two parallel stages share the threads of the pool.
        (
            [Work(1, 0.1, 1, 2, in_pool=True), Work(0, 0.1, 2, 2, in_pool=True)],
            TWO_CORES,
            1e-6,
            "thread pool",
            1,
            10,
        ),
        ([Work(0, 0.01, 1)], TWO_CORES, 0.1, "CPU saturated", 0, 20),
        # Of two bounds nearly alike, the one that is harder to lift.
        ([Work(0, 0.05, 1, parallelism=2)], TWO_CORES, 0.05, "CPU saturated", 0, 40),
        (
            [Work(-1, 0.01, 0, consumer=True), Work(0, 1e-3, 1)],
            TWO_CORES,
            1e-6,
            "consumer",
            -1,
            100,
        ),
        # A call of a parallel stage begins with asking for its input, so the two add up: 2 calls of
        # 10 ms whose inputs take 5 ms in turn.
        (
            [Work(1, 0.01, 0, parallelism=2, reads=1), Work(0, 0.005, 1)],
            Machine(2, 8),
            1e-6,
            "parallelism limit",
            1,
            2 / 0.015,
        ),
        (
            [Work(1, 0.01, 0, parallelism=1, reads=1), Work(0, 0.01, 1)],
            Machine(2, 8),
            1e-6,
            "serial stage",
            1,
            50,
        ),
        # Below a parallel interleave a thread has several workers.
        ([Work(0, 0.4, 7)], Machine(2, 8, {7: 4.0}), 1e-6, "parallelism limit", 0, 10),
    ],
)
def test_the_smallest_bound_is_the_bottleneck(works, machine, processor_seconds, kind, stage, rate):
    found = first(works, machine, processor_seconds)
    assert (found.kind, found.stage) == (kind, stage)
    assert found.rate == pytest.approx(rate)


def test_the_bottleneck_is_the_stage_that_is_missed_most():
    # The pool bounds both. Without the larger one the smaller, in one thread, takes 12 ms; without
    # the smaller one the larger, with 4 calls, takes 10 ms in 2 threads of the pool.
    works = [
        Work(1, 0.012, 0, parallelism=1, in_pool=True),
        Work(0, 0.020, 1, parallelism=4, in_pool=True),
    ]
    found = first(works)
    assert (found.kind, found.stage) == ("thread pool", 1)
    assert found.stages == (1, 0)


def test_of_stages_missed_alike_the_larger_is_the_bottleneck():
    works = [Work(1, 0.021, 1), Work(0, 0.020, 1)]
    assert first(works).stage == 1


def test_without_what_computes_the_processor_is_free():
    # A stage that waits beside one that computes on both cores.
    works = [Work(1, 0.1, 0, parallelism=16), Work(0, 0.018, 1, parallelism=2)]
    found = first(works, Machine(2, 16), 0.019)
    assert (found.kind, found.stage) == ("CPU saturated", 0)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(1e-5, 1.0), min_size=1, max_size=6),
    st.integers(0, 5),
    st.floats(0.0, 1.0),
)
def test_more_work_is_never_faster(seconds, place, more):
    works = [Work(number, each, number % 2) for number, each in enumerate(seconds)]
    place %= len(works)
    heavier = list(works)
    heavier[place] = Work(place, works[place].seconds + more, works[place].thread)
    slowest = [find_rate(each, TWO_CORES, processor_seconds=1e-4) for each in (works, heavier)]
    assert slowest[1] <= slowest[0]


def remedies(works, candidates, machine=TWO_CORES, processor_seconds=1e-6):
    return find_remedies(candidates, works, machine, processor_seconds=processor_seconds)


def test_a_serial_map_becomes_as_parallel_as_the_pool():
    works = [Work(1, 0.04, 1, in_pool=True), Work(0, 0.004, 1)]
    stages = [Candidate("", "range", 1), Candidate("Map", "map f", 0, before=(1,))]
    best = remedies(works, stages)[0]
    assert best.text == "map f: pass `num_parallel_calls=tf.data.AUTOTUNE`"
    # From 44 ms in one thread to two calls, each of which waits for the source.
    assert best.predicted_gain == pytest.approx(0.044 / 0.022)


def test_a_map_that_waits_gets_more_threads_than_cores():
    works = [Work(1, 0.16, 1, in_pool=True), Work(0, 1e-6, 1)]
    stages = [Candidate("", "range", 1), Candidate("Map", "map f", 0, before=(1,), waits=True)]
    best = remedies(works, stages)[0]
    assert best.calls == 16
    assert best.predicted_gain == pytest.approx(16, rel=0.01)


def test_processor_time_bounds_the_gain():
    works = [Work(1, 0.04, 1, in_pool=True), Work(0, 1e-6, 1)]
    stages = [Candidate("", "range", 1), Candidate("Map", "map f", 0, before=(1,))]
    best = remedies(works, stages, processor_seconds=0.05)[0]
    assert best.predicted_gain == pytest.approx(0.04 / 0.025, rel=0.01)


def test_calls_that_wait_take_less_processor_time_when_they_are_frequent():
    works = [Work(1, 0.16, 1, in_pool=True), Work(0, 1e-9, 1)]
    stages = [Candidate("", "range", 1), Candidate("Map", "map f", 0, before=(1,), waits=True)]
    now, processor = 1 / 0.16, 0.05
    best = remedies(works, stages, processor_seconds=processor)[0]
    # The rate r at which r * processor * (now / r)^0.3 is the number of cores.
    after = (2 / processor / now**0.3) ** (1 / 0.7)
    assert 2 / processor < after < 16 * now
    assert best.predicted_gain == pytest.approx(after / now, rel=1e-3)


def test_what_computes_takes_as_much_processor_time_at_any_rate():
    works = [Work(1, 0.16, 0, parallelism=16), Work(0, 0.02, 1)]
    rates = [
        find_rate_after(works, Machine(cores, 16), processor_seconds=0.02, rate=5.0)
        for cores in (0.5, 0.75)
    ]
    assert rates == pytest.approx([25.0, 37.5], rel=1e-3)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(1e-5, 1.0), min_size=1, max_size=6), st.floats(1e-4, 1.0))
def test_no_change_is_no_gain(seconds, processor):
    works = [Work(number, each, number % 2) for number, each in enumerate(seconds)]
    now = find_rate(works, TWO_CORES, processor_seconds=processor)
    after = find_rate_after(works, TWO_CORES, processor_seconds=processor, rate=now)
    assert after == pytest.approx(now, rel=1e-4)


def test_two_serial_stages_are_parted_by_a_prefetch():
    works = [Work(1, 0.02, 1), Work(0, 0.02, 1)]
    stages = [Candidate("Range", "range", 1), Candidate("Filter", "filter", 0, before=(1,))]
    best = remedies(works, stages)[0]
    assert best.action == "prefetch"
    assert best.text == "put `.prefetch(tf.data.AUTOTUNE)` before filter"
    assert best.predicted_gain == pytest.approx(2.0)


def test_the_input_of_a_parallel_stage_is_made_ready_by_a_prefetch():
    works = [Work(1, 0.02, 0, parallelism=1, reads=1), Work(0, 0.02, 1)]
    stages = [Candidate("Range", "range", 1), Candidate("Batch", "batch", 0, before=(1,))]
    found = {remedy.action: remedy.predicted_gain for remedy in remedies(works, stages)}
    assert found["prefetch"] == pytest.approx(2.0)


def test_more_threads_help_only_what_tf_data_tunes():
    pooled = {"in_pool": True, "parallelism": 2}
    stages = [Candidate("Map", "map f", 0, waits=True)]
    for tuned, gains in ((True, [8.0]), (False, [])):
        works = [Work(0, 0.1, 0, tuned=tuned, **pooled)]
        found = [r for r in remedies(works, stages) if r.action == "thread pool"]
        assert [remedy.predicted_gain for remedy in found] == pytest.approx(gains)


def test_an_interleave_reads_as_many_at_once_as_its_cycle():
    works = [Work(1, 1e-5, 1), Work(0, 0.04, 1), Work(2, 1e-5, 1)]
    stages = [
        Candidate("", "each", None),
        Candidate("Interleave", "interleave", 0, before=(1, 2), nested=(1,), cycle_length=4),
        Candidate("", "range", 2),
    ]
    best = remedies(works, stages)[0]
    assert best.stage == 1
    assert best.predicted_gain == pytest.approx(4.0, rel=0.01)


def test_nothing_is_proposed_that_does_not_help():
    works = [Work(0, 0.01, 1)]
    assert remedies(works, [Candidate("Range", "range", 0)]) == []


def stage(kind, *path, elements, seconds=0.0):
    return StageTimes(kind, (*path, kind), "each" in path, elements=elements, seconds=seconds)


def test_what_was_forgotten_is_made_up_for_by_elements():
    repeat = stage("Repeat", elements=90)
    source = stage("Range", "Repeat", elements=30, seconds=1.0)
    assert [s.seconds for s in complete([repeat, source])] == [0.0, pytest.approx(3.0)]
    assert not complete([repeat, source])[1].unseen


def test_what_was_hardly_seen_is_said():
    above = stage("FlatMap", elements=100)
    below = stage("Map", "FlatMap", "each", elements=2, seconds=1.0)
    assert complete([above, below])[1].unseen


def test_the_input_of_an_interleave_is_not_scaled():
    above = stage("Interleave", elements=100)
    files = stage("Range", "Interleave", elements=10, seconds=1.0)
    below = stage("Map", "Interleave", "each", elements=50, seconds=1.0)
    assert [s.seconds for s in complete([above, files, below])] == [0.0, 1.0, 2.0]
