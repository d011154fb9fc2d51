"""What Bayesian optimization finds when it starts from quasi-random trials.

Run `python benchmarks/bench_handover.py` (hours) or `... --quick` (minutes).

Regret after 50 trials, mean over the repeats and over that of quasi-random search. Hand-over is 30
quasi-random trials, `study.refine()`, and 20 of `BayesianOracle` in its box. The last surface
diverges in a third of its space; KerasTuner's Bayesian optimization passes over such trials, and
its longest row of them says whether it stalled.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence

import keras_tuner as kt
import numpy as np
from _surfaces import SURFACES, Points
from rich.console import Console
from rich.table import Table

import tfplaybook as pb

TRIALS = 50
EXPLORED = 30

Function = Callable[[Points], Points]
Outcome = tuple[dict[str, float], float]


def unit_cube(dimensions: int) -> kt.HyperParameters:
    """Return the space of a surface."""
    space = kt.HyperParameters()
    for number in range(dimensions):
        space.Float(f"x{number}", 0.0, 1.0)
    return space


def run(oracle: kt.Oracle, function: Function, count: int) -> list[Outcome]:
    """Run trials of an oracle, and return their values and outcomes."""
    oracle.verbose = 0
    outcomes = []
    with tempfile.TemporaryDirectory() as directory:
        oracle._set_project_dir(directory, "study")
        for _ in range(count):
            trial = oracle.create_trial("tuner0")
            values = trial.hyperparameters.values
            cost = float(function(np.array([list(values.values())]))[0])
            trial.status = "COMPLETED" if np.isfinite(cost) else "FAILED"
            if np.isfinite(cost) or not isinstance(oracle, kt.oracles.BayesianOptimizationOracle):
                oracle.update_trial(trial.trial_id, {"cost": cost})
                trial.status = "COMPLETED"
            oracle.end_trial(trial)
            outcomes.append((dict(values), cost))
    return outcomes


def options(space: kt.HyperParameters, count: int, seed: int) -> dict:
    """Return what all oracles are made with."""
    return {
        "objective": kt.Objective("cost", "min"),
        "max_trials": count,
        "seed": seed,
        "max_consecutive_failed_trials": None,
    }


def quasi_random(function: Function, space: kt.HyperParameters, seed: int) -> list[Outcome]:
    """Explore to the end."""
    oracle = pb.search.QuasiRandomOracle(hyperparameters=space, **options(space, TRIALS, seed))
    return run(oracle, function, TRIALS)


def random(function: Function, space: kt.HyperParameters, seed: int) -> list[Outcome]:
    """Independent points."""
    generator = np.random.default_rng(seed)
    points = generator.random((TRIALS, len(space.space)))
    return [({}, float(cost)) for cost in function(points)]


def handover(function: Function, space: kt.HyperParameters, seed: int) -> list[Outcome]:
    """Explore, refine, and go on with Bayesian optimization."""
    oracle = pb.search.QuasiRandomOracle(hyperparameters=space, **options(space, EXPLORED, seed))
    explored = run(oracle, function, EXPLORED)
    refined = study_of(explored).refine()
    rest = TRIALS - EXPLORED
    follower = pb.search.BayesianOracle(
        refined.hyperparameters(), prior=refined.prior, **options(space, rest, seed)
    )
    return explored + run(follower, function, rest)


def study_of(outcomes: Sequence[Outcome]) -> pb.studies.Study:
    """Return the outcomes as a study."""
    rows = [
        {"trial_id": f"{i:04d}", **values, "cost": cost, "status": status_of(cost)}
        for i, (values, cost) in enumerate(outcomes)
    ]
    names = list(outcomes[0][0])
    ranges = [pb.studies.Hyperparameter(n, "float", "linear", 0.0, 1.0) for n in names]
    objective = pb.studies.Objective("cost", "min")
    return pb.studies.from_records(rows, objective=objective, space=ranges, hyperparameters=names)


def status_of(cost: float) -> str:
    """Return what became of a trial."""
    return "completed" if np.isfinite(cost) else "infeasible"


def bayesian(function: Function, space: kt.HyperParameters, seed: int) -> list[Outcome]:
    """Our Bayesian optimization from the first trial on."""
    oracle = pb.search.BayesianOracle(space, **options(space, TRIALS, seed))
    return run(oracle, function, TRIALS)


def keras_tuner(function: Function, space: kt.HyperParameters, seed: int) -> list[Outcome]:
    """KerasTuner's Bayesian optimization."""
    oracle = kt.oracles.BayesianOptimizationOracle(
        hyperparameters=space, **options(space, TRIALS, seed + 1)
    )
    return run(oracle, function, TRIALS)


METHODS = {
    "quasi-random": quasi_random,
    "random": random,
    "hand-over": handover,
    "BayesianOracle": bayesian,
    "kt.BayesianOptimization": keras_tuner,
}


def longest_row(outcomes: list[Outcome]) -> int:
    """Return how many infeasible trials came one after the other."""
    longest = row = 0
    for _, cost in outcomes:
        row = 0 if np.isfinite(cost) else row + 1
        longest = max(longest, row)
    return longest


def regret_table(repeats: dict[str, int]) -> Table:
    """Compare the mean regret after all trials."""
    table = Table(
        "surface",
        "method",
        "repeats",
        "regret",
        "over quasi-random",
        "longest infeasible row",
        "CPU per trial",
        title=f"Regret after {TRIALS} trials, mean and its standard error",
    )
    for surface, (function, dimensions) in SURFACES.items():
        means = {}
        for name, method in METHODS.items():
            start = time.process_time()
            runs = [method(function, unit_cube(dimensions), seed) for seed in range(repeats[name])]
            seconds = (time.process_time() - start) / (len(runs) * TRIALS)
            regrets = np.array([np.nanmin([cost for _, cost in one]) for one in runs])
            means[name] = regrets.mean()
            error = regrets.std(ddof=1) / np.sqrt(len(regrets))
            table.add_row(
                surface,
                name,
                str(len(runs)),
                f"{regrets.mean():.3g} ± {error:.2g}",
                f"{means[name] / means['quasi-random']:.2f}",
                str(max(map(longest_row, runs))),
                f"{1e3 * seconds:.0f} ms",
            )
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    quick = parser.parse_args().quick
    # Of KerasTuner's process.
    warnings.simplefilter("ignore")
    repeats = dict.fromkeys(METHODS, 5 if quick else 50)
    repeats |= dict.fromkeys(("quasi-random", "random"), 50)
    repeats["kt.BayesianOptimization"] = 2 if quick else 10
    Console().print(regret_table(repeats))


if __name__ == "__main__":
    main()
