"""The points of a study, without an oracle: what a trial's values depend on, and what not."""

import collections

import keras_tuner as kt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfplaybook.search import halton
from tfplaybook.search._halton import prime
from tfplaybook.search._identity import key_of
from tfplaybook.search._sequence import PointSequence, configurations


def optimizers():
    """Two learning rates with ranges of their own, and what each optimizer has alone."""
    hp = kt.HyperParameters()
    hp.Choice("optimizer", ["sgd", "adam"])
    with hp.conditional_scope("optimizer", ["sgd"]):
        hp.Float("learning_rate", 0.0, 1.0)
        hp.Float("momentum", 0.0, 1.0)
    with hp.conditional_scope("optimizer", ["adam"]):
        hp.Float("learning_rate", 10.0, 11.0)
    hp.Float("dropout", 0.0, 1.0)
    return hp


def grid():
    hp = kt.HyperParameters()
    hp.Choice("kind", ["a", "b"])
    with hp.conditional_scope("kind", ["a"]):
        hp.Int("depth", 1, 3)
    with hp.conditional_scope("kind", ["b"]):
        hp.Int("depth", 7, 20, step=3)
        hp.Boolean("wide")
    return hp


def sequence(space, *, scientific=(), **options):
    varied = [h for h in space.space if not isinstance(h, kt.engine.hyperparameters.Fixed)]
    primes = {key_of(h): prime(number) for number, h in enumerate(varied)}
    keys = {key_of(h) for h in space.space if h.name in scientific}
    return PointSequence(space.space, primes, **{"seed": 0, "scientific": keys, **options})


def points(space, count, **options):
    made = sequence(space, **options)
    return [made.point(number) for number in range(count)]


class TestConditions:
    def test_one_name_under_two_parents_has_two_ranges_and_two_coordinates(self):
        u = halton(range(32), 5, seed=0)
        for point, row in zip(points(optimizers(), 32), u, strict=True):
            if row[0] < 0.5:
                expected = {"learning_rate": row[1], "momentum": row[2]}
            else:
                expected = {"learning_rate": 10.0 + row[3]}
            kind = "sgd" if row[0] < 0.5 else "adam"
            assert point == pytest.approx({"optimizer": kind, **expected, "dropout": row[4]})

    @settings(deadline=None, max_examples=20)
    @given(seed=st.integers(0, 2**63 - 1), start=st.integers(0, 10**6), number=st.integers(0, 500))
    def test_appending_a_hyperparameter_moves_no_other(self, seed, start, number):
        longer = optimizers()
        with longer.conditional_scope("optimizer", ["adam"]):
            longer.Float("epsilon", 0.0, 1.0)
        longer.Int("width", 1, 1000)
        options = {"seed": seed, "start_index": start}
        short, long = (sequence(s, **options).point(number) for s in (optimizers(), longer))
        del long["width"]
        long.pop("epsilon", None)
        assert long == short

    def test_points_do_not_depend_on_the_order_in_which_they_are_asked_for(self):
        for space in (optimizers(), grid()):
            backwards = sequence(space)
            met = [backwards.point(number) for number in reversed(range(12))]
            assert met[::-1] == points(space, 12)


class TestEnumeration:
    def test_every_configuration_comes_once(self):
        made = sequence(grid())
        assert made.length(at_most=100) == 3 + 5 * 2
        met = [made.point(number) for number in range(14)]
        assert met[13] is None
        everything = configurations(grid().space, at_most=100)
        assert sorted(map(repr, met[:13])) == sorted(map(repr, everything))

    def test_a_space_of_32_cells_is_met_whole(self):
        # KerasTuner gave up on it after 24 to 32 trials.
        space = kt.HyperParameters()
        for name in "abcde":
            space.Boolean(name)
        cells = {tuple(point.values()) for point in points(space, 32)}
        assert len(cells) == 32

    def test_the_first_points_are_those_of_the_sequence(self):
        space = kt.HyperParameters()
        space.Int("x", 0, 7)
        u = halton(range(8), 1, seed=3)[:, 0]
        assert [point["x"] for point in points(space, 8, seed=3)] == [int(8 * x) for x in u]

    def test_a_later_round_goes_on_where_the_earlier_one_stopped(self):
        later = sequence(grid(), start_index=5)
        assert [later.point(n) for n in range(later.length(at_most=99))] == points(grid(), 13)[5:]

    def test_levels_that_the_sequence_hardly_meets_come_too(self):
        space = kt.HyperParameters()
        space.Int("x", 1, 300, sampling="log")
        values = [point["x"] for point in points(space, 300)]
        assert sorted(values) == list(range(1, 301))
        assert sum(value > 30 for value in values[:20]) < 12

    def test_a_large_space_is_not_enumerated(self):
        space = kt.HyperParameters()
        space.Int("x", 1, 200)
        space.Int("y", 1, 200)
        assert sequence(space).length(at_most=50_000) == 50_000
        assert configurations(space.space, at_most=39_999) is None
        assert len(configurations(space.space, at_most=40_000)) == 40_000


class TestScientific:
    def test_every_scientific_value_meets_the_same_nuisance_points(self):
        made = points(optimizers(), 24, scientific=["optimizer"], start_index=4)
        for pair in zip(made[::2], made[1::2], strict=True):
            assert [point["optimizer"] for point in pair] == ["sgd", "adam"]
            assert pair[0]["dropout"] == pair[1]["dropout"]
        assert len({point["dropout"] for point in made}) == 12

    def test_conditional_scientific_ones_are_configurations_as_well(self):
        space = grid()
        space.Float("rate", 0.0, 1.0)
        made = points(space, 26, scientific=["kind", "depth", "wide"])
        counts = collections.Counter(
            tuple((name, point[name]) for name in point if name != "rate") for point in made
        )
        assert len(counts) == 13
        assert set(counts.values()) == {2}

    def test_continuous_ones_have_their_coordinate(self):
        assert points(optimizers(), 8, scientific=["dropout"]) == points(optimizers(), 8)

    def test_one_below_a_nuisance_hyperparameter_is_refused(self):
        with pytest.raises(ValueError, match="'momentum' exists only for some values of 'optim"):
            sequence(optimizers(), scientific=["momentum"])


class TestEnqueued:
    def test_given_values_move_no_other_trial(self):
        given = {1: {"dropout": 0.25}, 3: {"optimizer": "adam", "learning_rate": 10.5}}
        plain, made = points(optimizers(), 6), points(optimizers(), 6, enqueued=given)
        assert [made[n] for n in (0, 2, 4, 5)] == [plain[n] for n in (0, 2, 4, 5)]
        assert made[1] == {**plain[1], "dropout": 0.25}
        assert made[3] == {
            "optimizer": "adam",
            "learning_rate": 10.5,
            "dropout": plain[3]["dropout"],
        }

    def test_a_small_space_is_still_met_once(self):
        given = {0: {"kind": "b", "depth": 13, "wide": True}, 4: {"kind": "a", "depth": 2}}
        made = points(grid(), 14, enqueued=given)
        assert made[0] == {"kind": "b", "depth": 13, "wide": True}
        assert made[4] == {"kind": "a", "depth": 2}
        met = {repr(point) for point in made if point}
        repeats = sum(point == made[4] for point in made[:4])
        assert len(met) == 13
        assert sum(point is None for point in made) == 1 - repeats

    def test_a_value_outside_the_range_of_its_branch_is_refused(self):
        given = {0: {"optimizer": "adam", "learning_rate": 0.5}}
        with pytest.raises(ValueError, match=r"'learning_rate' must be a number from 10.0 to 11.0"):
            points(optimizers(), 1, enqueued=given)
