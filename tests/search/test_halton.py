"""The sequence: stratified, independent of what else is asked for, uniform, never 1."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, qmc

from tfplaybook.search import halton
from tfplaybook.search._halton import dimension_of, prime

SEEDS = st.integers(0, 2**63 - 1)
INDICES = st.integers(0, 2**63 - 1)
few = settings(deadline=None, max_examples=40)


def test_the_dimensions_count_through_the_primes():
    assert [prime(number) for number in range(10)] == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
    assert prime(1228) == 9973
    assert [dimension_of(prime(number)) for number in (0, 1, 5, 30)] == [0, 1, 5, 30]


@pytest.mark.parametrize(
    ("dimension", "power"), [(0, 1), (0, 6), (1, 1), (1, 4), (2, 3), (3, 2), (5, 2), (24, 1)]
)
@pytest.mark.parametrize("block", [0, 1, 7, 10**6])
@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_an_aligned_block_puts_one_point_into_each_interval(dimension, power, block, seed):
    size = prime(dimension) ** power
    points = halton(np.arange(block * size, (block + 1) * size), [dimension], seed=seed)[:, 0]
    assert sorted(np.floor(points * size)) == list(range(size))


def test_a_block_fills_every_cell_of_the_grid_of_two_bases():
    points = halton(range(4 * 9), 2, seed=3)
    cells = {(int(x * 4), int(y * 9)) for x, y in points}
    assert len(cells) == 36


@few
@given(seed=SEEDS, indices=st.lists(INDICES, min_size=1, max_size=8), dimensions=st.integers(1, 8))
def test_a_coordinate_depends_on_seed_dimension_and_index_alone(seed, indices, dimensions):
    together = halton(indices, dimensions, seed=seed)
    assert together.shape == (len(indices), dimensions)
    assert together.dtype == np.float64
    alone = [[halton(i, [d], seed=seed)[0, 0] for d in range(dimensions)] for i in indices]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(halton(indices, dimensions + 3, seed=seed)[:, :-3], together)
    backwards = list(reversed(range(dimensions)))
    np.testing.assert_array_equal(halton(indices, backwards, seed=seed)[:, ::-1], together)


@few
@given(seed=SEEDS, index=INDICES, dimension=st.integers(0, 40), shift=st.booleans())
def test_points_lie_in_the_half_open_unit_interval(seed, index, dimension, shift):
    point = halton(index, [dimension], seed=seed, shift=shift)
    assert 0.0 <= point[0, 0] < 1.0


@pytest.mark.parametrize(
    ("seed", "index", "dimension", "expected"),
    [
        (0, 0, 0, 0.1871379544528673),
        (0, 1, 0, 0.6871379544528673),
        (0, 12345, 5, 0.07373389355258114),
        (1, 0, 0, 0.4773948659626582),
        (2**63 - 1, 2**53 - 1, 19, 0.14555642812501318),
        (42, 7, 99, 0.2361035936692578),
    ],
)
def test_the_points_never_change(seed, index, dimension, expected):
    assert halton(index, [dimension], seed=seed)[0, 0] == expected


def test_the_global_generator_is_left_alone():
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    halton(range(100), 4, seed=0, shift=True)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_neighbouring_seeds_and_dimensions_share_no_stream():
    count, seeds = 64, 100
    columns = np.stack([halton(range(count), [1], seed=seed)[:, 0] for seed in range(seeds)])
    assert len({tuple(column) for column in columns}) == seeds
    # Each seed's first point is an independent uniform number: so are the differences modulo 1.
    differences = np.diff(columns[:, 0]) % 1.0
    assert kstest(differences, "uniform").pvalue > 1e-3
    # Nothing of seed s appears in seed s + 1 at another dimension.
    assert not np.isin(halton(range(count), [2], seed=0), halton(range(count), [2], seed=1)).any()


@pytest.mark.parametrize("index", [0, 1, 5, 1000])
@pytest.mark.parametrize("dimension", [0, 1, 4, 11])
@pytest.mark.parametrize("shift", [False, True])
def test_each_point_is_uniform_over_seeds(index, dimension, shift):
    points = [halton(index, [dimension], seed=seed, shift=shift)[0, 0] for seed in range(400)]
    assert kstest(points, "uniform").pvalue > 1e-4


def test_permutations_reach_the_last_bits():
    # Index 0 has leading zeros only. If they were not permuted at full depth, its points would
    # share their low bits.
    points = halton(0, 1, seed=7)
    low_bits = {int(halton(0, 1, seed=seed)[0, 0] * 2**53) % 256 for seed in range(300)}
    assert len(low_bits) > 150
    assert points[0, 0] * 2**20 % 1 != 0


def test_a_shift_is_one_offset_for_the_whole_dimension():
    offsets = (halton(range(50), 3, seed=1, shift=True) - halton(range(50), 3, seed=1)) % 1.0
    spread = np.abs(offsets - offsets[0])
    np.testing.assert_allclose(np.minimum(spread, 1 - spread), 0.0, atol=1e-15)
    assert (offsets[0] > 1e-6).all()


@pytest.mark.parametrize("dimensions", [2, 6])
def test_it_is_as_even_as_the_scrambled_sequence_of_scipy(dimensions):
    seeds = range(400)
    mine = [qmc.discrepancy(halton(range(64), dimensions, seed=s)) ** 0.5 for s in seeds]
    theirs = [
        qmc.discrepancy(qmc.Halton(dimensions, scramble=True, rng=s).random(64)) ** 0.5
        for s in seeds
    ]
    assert np.mean(mine) == pytest.approx(np.mean(theirs), rel=0.04)


@pytest.mark.parametrize(
    ("index", "expected"), [(7, (1, 2)), ([7], (1, 2)), (range(0), (0, 2)), ([], (0, 2))]
)
def test_shapes(index, expected):
    assert halton(index, 2, seed=0).shape == expected


def test_no_dimensions_give_an_array_without_columns():
    assert halton(range(3), 0, seed=0).shape == (3, 0)


@pytest.mark.parametrize(
    ("index", "dimensions", "seed", "message"),
    [
        (-1, 2, 0, "`index` must lie between 0"),
        (0.5, 2, 0, "`index` must be an integer"),
        ([[1]], 2, 0, "`index` must be an integer or a flat sequence"),
        (np.array([2**63], dtype=np.uint64), 2, 0, "`index` must lie between 0"),
        (True, 2, 0, "`index` must be an integer"),
        (0, -1, 0, "`dimensions` must be an integer of at least 0"),
        (0, [0, 1.5], 0, r"`dimensions\[...\]` must be an integer"),
        (0, 2, -1, "`seed` must be an integer of at least 0"),
        (0, 2, 1.0, "`seed` must be an integer"),
        (0, 2, None, "`seed` must be an integer"),
        (0, 2, 2**63, r"`seed` must be below 2\*\*63"),
    ],
)
def test_bad_arguments(index, dimensions, seed, message):
    with pytest.raises(ValueError, match=message):
        halton(index, dimensions, seed=seed)
