"""`refine`: a smaller search space around the good region of a study."""

import contextlib
import dataclasses
import math
from collections.abc import Mapping

import keras_tuner as kt

from tfplaybook._arguments import check_count, check_number
from tfplaybook.studies._diagnoses._positions import position, value_at
from tfplaybook.studies._records import Hyperparameter, Study, Trial, Value

_STEP_TOLERANCE = 1e-8


@dataclasses.dataclass(frozen=True)
class Refinement:
    """The box around the good region of a study, and the trials inside it.

    `plot_axis(study, name, refinement=refinement)` shows it.

    Args:
        space: The hyperparameters with their ranges in the box, for the next search.
        trials: The completed and infeasible trials inside, in the order of the study.
        good: The trials that the box is around, best first.
    """

    space: tuple[Hyperparameter, ...]
    trials: tuple[Trial, ...]
    good: tuple[Trial, ...]

    @property
    def prior(self) -> list[tuple[Mapping[str, Value], float | None]]:
        """Values and objective of each trial inside, None for infeasible ones.

        What `tfplaybook.search.BayesianOracle` takes as its `prior`.
        """
        return [
            (_declared(trial), trial.objective if trial.status == "completed" else None)
            for trial in self.trials
        ]

    def box(self, name: str) -> tuple[Value, ...]:
        """Return the ends of the range of a hyperparameter in the box, or its values there.

        Raises:
            ValueError: If the space has no such hyperparameter.
        """
        for h in self.space:
            if h.name == name:
                return _ends(h) or h.values
        names = [h.name for h in self.space]
        raise ValueError(f"`name` must be one of {names}. Received: {name!r}.")

    def hyperparameters(self) -> kt.HyperParameters:
        """Return the box as a search space of KerasTuner."""
        space = kt.HyperParameters()
        for h in self.space:
            with contextlib.ExitStack() as scopes:
                for parent, values in h.conditions:
                    scopes.enter_context(space.conditional_scope(parent, list(values)))
                _declare(space, h)
        return space


def refine(
    study: Study, *, good_fraction: float = 0.25, min_good: int = 5, margin_fraction: float = 0.1
) -> Refinement:
    """Return a box around the best completed trials of a study, and all trials inside it (G3).

    In every dimension the box spans the values of the good trials, widened on both sides by a
    share of the searched range on its scale, within that range: the box never leaves what was
    searched, which is for `search_space_boundary` (D1). Of categories it has those that a good
    trial has. A hyperparameter that no good trial has keeps its range, or is left out if none of
    its parents' values are in the box.

    Args:
        study: The study.
        good_fraction: Which share of the completed trials is good, above 0, up to 1.
        min_good: How many are good at least, if so many are completed; at least 1.
        margin_fraction: By which share of the searched range to widen the box on either side, from
            0 to 1.

    Raises:
        ValueError: If no trial is completed, or an option is out of range.

    Source: playbook G3, E1.
    """
    check_number("good_fraction", good_fraction, above=0.0, maximum=1.0)
    check_number("margin_fraction", margin_fraction, minimum=0.0, maximum=1.0)
    ranked = study.ranked()
    if not ranked:
        raise ValueError(
            "`study` must have a completed trial, around which the box is. Received: "
            f"{study.summary()}."
        )
    count = max(check_count("min_good", min_good, minimum=1), round(good_fraction * len(ranked)))
    good = ranked[:count]
    space = _reachable(tuple(_narrowed(h, good, margin_fraction) for h in study.space))
    ended = (trial for trial in study.trials if trial.status in ("completed", "infeasible"))
    return Refinement(space, tuple(trial for trial in ended if _is_inside(trial, space)), good)


def _narrowed(
    hyperparameter: Hyperparameter, good: tuple[Trial, ...], margin: float
) -> Hyperparameter:
    name = hyperparameter.name
    values = [trial.values[name] for trial in good if name in trial.values]
    if not values or not hyperparameter.is_varied:
        return hyperparameter
    if hyperparameter.min_value is None:
        kept = tuple(value for value in hyperparameter.values if value in values)
        return dataclasses.replace(hyperparameter, values=kept)
    places = [p for p in (position(hyperparameter, v) for v in values) if not math.isnan(p)]
    if not places:
        return hyperparameter
    low = value_at(hyperparameter, max(min(places) - margin, 0.0))
    high = value_at(hyperparameter, min(max(places) + margin, 1.0))
    low, high = _on_grid(hyperparameter, low, high)
    return dataclasses.replace(hyperparameter, min_value=low, max_value=high)


def _on_grid(hyperparameter: Hyperparameter, low: float, high: float) -> tuple[float, float]:
    """Return ends at values that the hyperparameter can take, the box between them included."""
    first, last = hyperparameter.min_value or 0.0, hyperparameter.max_value or 0.0
    step = hyperparameter.step
    if step is None and hyperparameter.kind == "int":
        step = 1
    elif step is not None and hyperparameter.sampling != "linear":
        return first, last
    if step is not None:
        below = math.floor((low - first) / step + _STEP_TOLERANCE)
        above = math.ceil((high - first) / step - _STEP_TOLERANCE)
        low, high = first + below * step, first + above * step
    low, high = max(low, first), min(high, last)
    return (int(low), int(high)) if hyperparameter.kind == "int" else (low, high)


def _reachable(space: tuple[Hyperparameter, ...]) -> tuple[Hyperparameter, ...]:
    """Return those hyperparameters that exist for a value of their parents."""
    kept: list[Hyperparameter] = []
    for h in space:
        parents = {_declared_name(parent): parent.values for parent in kept if parent.values}
        if all(set(parents.get(name, among)) & set(among) for name, among in h.conditions):
            kept.append(h)
    return tuple(kept)


def _declared_name(hyperparameter: Hyperparameter) -> str:
    return hyperparameter.declared_name or hyperparameter.name


def _is_inside(trial: Trial, space: tuple[Hyperparameter, ...]) -> bool:
    return all(
        _has_place(trial.values[h.name], h)
        if h.name in trial.values
        else not h.is_active(_declared(trial))
        for h in space
    )


def _declared(trial: Trial) -> Mapping[str, Value]:
    return trial.declared_values or trial.values


def _has_place(value: Value, hyperparameter: Hyperparameter) -> bool:
    low, high = hyperparameter.min_value, hyperparameter.max_value
    if low is None or high is None:
        return value in hyperparameter.values
    return not isinstance(value, str) and low <= value <= high


def _ends(hyperparameter: Hyperparameter) -> tuple[float, float] | None:
    low, high = hyperparameter.min_value, hyperparameter.max_value
    return None if low is None or high is None else (low, high)


def _declare(space: kt.HyperParameters, hyperparameter: Hyperparameter) -> None:
    name = _declared_name(hyperparameter)
    ends = _ends(hyperparameter)
    if ends is not None and ends[0] < ends[1]:
        declare = space.Int if hyperparameter.kind == "int" else space.Float
        sampling = hyperparameter.sampling or "linear"
        declare(name, *ends, step=hyperparameter.step, sampling=sampling)
    elif ends is not None:
        space.Fixed(name, ends[0])
    elif len(hyperparameter.values) == 1:
        space.Fixed(name, hyperparameter.values[0])
    elif hyperparameter.kind == "boolean":
        space.Boolean(name)
    else:
        space.Choice(name, list(hyperparameter.values))
