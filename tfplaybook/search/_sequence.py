"""The points of a study: which values the hyperparameters have in each trial."""

import functools
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tfplaybook._keras_tuner import Fixed, HyperParameter
from tfplaybook.search._halton import dimension_of, halton
from tfplaybook.search._identity import Key, key_of
from tfplaybook.search._values import Value, check_value, levels_of, value_at

# A space of at most as many configurations is searched without repeats.
LARGEST_ENUMERATED = 10_000
# So many points of the sequence for each configuration are looked at before those that it has not
# met are taken as they were declared.
_PATIENCE = 64
_CHUNK = 64

Point = dict[str, Value]


class PointSequence:
    """The values of every trial, a function of the arguments and the trial's number alone.

    Trial i has the point `start_index + i` of the Halton sequence. There are three additions.

    *Scientific* hyperparameters that can take finitely many values are paired: of m configurations,
    trials `m k, ..., m k + m - 1` have one each, and all of them the k-th point of everything else.

    A *small* space, of at most 10,000 configurations, is enumerated: each configuration comes
    once, in the order in which the sequence first meets it, and then there are no more points.

    An *enqueued* trial has the values that were given for it, and else those of its point.

    Args:
        space: The hyperparameters; parents come before what depends on them.
        primes: The base of each hyperparameter's coordinate; one without keeps its only value.
        seed: Seed of the sequence.
        start_index: Place of trial 0 in the sequence.
        scientific: The hyperparameters whose effect is to be measured.
        enqueued: Given values by trial number.

    Raises:
        ValueError: A scientific hyperparameter exists only for some values of one that is not.

    Source: playbook C4, C5, G2.
    """

    def __init__(
        self,
        space: Sequence[HyperParameter],
        primes: Mapping[Key, int],
        *,
        seed: int,
        start_index: int = 0,
        scientific: Collection[Key] = (),
        enqueued: Mapping[int, Point] | None = None,
    ):
        self._space = [(key_of(hyperparameter), hyperparameter) for hyperparameter in space]
        self._columns = {key: column for column, key in enumerate(primes)}
        self._dimensions = [dimension_of(base) for base in primes.values()]
        self._seed = seed
        self._start_index = start_index
        self._enqueued = enqueued or {}
        chosen = [h for key, h in self._space if key in scientific or is_constant(h)]
        self._scientific = configurations(chosen, at_most=LARGEST_ENUMERATED)
        self._chunk: tuple[int, NDArray[np.float64]] = (-1, np.empty((0, 0)))
        self._memory: list[Point] = []
        self._seen: set[tuple[tuple[str, Value], ...]] = set()

    def point(self, number: int) -> Point | None:
        """Return the values of the active hyperparameters in trial `number`, if it has a point."""
        if self._all is None:
            return self._at(self._start_index + number, self._enqueued.get(number))
        while len(self._memory) <= number:
            following = self._following(len(self._memory))
            if following is None:
                return None
            self._memory.append(following)
            self._seen.add(tuple(following.items()))
        return self._memory[number]

    def length(self, *, at_most: int) -> int:
        """Return how many trials have a point, up to `at_most`."""
        if self._all is None or self.point(at_most - 1) is not None:
            return at_most
        return len(self._memory)

    @functools.cached_property
    def _all(self) -> list[Point] | None:
        return configurations([h for _, h in self._space], at_most=LARGEST_ENUMERATED)

    @functools.cached_property
    def _order(self) -> Iterator[Point]:
        return itertools.islice(self._distinct(), self._start_index, None)

    def _following(self, number: int) -> Point | None:
        if number in self._enqueued:
            return self._at(self._start_index + number, self._enqueued[number])
        return next((p for p in self._order if tuple(p.items()) not in self._seen), None)

    def _distinct(self) -> Iterator[Point]:
        """Yield every configuration once."""
        everything = self._all or []
        seen = set()
        met = map(self._at, range(_PATIENCE * len(everything)))
        for point in itertools.chain(met, everything):
            cell = tuple(point.items())
            if cell not in seen:
                seen.add(cell)
                yield point
            if len(seen) == len(everything):
                return

    def _at(self, place: int, given: Mapping[str, Value] | None = None) -> Point:
        pinned: Point = {}
        index = place
        if self._scientific:
            index, which = divmod(place, len(self._scientific))
            pinned = self._scientific[which]
        coordinates = self._coordinates(index)
        point: Point = {}
        for key, hyperparameter in self._space:
            if not all(condition.is_active(point) for condition in hyperparameter.conditions):
                continue
            name = hyperparameter.name
            if given and name in given:
                point[name] = check_value(hyperparameter, given[name])
            elif name in pinned:
                point[name] = pinned[name]
            else:
                column = self._columns.get(key)
                probability = 0.0 if column is None else float(coordinates[column])
                point[name] = value_at(hyperparameter, probability)
        return point

    def _coordinates(self, index: int) -> NDArray[np.float64]:
        """Return the coordinates at `index`, shape (number of primes,)."""
        number, row = divmod(index, _CHUNK)
        if self._chunk[0] != number:
            indices = range(number * _CHUNK, (number + 1) * _CHUNK)
            self._chunk = number, halton(indices, self._dimensions, seed=self._seed)
        return self._chunk[1][row]


def configurations(space: Sequence[HyperParameter], *, at_most: int) -> list[Point] | None:
    """Return every point of a space, or None if there are more than `at_most`.

    Conditions on hyperparameters outside of `space` are an error: their values are not known.
    """
    names = {hyperparameter.name for hyperparameter in space}
    for hyperparameter in space:
        for condition in hyperparameter.conditions:
            if condition.name not in names:
                raise ValueError(
                    f"{hyperparameter.name!r} exists only for some values of {condition.name!r}. "
                    "Only then can its effect be measured: make both scientific, or fix "
                    f"{condition.name!r}."
                )
    points: list[Point] = [{}]
    for hyperparameter in space:
        levels = levels_of(hyperparameter, at_most=at_most)
        extended: list[Point] = []
        for point in points:
            if all(condition.is_active(point) for condition in hyperparameter.conditions):
                if levels is None:
                    return None
                extended += [{**point, hyperparameter.name: level} for level in levels]
            else:
                extended.append(point)
            if len(extended) > at_most:
                return None
        points = extended
    return points


def is_constant(hyperparameter: HyperParameter) -> bool:
    """Return whether it has the same value in every trial, and exists in all of them."""
    return isinstance(hyperparameter, Fixed) and not hyperparameter.conditions
