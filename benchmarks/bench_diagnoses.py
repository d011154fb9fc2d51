"""How often the diagnoses of `tfplaybook.studies` are right: precision and recall.

Run `python benchmarks/bench_diagnoses.py` (minutes) or `... --quick` (less than a minute). With
`--tune` the studies are those on which the default thresholds were chosen; without it they are
others, drawn from seeds that were never looked at while choosing.

For each diagnosis studies are simulated in which its condition is planted, and as many in which a
near miss is; see `planted_studies.py`. Precision is the part of the verdicts "act" that are right,
recall the part of the planted studies that got one. A verdict for another reason, such as the
wrong end of a range, is counted as wrong.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from planted_studies import World, random_world, simulate, true_levels
from rich.console import Console
from rich.table import Table

from tfplaybook import studies
from tfplaybook.studies import Study

SIZES = (10, 30, 100)
DISTRACTOR_SHARE = 0.3

# Whether a study is diagnosed with the planted condition.
Says = Callable[[Study], bool]
# Changes a healthy world: plants the condition, or a near miss, and returns what should be said.
Plant = Callable[[World, bool, np.random.Generator], Says]


def acts(diagnosis: Callable[..., studies.Finding], **options: object) -> Says:
    """Return whether the verdict of a diagnosis is to act."""
    return lambda study: diagnosis(study, **options).verdict == "act"


def boundary(world: World, planted: bool, rng: np.random.Generator) -> Says:
    """Minimum 5-40% of a range outside it; near miss: 20-30% inside."""
    axis = int(rng.choice(np.flatnonzero(world.weights)))
    outside = rng.uniform(0.05, 0.4) if planted else -rng.uniform(0.2, 0.3)
    upper = rng.random() < 0.5
    world.optimum[axis] = 1 + outside if upper else -outside
    end = (("learning_rate", "weight_decay", "dropout", "momentum", "units")[axis], upper)

    def says(study: Study) -> bool:
        found = studies.search_space_boundary(study).expansions
        if not planted:
            return bool(found)
        return end in [(e.name, e.end == "upper") for e in found]

    return says


def infeasible(world: World, planted: bool, rng: np.random.Generator) -> Says:
    """55-80% of the trials infeasible, beyond an edge or anywhere; near miss: 10-30%."""
    fraction = rng.uniform(0.55, 0.8) if planted else rng.uniform(0.1, 0.3)
    if rng.random() < 0.5:
        world.edge = 1 - fraction
    else:
        world.random_failures = fraction
    return acts(studies.infeasible_fraction)


def edge(world: World, planted: bool, rng: np.random.Generator) -> Says:
    """An edge whose feasible side is best at the edge; near miss: best 30-50% of it away."""
    world.edge = rng.uniform(0.5, 0.8)
    away = -rng.uniform(-0.03, 0.4) if planted else rng.uniform(0.3, 0.5)
    world.optimum[0] = world.edge * (1 - away)
    return acts(studies.stability_edge)


def points(world: World, planted: bool, rng: np.random.Generator) -> Says:
    """1 or 2 trials in the good region, without noise; near miss: 4 or more.

    No test can see a good region that no trial has hit, so that in both one has.
    """
    while True:
        world.dimensions = int(rng.integers(2, 4))
        world.optimum = rng.uniform(0.3, 0.7, world.dimensions)
        world.weights = np.ones(world.dimensions)
        world.seed = int(rng.integers(2**31))
        world.needle = math.exp(rng.uniform(math.log(0.1), math.log(1.5)))
        level = true_levels(world)
        good = int((level <= level.min() + 0.2 * (np.median(level) - level.min())).sum())
        is_hit = level.min() < 0.3 + 0.3 * world.height
        if is_hit and (good <= 2 if planted else good >= 4):
            return acts(studies.enough_points)


def overfit_best(world: World, planted: bool, rng: np.random.Generator) -> Says:
    """The best trial and others rise by 8-30% of the drop; near miss: by up to 1%."""
    world.overfit, world.overfit_best = rng.uniform(0.3, 1.0), True
    world.overfit_rise = rng.uniform(0.08, 0.3) if planted else rng.uniform(0.0, 0.01)
    return acts(studies.overfitting)


def overfit_any(world: World, planted: bool, rng: np.random.Generator) -> Says:
    """10-40% of the trials, not the best, rise by 8-30% of the drop; near miss: by up to 1%."""
    world.overfit = rng.uniform(0.1, 0.4)
    world.overfit_rise = rng.uniform(0.08, 0.3) if planted else rng.uniform(0.0, 0.01)
    return acts(studies.overfitting_anywhere)


def train_rise(world: World, planted: bool, rng: np.random.Generator) -> Says:
    """Training rises by 8-40% in 50-100% of the trials; near miss: 1% in all, or in 1 of 20."""
    world.train_rise, world.train_rise_share = rng.uniform(0.08, 0.4), rng.uniform(0.5, 1.0)
    if not planted:
        if rng.random() < 0.5:
            world.train_rise = rng.uniform(0.0, 0.01)
        else:
            world.train_rise_share = 0.05
    return acts(studies.training_loss_rising)


def variance(world: World, planted: bool, rng: np.random.Generator) -> Says:
    """Points jump by 8-20% of the drop; near miss: by 1-3%."""
    world.point_noise = rng.uniform(0.08, 0.2) if planted else rng.uniform(0.01, 0.03)
    return acts(studies.late_variance)


def noise(world: World, planted: bool, rng: np.random.Generator) -> Says:
    """5 or more others within 2 errors of the truly best, 2-4 executions; near miss: 1 at most."""
    world.executions = int(rng.integers(2, 5))
    gaps = np.sort(true_levels(world) - true_levels(world).min())
    limit = (
        rng.uniform(1.2 * gaps[5], 1.2 * gaps[8]) if planted else gaps[2] * rng.uniform(0.2, 0.8)
    )
    world.trial_noise = limit / (2 * math.sqrt(2 / world.executions))
    world.point_noise = 0.1 * world.trial_noise
    return acts(studies.objective_noise)


def improving(world: World, planted: bool, rng: np.random.Generator) -> Says:
    """The last quarter gives 5-10% of the drop; near miss: up to 1%."""
    world.gain = rng.uniform(0.25, 0.6) if planted else rng.uniform(0.0, 0.03)
    return acts(studies.still_improving)


def saturated(world: World, planted: bool, rng: np.random.Generator) -> Says:
    """Within 1% of the level after 10-35% of the steps; near miss: after 75-90%."""
    world.settled = rng.uniform(0.1, 0.35) if planted else rng.uniform(0.75, 0.9)
    return acts(studies.saturated_early)


def more_steps(world: World, planted: bool, rng: np.random.Generator) -> Says:
    """Curves that descend until the end; near miss: level after 30-50% of the steps."""
    world.gain = rng.uniform(0.25, 0.6) if planted else 0.0
    world.settled = rng.uniform(0.3, 0.5) if not planted else world.settled
    return lambda study: "longer" in studies.max_train_steps(study).remedy


def fewer_steps(world: World, planted: bool, rng: np.random.Generator) -> Says:
    """Curves that turn within 4-7% of the steps; near miss: within 20-30%."""
    world.overfit, world.overfit_best = 1.0, True
    world.overfit_rise = rng.uniform(0.2, 0.5)
    world.settled = 0.05 if planted else 0.2
    world.turn = (0.04, 0.07) if planted else (0.2, 0.3)
    world.points = int(rng.integers(40, 101))
    return lambda study: "fewer" in studies.max_train_steps(study).remedy


def period(world: World, planted: bool, rng: np.random.Generator) -> Says:
    """A wave of 0.7-2 times the noise, period 3-8 points of 50-100; near miss: 0.1 times."""
    world.points = int(rng.integers(50, 101))
    world.period = rng.uniform(3, 8)
    world.amplitude = world.point_noise * (rng.uniform(0.7, 2) if planted else 0.1)
    return acts(studies.periodicity)


def winner(world: World, planted: bool, rng: np.random.Generator) -> Says:
    """One of two values is better by 40-100% of the height of the bowl; negative: by nothing."""
    world.choice = world.height * rng.uniform(0.4, 1.0) if planted else 0.0
    return lambda study: studies.scientific_comparison(study, ["optimizer"]).winner is not None


def unfair(world: World, planted: bool, rng: np.random.Generator) -> Says:
    """One of two values has 5-15% of the trials; near miss: 40-60%."""
    world.choice = 0.0
    world.choice_share = rng.uniform(0.05, 0.15) if planted else rng.uniform(0.4, 0.6)

    def says(study: Study) -> bool:
        problems = studies.scientific_comparison(study, ["optimizer"]).problems
        return any("completed trials" in problem for problem in problems)

    return says


def adopting(world: World, planted: bool, rng: np.random.Generator) -> Says:
    """The candidate is better by 3-5 deviations, 5 trainings each; negative: by nothing."""
    gain = rng.uniform(3, 5) if planted else 0.0
    old = 0.3 + world.trial_noise * rng.standard_normal(5)
    new = 0.3 + world.trial_noise * (rng.standard_normal(5) - gain)
    return acts(studies.adoption, baseline=list(old), candidate=list(new))


PLANTS: dict[str, tuple[Plant, str]] = {
    "search_space_boundary": (boundary, "D1"),
    "enough_points": (points, "D2"),
    "infeasible_fraction": (infeasible, "D3"),
    "stability_edge": (edge, "D4"),
    "overfitting": (overfit_best, "D6"),
    "overfitting_anywhere": (overfit_any, "N5"),
    "late_variance": (variance, "D7"),
    "still_improving": (improving, "D8"),
    "saturated_early": (saturated, "D9"),
    "training_loss_rising": (train_rise, "D10"),
    "objective_noise": (noise, "F1"),
    "max_train_steps, longer": (more_steps, "H2"),
    "max_train_steps, fewer": (fewer_steps, "H2"),
    "periodicity": (period, "I7"),
    "scientific_comparison, winner": (winner, "E3"),
    "scientific_comparison, unfair": (unfair, "E4"),
    "adoption": (adopting, "F3"),
}
# What changes the curves says something about every diagnosis of curves, and so on.
_CURVES = {overfit_best, overfit_any, improving, saturated, more_steps, fewer_steps, train_rise}
_LEVELS = {boundary, infeasible, edge, points, noise, variance, winner, unfair}


def distract(world: World, plant: Plant, rng: np.random.Generator) -> None:
    """Plant something else besides, of a kind that does not contradict the plant."""
    others = [period]
    if plant not in _CURVES and plant is not period:
        others += [improving, train_rise]
    if plant not in _LEVELS:
        others += [boundary, infeasible, winner]
    other = others[rng.integers(len(others))]
    if other is not plant:
        other(world, True, rng)


def counts(name: str, trials: int, number: int, first_seed: int) -> tuple[int, int, int]:
    """Return how many of `number` planted studies were found, and false alarms of as many."""
    plant, _ = PLANTS[name]
    found = [0, 0]
    for planted in (True, False):
        for index in range(number):
            key = [first_seed + index, trials, list(PLANTS).index(name), int(planted)]
            rng = np.random.default_rng(key)
            world = random_world(trials, rng)
            if rng.random() < DISTRACTOR_SHARE:
                distract(world, plant, rng)
            says = plant(world, planted, rng)
            found[planted] += says(simulate(world))
    return found[1], found[0], number


def importance_counts(trials: int, number: int, first_seed: int) -> tuple[int, int, int, int]:
    """Return hits, hyperparameters that matter, false alarms, and those that do not."""
    totals = np.zeros(4, int)
    for index in range(number):
        rng = np.random.default_rng([first_seed + index, trials])
        world = random_world(trials, rng)
        study = simulate(world)
        matters = {h.name: weight > 0 for h, weight in zip(study.space, world.weights, strict=True)}
        finding = studies.importance(study, seed=index)
        said = {i.name for i in finding.importances if i.total >= finding.thresholds["min_total"]}
        for name, matter in matters.items():
            totals += [matter and name in said, matter, not matter and name in said, not matter]
    return tuple(totals.tolist())


def ratio(part: int, whole: int) -> str:
    """Write a fraction, a dash for one of nothing."""
    return f"{part / whole:.2f}" if whole else "-"


def measure(number: int, first_seed: int, sizes: list[int], only: str) -> list[list[str]]:
    """Return a row for each diagnosis: its name, line, and precision and recall at each size."""
    rows = []
    for name, (_, source) in PLANTS.items():
        if only not in name:
            continue
        row = [name, source]
        for size in sizes:
            hits, alarms, planted = counts(name, size, number, first_seed)
            row += [ratio(hits, hits + alarms), ratio(hits, planted)]
        rows.append(row)
    if only in "importance":
        row = ["importance, of each hyperparameter", "E1"]
        for size in sizes:
            hits, matter, alarms, _ = importance_counts(size, number, first_seed)
            row += [ratio(hits, hits + alarms), ratio(hits, matter)]
        rows.append(row)
    return rows


def write_page(path: Path, rows: list[list[str]], headers: list[str], number: int) -> None:
    """Write the rows as a page of the documentation."""
    lines = [
        "# How often the diagnoses are right",
        "",
        "`python benchmarks/bench_diagnoses.py --write docs/how-to/diagnoses-accuracy.md` wrote "
        "this page.",
        f"Each diagnosis was asked about {number} simulated studies in which its condition was "
        f"planted and {number}",
        "with a near miss: the same thing, clearly smaller, under the same noise. Precision is the "
        "part of its",
        'verdicts "act" that were right, recall the part of the planted studies that got one. The '
        "default",
        "thresholds were chosen on other studies than these. What was planted, and how large,",
        "is in `benchmarks/bench_diagnoses.py`; real studies may be harder.",
        "",
        f"| {' | '.join(headers)} |",
        "|---" * 2 + "|--:" * (len(headers) - 2) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"For `importance` the numbers are over the hyperparameters of {number} studies of each "
        "size.",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20 studies of each kind, not 200")
    parser.add_argument("--tune", action="store_true", help="the studies for choosing thresholds")
    parser.add_argument("--only", default="", help="part of the name of a diagnosis")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="trials in a study")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="also write a Markdown page")
    options = parser.parse_args()
    number = 20 if options.quick else 200
    first_seed = 0 if options.tune else 3 * 10**6
    rows = measure(number, first_seed, options.sizes, options.only)
    headers = ["diagnosis", "line"]
    for size in options.sizes:
        headers += [f"precision at {size} trials", f"recall at {size}"]
    table = Table(title=f"{number} planted studies and {number} near misses")
    for column, header in enumerate(headers):
        table.add_column(header, justify="left" if column < 2 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=max(100, 30 + 24 * len(options.sizes))).print(table)
    if options.write:
        write_page(options.write, rows, headers, number)


if __name__ == "__main__":
    main()
