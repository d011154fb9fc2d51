"""What a quasi-random search costs, how evenly its points lie, and what they find.

Run `python benchmarks/bench_search.py` (half an hour) or `... --quick` (minutes), and `--only` to
have some of the tables.

1. Processor time of the bookkeeping for one trial (create, update, end) as the study grows, beside
   KerasTuner's own random search. The processor is counted, and not the waiting for the disk.
   Theirs ends at 5,000 trials, since the time of all trials together grows as their square.
2. Centred L2 discrepancy over that of uniform random points, both averaged over seeds: below 1 is
   more even than random. Vizier's designer asks for another set of dependencies: make it an
   environment of its own with `google-vizier[jax]` and `jax<0.5`, and give the path of its
   interpreter as `--vizier`.
3. Regret after n trials on three surfaces, over that of random search: below 1 is better. Two are
   the usual test functions; the third is like the validation error of a network over its learning
   rate, weight decay, momentum, warmup and dropout, and diverges where the learning rate is too
   high for the others.
4. Time to compute points, from alternating repeats of which the fastest counts.
"""

import argparse
import functools
import itertools
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import keras_tuner as kt
import numpy as np
import optuna
from _surfaces import SURFACES, Points
from rich.console import Console
from rich.table import Table
from scipy.stats import qmc

from tfplaybook.search import QuasiRandomOracle, halton

COUNTS = (16, 64, 256)
SEEDS = 200
OPTUNA_SEEDS = 20
# At each size the last so many trials are measured.
MEASURED = 100
LARGEST_OF_KERAS_TUNER = 5000

Sampler = Callable[[int, int, int], Points]


def ours(seed: int, dimensions: int, count: int) -> Points:
    """Return points of shape (count, dimensions), float64, as all samplers here do."""
    return halton(np.arange(count), dimensions, seed=seed)


def scipy_halton(seed: int, dimensions: int, count: int) -> Points:
    """SciPy's scrambled Halton sequence."""
    return qmc.Halton(dimensions, scramble=True, rng=seed).random(count)


def scipy_sobol(seed: int, dimensions: int, count: int) -> Points:
    """SciPy's scrambled Sobol sequence."""
    return qmc.Sobol(dimensions, scramble=True, rng=seed).random(count)


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


@functools.lru_cache(maxsize=1)
def vizier_points(python: str, dimensions: int) -> Points:
    """Points of Vizier's designer, from the interpreter `python`; (SEEDS, max(COUNTS), d)."""
    script = Path(__file__).with_name("_vizier_points.py")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "points.npy")
        sizes = map(str, (dimensions, SEEDS, max(COUNTS)))
        # Elsewhere, since Python looks for modules beside the script first.
        subprocess.run([python, "-P", script, *sizes, path], check=True, cwd=directory)
        return np.load(path)


SAMPLERS: dict[str, Sampler] = {
    "tfplaybook": ours,
    "scipy Halton": scipy_halton,
    "scipy Sobol": scipy_sobol,
    "Optuna QMC": optuna_halton,
    "random": uniform,
}


def bookkeeping_times(make_oracle: Callable[..., kt.Oracle], sizes: list[int]) -> list[float]:
    """Return the processor seconds per trial at each of `sizes` trials, the median of the last."""
    space = kt.HyperParameters()
    for number in range(6):
        space.Float(f"x{number}", 1e-4, 1.0, sampling="log")
    oracle = make_oracle("val_loss", max_trials=max(sizes), hyperparameters=space, seed=1)
    oracle.verbose = 0
    times = []
    with tempfile.TemporaryDirectory() as directory:
        # What every `keras_tuner.Tuner` does with its oracle.
        oracle._set_project_dir(directory, "study")
        for _ in range(max(sizes)):
            start = time.process_time()
            trial = oracle.create_trial("tuner0")
            oracle.update_trial(trial.trial_id, {"val_loss": 1.0})
            trial.status = "COMPLETED"
            oracle.end_trial(trial)
            times.append(time.process_time() - start)
    return [float(np.median(times[size - MEASURED : size])) for size in sizes]


def bookkeeping_table(sizes: list[int]) -> Table:
    """Compare what a trial costs beside its training."""
    table = Table("trial", "tfplaybook", "kt.RandomSearch", "theirs / ours", title="CPU per trial")
    mine = bookkeeping_times(QuasiRandomOracle, sizes)
    common = [size for size in sizes if size <= LARGEST_OF_KERAS_TUNER]
    theirs = bookkeeping_times(kt.oracles.RandomSearchOracle, common)
    for size, our, their in itertools.zip_longest(sizes, mine, theirs):
        row = [str(size), f"{1e3 * our:.2f} ms"]
        if their is not None:
            row += [f"{1e3 * their:.2f} ms", f"{their / our:.1f}"]
        table.add_row(*row)
    return table


def mean_discrepancies(sampler: Sampler, dimensions: int, seeds: int) -> Points:
    """Return the discrepancy of the first COUNTS points, shape (len(COUNTS),), over `seeds`."""
    values = np.empty((seeds, len(COUNTS)))
    for seed in range(seeds):
        points = sampler(seed, dimensions, max(COUNTS))
        # SciPy returns the square of the L2 norm.
        values[seed] = [qmc.discrepancy(points[:count], method="CD") ** 0.5 for count in COUNTS]
    return values.mean(axis=0)


def discrepancy_table(
    dimensions: list[int], seeds: int, optuna_seeds: int, vizier: str | None
) -> Table:
    """Compare how even the points are."""
    samplers = dict(SAMPLERS)
    if vizier is not None:
        samplers["Vizier"] = lambda seed, d, count: vizier_points(vizier, d)[seed, :count]
    title = f"Centred L2 discrepancy over uniform random ({seeds} seeds, Optuna {optuna_seeds})"
    table = Table("d", "n", *samplers, "ours / scipy", title=title)
    over_scipy, over_random = 0.0, 0.0
    for dimension in dimensions:
        means = {
            name: mean_discrepancies(
                sampler, dimension, optuna_seeds if sampler is optuna_halton else seeds
            )
            for name, sampler in samplers.items()
        }
        for place, count in enumerate(COUNTS):
            ratios = {name: means[name][place] / means["random"][place] for name in samplers}
            ratio = ratios["tfplaybook"] / ratios["scipy Halton"]
            over_scipy = max(over_scipy, ratio)
            over_random = max(over_random, ratios["tfplaybook"])
            table.add_row(
                str(dimension),
                str(count),
                *(f"{value:.3f}" for value in ratios.values()),
                f"{ratio:.3f}",
            )
    table.caption = f"largest ours / scipy: {over_scipy:.3f}, ours / random: {over_random:.3f}"
    return table


def regret_table(repeats: int) -> Table:
    """Compare what is found: the mean of the best value of n trials, over random search."""
    names = [name for name in SAMPLERS if name not in ("Optuna QMC", "random")]
    title = f"Regret over that of random search ({repeats} repeats); random's as it is"
    table = Table("surface", "n", *names, "random, twice n", "random", title=title)
    for surface, (function, dimensions) in SURFACES.items():
        best = {
            name: np.array(
                [
                    np.fmin.accumulate(function(sampler(seed, dimensions, 2 * max(COUNTS))))
                    for seed in range(repeats)
                ]
            )
            for name, sampler in SAMPLERS.items()
            if sampler is not optuna_halton
        }
        for count in COUNTS:
            # A study whose trials are all infeasible has no best one; NaN here, and left out.
            means = {name: np.nanmean(values[:, count - 1]) for name, values in best.items()}
            twice = np.nanmean(best["random"][:, 2 * count - 1])
            ratios = [means[name] / means["random"] for name in names]
            table.add_row(
                surface,
                str(count),
                *(f"{ratio:.2f}" for ratio in (*ratios, twice / means["random"])),
                f"{means['random']:.3g}",
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
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer trials, seeds and repeats")
    parser.add_argument("--vizier", metavar="PYTHON", help="interpreter that can import Vizier")
    tables: dict[str, Callable[[bool, str | None], Table]] = {
        "cost": lambda quick, _: bookkeeping_table(
            [100, 1000] if quick else [100, 1000, 5000, 10_000]
        ),
        "discrepancy": lambda quick, vizier: discrepancy_table(
            [2, 6, 12, 20] if quick else list(range(2, 21)),
            SEEDS // 2 if quick else SEEDS,
            2 if quick else OPTUNA_SEEDS,
            vizier,
        ),
        "regret": lambda quick, _: regret_table(50 if quick else 1000),
        "speed": lambda quick, _: speed_table(5 if quick else 30),
    }
    parser.add_argument("--only", nargs="+", choices=tables, default=tables)
    arguments = parser.parse_args()
    optuna.logging.disable_default_handler()
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    console = Console()
    for name in arguments.only:
        console.print(tables[name](arguments.quick, arguments.vizier))


if __name__ == "__main__":
    main()
