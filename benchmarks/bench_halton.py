"""How evenly, and how fast, `tfplaybook.search.halton` fills a space beside its peers.

Run `python benchmarks/bench_halton.py` (minutes) or `... --quick` (seconds).

The first table holds the centred L2 discrepancy over that of uniform random points, both averaged
over seeds: below 1 is more even than random. The second holds times over ours, from alternating
repeats of which the fastest counts.
"""

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import optuna
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import qmc

from tfplaybook.search import halton

DIMENSIONS = (2, 6, 12, 20)
COUNTS = (16, 64, 256)

Points = NDArray[np.float64]
Sampler = Callable[[int, int, int], Points]


def ours(seed: int, dimensions: int, count: int) -> Points:
    """Return points of shape (count, dimensions), float64, as all samplers here do."""
    return halton(np.arange(count), dimensions, seed=seed)


def scipy_halton(seed: int, dimensions: int, count: int) -> Points:
    """SciPy's scrambled Halton sequence."""
    return qmc.Halton(dimensions, scramble=True, rng=seed).random(count)


def optuna_halton(seed: int, dimensions: int, count: int) -> Points:
    """What trials of an Optuna study get; the first is random, as the space is not known yet."""
    sampler = optuna.samplers.QMCSampler(qmc_type="halton", scramble=True, seed=seed)
    study = optuna.create_study(sampler=sampler)
    points = np.empty((count, dimensions))
    for row in points:
        trial = study.ask()
        row[:] = [trial.suggest_float(str(number), 0.0, 1.0) for number in range(dimensions)]
        study.tell(trial, 0.0)
    return points


def uniform(seed: int, dimensions: int, count: int) -> Points:
    """Independent uniform points."""
    return np.random.default_rng(seed).random((count, dimensions))


SAMPLERS: dict[str, Sampler] = {
    "tfplaybook": ours,
    "scipy Halton": scipy_halton,
    "Optuna QMC": optuna_halton,
    "random": uniform,
}


def mean_discrepancies(sampler: Sampler, dimensions: int, seeds: int) -> Points:
    """Return the discrepancy of the first COUNTS points, shape (len(COUNTS),), over `seeds`."""
    values = np.empty((seeds, len(COUNTS)))
    for seed in range(seeds):
        points = sampler(seed, dimensions, max(COUNTS))
        # SciPy returns the square of the L2 norm.
        values[seed] = [qmc.discrepancy(points[:count], method="CD") ** 0.5 for count in COUNTS]
    return values.mean(axis=0)


def discrepancy_table(seeds: int, optuna_seeds: int) -> Table:
    """Compare how even the points are."""
    title = f"Centred L2 discrepancy over uniform random ({seeds} seeds, Optuna {optuna_seeds})"
    table = Table("d", "n", *SAMPLERS, "ours / scipy", title=title)
    for dimensions in DIMENSIONS:
        means = {
            name: mean_discrepancies(
                sampler, dimensions, optuna_seeds if sampler is optuna_halton else seeds
            )
            for name, sampler in SAMPLERS.items()
        }
        for place, count in enumerate(COUNTS):
            ratios = {name: means[name][place] / means["random"][place] for name in SAMPLERS}
            table.add_row(
                str(dimensions),
                str(count),
                *(f"{ratio:.3f}" for ratio in ratios.values()),
                f"{ratios['tfplaybook'] / ratios['scipy Halton']:.3f}",
            )
    return table


def fastest_times(tasks: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the fastest of `repeats` alternating runs of each task, seconds."""
    times: dict[str, float] = dict.fromkeys(tasks, np.inf)
    for _ in range(repeats):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            times[name] = min(times[name], time.perf_counter() - start)
    return times


def speed_table(repeats: int) -> Table:
    """Compare how long a study's points take; ours also before its permutations are cached."""
    title = f"Time over tfplaybook's (fastest of {repeats} alternating repeats)"
    table = Table("d", "n", "tfplaybook", "new seed", "scipy Halton", "Optuna QMC", title=title)
    seeds = iter(range(10**6, 10**9))
    for dimensions, count in ((6, 1), (6, 256), (20, 256)):
        times = fastest_times(
            {
                "warm": lambda d=dimensions, n=count: ours(0, d, n),
                "new seed": lambda d=dimensions, n=count: ours(next(seeds), d, n),
                "scipy": lambda d=dimensions, n=count: scipy_halton(next(seeds), d, n),
                "optuna": lambda d=dimensions, n=count: optuna_halton(next(seeds), d, n),
            },
            repeats,
        )
        table.add_row(
            str(dimensions),
            str(count),
            f"1 ({times['warm'] * 1e6:.0f} µs)",
            f"{times['new seed'] / times['warm']:.1f}",
            f"{times['scipy'] / times['warm']:.1f}",
            f"{times['optuna'] / times['warm']:.1f}",
        )
    return table


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer seeds and repeats")
    quick = parser.parse_args().quick
    optuna.logging.disable_default_handler()
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    console = Console()
    console.print(discrepancy_table(seeds=200 if quick else 2000, optuna_seeds=3 if quick else 30))
    console.print(speed_table(repeats=5 if quick else 30))


if __name__ == "__main__":
    main()
