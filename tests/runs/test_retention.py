"""Which checkpoints each policy keeps."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfplaybook.runs import AnyOf, BestN, CheckpointEntry, EveryNSteps, LatestN, RetentionPolicy


def entry(step, **metrics):
    return CheckpointEntry(step, metrics, True, Path(f"step_{step}"))


LOSSES = [(100, 0.5), (200, 0.2), (300, math.nan), (400, 0.2), (500, -math.inf), (600, 0.9)]
ENTRIES = [*(entry(step, loss=loss) for step, loss in LOSSES), entry(700)]


@pytest.mark.parametrize(
    ("policy", "steps"),
    [
        (BestN(1, "loss", "min"), {200}),
        (BestN(2, "loss", "min"), {200, 400}),
        (BestN(3, "loss", "min"), {100, 200, 400}),
        (BestN(1, "loss", "max"), {600}),
        (BestN(9, "loss", "max"), {100, 200, 400, 600}),
        (BestN(9, "accuracy", "max"), set()),
        (LatestN(1), {700}),
        (LatestN(2), {600, 700}),
        (LatestN(9), {100, 200, 300, 400, 500, 600, 700}),
        (EveryNSteps(100), {100, 200, 300, 400, 500, 600, 700}),
        (EveryNSteps(200), {200, 400, 600}),
        (EveryNSteps(250), {300, 500}),
        (EveryNSteps(1000), set()),
        (BestN(1, "loss", "min") | LatestN(1), {200, 700}),
        (BestN(1, "loss", "max") | LatestN(1) | EveryNSteps(400), {400, 600, 700}),
        (AnyOf([LatestN(1), BestN(1, "loss", "min")]), {200, 700}),
    ],
)
def test_kept(policy, steps):
    assert policy.kept(ENTRIES) == steps
    assert policy.kept(ENTRIES[::-1]) == steps
    assert policy.kept([]) == set()


def test_a_policy_is_a_value():
    assert BestN(1, "loss", "min") | LatestN(2) == AnyOf([BestN(1, "loss", "min"), LatestN(2)])
    assert repr(LatestN(2)) == "LatestN(n=2)"
    assert len({LatestN(2), LatestN(2), EveryNSteps(2)}) == 2


def test_a_policy_of_ones_own_composes():
    class Even(RetentionPolicy):
        def kept(self, entries):
            return {entry.step for entry in entries if entry.step % 200 == 0}

    assert (LatestN(1) | Even()).kept(ENTRIES) == {200, 400, 600, 700}


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: BestN(0, "loss", "min"), ValueError, "`n` must be an integer of at least 1"),
        (lambda: BestN(1, "loss", "mim"), ValueError, "Did you mean 'min'?"),
        (lambda: LatestN(0.5), ValueError, "`n` must be an integer"),
        (lambda: EveryNSteps(0), ValueError, "`every` must be an integer of at least 1"),
        (lambda: AnyOf([]), ValueError, "at least one retention policy"),
        (lambda: AnyOf([3]), TypeError, "`policies` must be a retention policy"),
        (lambda: LatestN(1) | 3, TypeError, "unsupported operand"),
    ],
)
def test_what_is_refused(make, error, message):
    with pytest.raises(error) as raised:
        make()
    assert message in str(raised.value)


values = st.floats(allow_nan=True, allow_infinity=True)
policies = st.one_of(
    st.builds(LatestN, st.integers(1, 4)),
    st.builds(EveryNSteps, st.integers(1, 60)),
    st.builds(BestN, st.integers(1, 4), st.just("loss"), st.sampled_from(["min", "max"])),
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.integers(0, 200), values), policies, policies)
def test_a_checkpoint_collected_on_the_way_is_never_missed(losses, first, second):
    """What stays when garbage is collected after every save is what stays of all at the end."""
    policy = first | second
    present = []
    for step in sorted(losses):
        present.append(entry(step, loss=losses[step]))
        kept = policy.kept(present)
        present = [e for e in present if e.step in kept]
    everything = [entry(step, loss=loss) for step, loss in losses.items()]
    assert {e.step for e in present} == policy.kept(everything)
    assert policy.kept(everything) == first.kept(everything) | second.kept(everything)
