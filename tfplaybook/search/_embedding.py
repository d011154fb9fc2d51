"""`Embedding`: the points of a search space as vectors, for a model of them."""

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tfplaybook._keras_tuner import Boolean, Choice, HyperParameter
from tfplaybook.search._identity import key_of
from tfplaybook.search._sequence import Point
from tfplaybook.search._values import levels_of, probability_of, value_at

_INACTIVE = 0.5
# How often a neighbour of a point has another value of a categorical hyperparameter.
_SWAPS = 0.2
_BELOW_ONE = np.nextafter(1.0, 0.0)


class Embedding:
    """Vectors for the points of a space.

    A number is its place in the declared range on the declared scale, from 0 to 1. A categorical
    value has a coordinate per level, so that all levels are equally far from each other. What does
    not exist at a point is in the middle.

    Args:
        space: The hyperparameters that are varied or constant; parents come before what depends on
            them.
    """

    def __init__(self, space: Sequence[HyperParameter]):
        self._space = list(space)
        levels = [levels_of(h, at_most=1) for h in space]
        self._varied = [h for h, of in zip(space, levels, strict=True) if of is None or len(of) > 1]
        self._columns = {key_of(h): column for column, h in enumerate(self._varied)}

    @property
    def dimensions(self) -> int:
        """Number of hyperparameters that can take more than one value."""
        return len(self._varied)

    def point(self, coordinates: NDArray[np.float64]) -> Point:
        """Return the point at one coordinate in [0, 1) per varied hyperparameter."""
        point: Point = {}
        for hyperparameter in self._space:
            if all(condition.is_active(point) for condition in hyperparameter.conditions):
                column = self._columns.get(key_of(hyperparameter))
                place = 0.0 if column is None else float(coordinates[column])
                point[hyperparameter.name] = value_at(hyperparameter, place)
        return point

    def vectors(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """Return the points as vectors, shape (n, d)."""
        width = len(self._vector(points[0])) if points else 0
        return np.array([self._vector(point) for point in points]).reshape(len(points), width)

    def near(
        self, point: Point, count: int, scale: float, generator: np.random.Generator
    ) -> NDArray[np.float64]:
        """Return coordinates of random points around one, shape (count, dimensions)."""
        centre = np.array([self._coordinate(h, point) for h in self._varied])
        places = centre + generator.normal(scale=scale, size=(count, self.dimensions))
        # A step across an end comes back from it.
        places = np.abs(places)
        places = np.where(places > 1, 2 - places, places)
        kept = generator.random((count, self.dimensions)) >= _SWAPS
        fresh = generator.random((count, self.dimensions))
        categorical = np.array([isinstance(h, Choice | Boolean) for h in self._varied])
        swapped = np.where(kept, centre, fresh)
        return np.clip(np.where(categorical, swapped, places), 0.0, _BELOW_ONE)

    def _vector(self, point: Point) -> list[float]:
        vector: list[float] = []
        for hyperparameter in self._varied:
            if isinstance(hyperparameter, Choice | Boolean):
                levels = levels_of(hyperparameter, at_most=sys.maxsize) or []
                exists = _exists(hyperparameter, point)
                chosen = point.get(hyperparameter.name)
                vector += [float(chosen == v) if exists else _INACTIVE for v in levels]
            else:
                vector.append(self._coordinate(hyperparameter, point))
        return vector

    def _coordinate(self, hyperparameter: HyperParameter, point: Point) -> float:
        if not _exists(hyperparameter, point):
            return _INACTIVE
        return probability_of(hyperparameter, point[hyperparameter.name])


def _exists(hyperparameter: HyperParameter, point: Point) -> bool:
    return hyperparameter.name in point and all(
        condition.is_active(point) for condition in hyperparameter.conditions
    )
