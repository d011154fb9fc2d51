"""The scrambled Halton sequence: quasi-random points that any process can compute alone.

The radical inverse of an index turns its digits in base b around the point, so that b^k
consecutive points put one into each of the b^k equal intervals. In the higher dimensions, whose
bases are large, the first points of the plain sequence lie on lines. Scrambling sends every
digit through a random permutation, drawn independently for each digit place: the stratification
stays and the lines go. Leading zeros are digits too, so the permutations reach down to the
resolution of a float64 and every point is uniformly distributed.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfplaybook._arguments import check_count

# Both decide how many digit places are permuted: to change one changes the last bits of all points.
_RESOLUTION_BITS = 54
_TABLE_SIZE_LIMIT = 512
_LARGEST_BELOW_ONE = math.nextafter(1.0, 0.0)


def halton(
    index: ArrayLike,
    dimensions: int | Sequence[int],
    *,
    seed: int,
    shift: bool = False,
) -> NDArray[np.float64]:
    """Return the scrambled Halton points at `index`.

    With the digits `d_k` of the index in base b, the prime of the dimension, and a permutation
    `p_k` for each digit place,

        x = p_0(d_0) / b + p_1(d_1) / b^2 + p_2(d_2) / b^3 + ...

    A coordinate depends on (seed, dimension, index) alone: no state, no order, and later
    dimensions never change earlier ones. Two seeds share nothing, neighbours included.

    Examples:
        >>> from tfplaybook import search
        >>> points = search.halton(range(8), 2, seed=0)
        >>> points.shape
        (8, 2)
        >>> sorted((points[:, 0] * 8).astype(int).tolist())  # base 2: one in each eighth
        [0, 1, 2, 3, 4, 5, 6, 7]
        >>> bool((search.halton(5, [1], seed=0) == points[5, 1]).all())
        True

    Args:
        index: Which points: an integer or a sequence of n integers from 0 to 2^63 - 1.
        dimensions: How many dimensions, or the list of dimension numbers to return; number j has
            the j-th prime as its base, from 0.
        seed: Any integer from 0 to 2^63 - 1.
        shift: Also add a random offset modulo 1 to each dimension. The permutations already make
            the points uniform; the offset breaks the stratification a little and gained nothing
            in our measurements.

    Returns:
        Array of shape (n, number of dimensions), float64 in [0, 1); n is 1 for a single index.

    Raises:
        ValueError: `index`, `dimensions` or `seed` holds anything but integers in these ranges.

    Source: playbook G2; Bousquet et al. 2017, "Critical hyper-parameters: no random, no cry".
    """
    index = _check_index(index)
    if isinstance(dimensions, SupportsIndex):
        dimensions = range(check_count("dimensions", dimensions, minimum=0))
    numbers = [check_count("dimensions[...]", number, minimum=0) for number in dimensions]
    seed = check_seed(seed)

    points = np.empty((index.size, len(numbers)))
    for column, number in enumerate(numbers):
        scramble = _scramble(seed, number)
        points[:, column] = scramble.radical_inverse(index)
        if shift:
            points[:, column] = (points[:, column] + scramble.offset) % 1.0
    # A sum just below 1 may round up to it.
    return np.minimum(points, _LARGEST_BELOW_ONE)


def check_seed(seed: SupportsIndex) -> int:
    """Return `seed` as an int from 0 to 2^63 - 1, or raise `ValueError`."""
    number = check_count("seed", seed, minimum=0)
    if number >= 2**63:
        raise ValueError(f"`seed` must be below 2**63. Received: {seed!r}.")
    return number


@functools.lru_cache(maxsize=1024)
def prime(number: int) -> int:
    """Return the prime of dimension `number`: 2, 3, 5, ... from 0."""
    return next(itertools.islice(filter(_is_prime, itertools.count(2)), number, None))


@functools.lru_cache(maxsize=1024)
def dimension_of(base: int) -> int:
    """Return the number of the dimension whose prime is `base`, the inverse of `prime`."""
    return sum(map(_is_prime, range(2, base)))


def _is_prime(candidate: int) -> bool:
    return all(candidate % divisor for divisor in range(2, math.isqrt(candidate) + 1))


class _Scramble(NamedTuple):
    """The permutations of one dimension, several digit places to a table.

    Attributes:
        tables: Shape (groups, base^digits). `tables[g, d]` is what the g-th group of digits, read
            as one number d, adds to the point.
        tails: Shape (groups + 1,). `tails[g]` is what the groups from g on add when all their
            digits are zero.
        offset: The offset of `shift=True`.
    """

    tables: NDArray[np.float64]
    tails: NDArray[np.float64]
    offset: float

    def radical_inverse(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the points of `index`, float64 of the same shape (n,)."""
        groups, size = self.tables.shape
        digits: list[NDArray[np.int64]] = []
        while len(digits) < groups and index.any():
            index, lowest = np.divmod(index, size)
            digits.append(lowest)
        # From the smallest term up: accurate, and to the bit the same with or without the tail.
        points = np.full(index.shape, self.tails[len(digits)])
        for group in reversed(range(len(digits))):
            points += self.tables[group][digits[group]]
        return points


@functools.lru_cache(maxsize=256)
def _scramble(seed: int, number: int) -> _Scramble:
    base = prime(number)
    digits_per_table = max(1, int(math.log(_TABLE_SIZE_LIMIT, base) + 1e-9))
    size = base**digits_per_table
    groups = math.ceil(_RESOLUTION_BITS / math.log2(size))
    places = groups * digits_per_table

    # The raw stream of Philox is fixed by its definition, while the methods of np.random.Generator
    # may change between versions of NumPy. Its key gives every (seed, dimension) its own stream.
    generator = np.random.Philox(key=np.array([seed, number], dtype=np.uint64))
    keys = generator.random_raw(places * base).reshape(places, base)
    permutations = keys.argsort(axis=1, kind="stable")
    offset = (int(generator.random_raw()) >> 11) * 2.0**-53

    tables = np.zeros((groups, 1))
    for place in reversed(range(digits_per_table)):
        digits = permutations[place::digits_per_table]  # shape (groups, base)
        tables = ((tables[:, :, None] + digits[:, None, :]) / base).reshape(groups, -1)
    tables *= np.power(float(size), -np.arange(groups))[:, None]
    tails = np.append(np.cumsum(tables[::-1, 0])[::-1], 0.0)
    return _Scramble(tables, tails, offset)


def _check_index(index: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(index)
    if array.ndim <= 1 and array.size == 0:
        return np.empty(0, dtype=np.int64)
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise ValueError(
            "`index` must be an integer or a flat sequence of integers from 0 to 2**63 - 1. "
            f"Received: {index!r}."
        )
    if int(array.min()) < 0 or int(array.max()) >= 2**63:
        raise ValueError(
            "`index` must lie between 0 and 2**63 - 1. "
            f"Received values from {array.min()} to {array.max()}."
        )
    return np.atleast_1d(array).astype(np.int64)
