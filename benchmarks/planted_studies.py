"""Simulated studies in which a condition is planted, or nearly so, for `bench_diagnoses.py`.

A study is quasi-random points in a space of 2 to 5 dimensions, of which some are inert; a bowl or
cone, skewed and tilted, whose minimum is inside the space; and training curves of 20 to 100 points
with noise. A plant changes one thing about it. Its negative is the same study with a near miss in
its place: the same thing, clearly smaller, under the same noise. Another condition is planted
besides, at random, where it does not contradict the one in question.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np

from tfplaybook.runs import Curve, Run
from tfplaybook.search import halton
from tfplaybook.studies import Hyperparameter, Objective, Study, Trial

SPACE = (
    Hyperparameter("learning_rate", "float", "log", 1e-4, 1.0),
    Hyperparameter("weight_decay", "float", "log", 1e-6, 1e-2),
    Hyperparameter("dropout", "float", "linear", 0.05, 0.6),
    Hyperparameter("momentum", "float", "reverse_log", 0.5, 0.99),
    Hyperparameter("units", "int", "linear", 16, 512),
)
OPTIMIZER = Hyperparameter("optimizer", "choice", values=("sgd", "adam"))


@dataclasses.dataclass
class World:
    """Everything that decides a simulated study; fractions are of the drop of a curve, 1.

    Args:
        trials: Number of trials.
        seed: Seed of everything random.
        dimensions: Number of varied hyperparameters.
        optimum: Place of the minimum in each dimension, in units of the range.
        weights: Curvature of the bowl in each dimension; 0 for an inert one.
        skew: How much steeper the bowl is above the minimum of the first dimension than below.
        coupling: How far the minimum of the second dimension moves with the first.
        exponent: 1 for a quadratic bowl, 0.5 for a cone.
        height: Objective at the worst corner less that at the best, roughly.
        trial_noise: Standard deviation of the level of a training run.
        point_noise: Standard deviation of a point of a validation curve.
        correlation: Correlation of the noise of neighbouring points.
        points: Points of a curve.
        steps_per_point: Steps between them, those of an epoch.
        settled: Fraction of training after which a curve is within 1% of its level.
        gain: Linear descent over the whole training that is added after settling.
        overfit: Share of trials that overfit.
        overfit_best: Whether the better third overfits, or the best does not.
        overfit_rise: Rise at the end of an overfitting curve.
        turn: Between which fractions of training it turns.
        train_rise: Rise at the end of a training curve, in `train_rise_share` of the trials.
        train_rise_share: See above.
        edge: Position on the first axis beyond which training diverges; above 1 for none.
        random_failures: Fraction of trials that are infeasible wherever they are.
        period: Period in points of what is added to the metrics; 0 for none.
        amplitude: Its amplitude.
        executions: Runs of each trial.
        needle: Width of a flat good region in a plateau, in place of the bowl; 0 for the bowl.
        choice: What `optimizer="sgd"` adds to the level; None for no such hyperparameter.
        choice_share: Share of the trials that have it.
    """

    trials: int
    seed: int
    dimensions: int = 3
    optimum: np.ndarray = dataclasses.field(default_factory=lambda: np.full(3, 0.5))
    weights: np.ndarray = dataclasses.field(default_factory=lambda: np.ones(3))
    skew: float = 1.0
    coupling: float = 0.0
    exponent: float = 1.0
    height: float = 0.3
    trial_noise: float = 0.005
    point_noise: float = 0.01
    correlation: float = 0.0
    points: int = 50
    steps_per_point: int = 100
    settled: float = 0.75
    gain: float = 0.0
    overfit: float = 0.0
    overfit_best: bool = False
    overfit_rise: float = 0.1
    turn: tuple[float, float] = (0.4, 0.6)
    train_rise: float = 0.0
    train_rise_share: float = 1.0
    edge: float = 2.0
    random_failures: float = 0.0
    period: float = 0.0
    amplitude: float = 0.0
    executions: int = 1
    needle: float = 0.0
    choice: float | None = None
    choice_share: float = 0.5


def random_world(trials: int, rng: np.random.Generator) -> World:
    """Return a healthy world: nothing to act on but what chance makes."""
    dimensions = int(rng.integers(2, 6))
    weights = rng.uniform(0.5, 1.5, dimensions)
    # The first dimension always matters, as a learning rate does; half of the others do.
    weights[1:] *= rng.random(dimensions - 1) < 0.5
    return World(
        trials,
        seed=int(rng.integers(2**31)),
        dimensions=dimensions,
        optimum=rng.uniform(0.3, 0.7, dimensions),
        weights=weights,
        skew=rng.uniform(1.0, 3.0),
        coupling=float(rng.choice([0.0, rng.uniform(-0.6, 0.6)])),
        exponent=rng.uniform(0.5, 1.2),
        height=rng.uniform(0.2, 0.6),
        trial_noise=rng.uniform(0.002, 0.01),
        point_noise=rng.uniform(0.002, 0.015),
        correlation=float(rng.choice([0.0, 0.0, 0.4])),
        points=int(rng.integers(20, 101)),
        steps_per_point=int(rng.choice([50, 100, 390])),
        settled=rng.uniform(0.68, 0.8),
    )


def simulate(world: World) -> Study:
    """Return the study of a world."""
    rng = np.random.default_rng(world.seed)
    at = halton(np.arange(world.trials), world.dimensions, seed=world.seed % 2**20)
    level = _surface(world, at)
    space = SPACE[: world.dimensions]
    is_sgd = rng.random(world.trials) < world.choice_share
    if world.choice is not None:
        space = (*space, OPTIMIZER)
        level = level + world.choice * is_sgd
    bad = (at[:, 0] > world.edge) | (rng.random(world.trials) < world.random_failures)
    overfits = rng.random(world.trials) < world.overfit
    rising = rng.random(world.trials) < world.train_rise_share
    if world.overfit or world.overfit_best:
        # A rise costs a trial some places, so that more than the first has to overfit.
        better = np.where(bad, np.inf, level).argsort()[: world.trials // 3 + 1]
        overfits[better if world.overfit_best else better[0]] = world.overfit_best
    if world.train_rise_share < 0.2:
        rising[np.argmin(np.where(bad, np.inf, level))] = False
    trials = []
    for index in range(world.trials):
        values = {h.name: _value(h, u) for h, u in zip(SPACE, at[index], strict=False)}
        if world.choice is not None:
            values["optimizer"] = "sgd" if is_sgd[index] else "adam"
        if bad[index]:
            trials.append(Trial(f"{index:04d}", values, "infeasible", math.nan))
            continue
        runs = tuple(
            _run(world, rng, level[index], bool(overfits[index]), bool(rising[index]))
            for _ in range(world.executions)
        )
        best = float(np.mean([run.curves["val_loss"].values.min() for run in runs]))
        trials.append(Trial(f"{index:04d}", values, "completed", best, runs=runs))
    return Study(Path("planted"), Objective("val_loss", "min"), tuple(trials), space)


def true_levels(world: World) -> np.ndarray:
    """Return the objective of each trial without noise, float64 (trials,)."""
    at = halton(np.arange(world.trials), world.dimensions, seed=world.seed % 2**20)
    return _surface(world, at)


def _surface(world: World, at: np.ndarray) -> np.ndarray:
    away = at - world.optimum
    # A learning rate that is too large costs more than one that is too small.
    away[:, 0] *= np.where(away[:, 0] > 0, world.skew, 1.0)
    # The best value of the second hyperparameter moves with the first, as with momentum.
    away[:, 1] += world.coupling * away[:, 0] * (world.weights[1] > 0)
    if world.needle:
        distance = np.sqrt(((at - world.optimum) ** 2).sum(axis=1))
        return 0.3 + world.height * (1 - np.exp(-((2 * distance / world.needle) ** 4)))
    depth = (world.weights * away**2).sum(axis=1) / (0.25 * world.weights.sum())
    return 0.3 + world.height * depth**world.exponent


def _run(world: World, rng: np.random.Generator, level: float, overfits: bool, rises: bool) -> Run:
    at = np.arange(1, world.points + 1) / world.points
    # An exponential that comes within 1% at `settled`.
    shape = np.exp(-math.log(100) * at / world.settled)
    level = level + world.trial_noise * rng.standard_normal()
    training = 0.8 * level + shape - world.gain * at + 0.3 * world.point_noise * _noise(world, rng)
    turn = rng.uniform(*world.turn)
    after = np.maximum(at - turn, 0) / (1 - turn)
    validation = level + shape - world.gain * at + world.point_noise * _noise(world, rng)
    if overfits:
        validation = validation + world.overfit_rise * after
        training = training - 0.05 * after
    if rises:
        training = training + world.train_rise * after
    if world.period:
        phase = rng.uniform(0, 2 * np.pi)
        wave = world.amplitude * np.sin(2 * np.pi * np.arange(world.points) / world.period + phase)
        validation, training = validation + wave, training + 0.3 * wave
    steps = np.arange(1, world.points + 1) * world.steps_per_point
    info = {"fit": {"epochs": world.points, "steps": world.steps_per_point}}
    curves = {"loss": Curve(steps, training), "val_loss": Curve(steps, validation)}
    return Run(Path("planted"), info, curves)


def _noise(world: World, rng: np.random.Generator) -> np.ndarray:
    """Return noise of variance 1 whose neighbours are correlated."""
    white = rng.standard_normal(world.points)
    if not world.correlation:
        return white
    noise = np.empty_like(white)
    noise[0] = white[0]
    for i in range(1, len(white)):
        fresh = math.sqrt(1 - world.correlation**2) * white[i]
        noise[i] = world.correlation * noise[i - 1] + fresh
    return noise


def _value(h: Hyperparameter, at: float) -> float | int:
    low, high = h.min_value, h.max_value
    if h.sampling == "log":
        return float(low * (high / low) ** at)
    if h.sampling == "reverse_log":
        return float(low + high - low * (high / low) ** (1 - at))
    value = low + at * (high - low)
    return round(value) if h.kind == "int" else float(value)
