"""Write the points of Vizier's quasi-random designer; runs in an environment that has Vizier.

`python _vizier_points.py DIMENSIONS SEEDS COUNT FILE` writes an array of shape (seeds, count,
dimensions) as `.npy`.
"""

import sys

import numpy as np
from vizier import pyvizier as vz

# The public path imports all designers, and with them the dependencies of each.
from vizier._src.algorithms.designers.quasi_random import QuasiRandomDesigner


def main() -> None:
    """Write the file."""
    dimensions, seeds, count = map(int, sys.argv[1:4])
    problem = vz.ProblemStatement()
    names = [str(number) for number in range(dimensions)]
    for name in names:
        problem.search_space.root.add_float_param(name, 0.0, 1.0)
    points = np.empty((seeds, count, dimensions))
    for seed in range(seeds):
        designer = QuasiRandomDesigner(problem.search_space, seed=seed)
        for row, suggestion in zip(points[seed], designer.suggest(count), strict=True):
            row[:] = [suggestion.parameters.get_value(name) for name in names]
    np.save(sys.argv[4], points)


if __name__ == "__main__":
    main()
