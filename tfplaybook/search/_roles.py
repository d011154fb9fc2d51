"""Roles of hyperparameters: what is measured, what is optimized for fairness, what stays (C1)."""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras_tuner as kt

from tfplaybook import _keras_tuner
from tfplaybook._arguments import check_count
from tfplaybook._files import check_entries
from tfplaybook._keras_tuner import Fixed, SearchSpace
from tfplaybook.search._identity import Key, key_of, key_of_entry, labels, reachable
from tfplaybook.search._sequence import LARGEST_ENUMERATED, Point, configurations, is_constant
from tfplaybook.search._values import Value, check_value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roles:
    """What each hyperparameter of a study is for.

    A *scientific* hyperparameter is one whose effect is to be measured, a *nuisance* one is
    optimized over so that the comparison is fair, and a *fixed* one is constant, at the price of a
    caveat on every conclusion (C1).

    Give it to `QuasiRandomSearch`, which checks it against the search space before trial 0. The
    hyperparameters in `fixed` then have those values, whatever ranges the hypermodel declares; the
    points of the others stay what they were. Scientific hyperparameters are sampled uniformly: if
    they can take finitely many values, every value meets the same points of the nuisance
    hyperparameters, so that comparisons are paired. Nuisance hyperparameters that exist only for
    some scientific values have points of their own (C4).

    Two conditional hyperparameters of one name may be named together, `"learning_rate"`, or each:
    `"learning_rate (optimizer=adam)"`.

    Examples:
        >>> import keras_tuner as kt, tfplaybook as pb
        >>> space = kt.HyperParameters()
        >>> _ = space.Choice("activation", ["relu", "gelu"])
        >>> _ = space.Float("learning_rate", 1e-4, 1e-1, sampling="log")
        >>> _ = space.Int("width", 16, 256)
        >>> roles = pb.search.Roles(scientific=["activation"], fixed={"width": 64})
        >>> print(roles.plan(space, max_trials=40))
        activation=relu: 20 trials over learning_rate
        activation=gelu: 20 trials over learning_rate
        Every conclusion holds for width=64 only (C1).

    Args:
        scientific: Names of the hyperparameters whose effect is to be measured.
        nuisance: Names of those to optimize over. Default: all that are neither scientific nor
            fixed (C2).
        fixed: Values of those that stay constant, by name.
        configuration: The scientific values to which this study is confined, by name, when every
            scientific configuration has a study of its own; `plan` fills it in.

    Raises:
        ValueError: A name has two roles.

    Source: playbook C1, C2, C5.
    """

    scientific: Sequence[str] = ()
    nuisance: Sequence[str] | None = None
    fixed: Mapping[str, Value] = dataclasses.field(default_factory=dict)
    configuration: Mapping[str, Value] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for role in ("scientific", "nuisance"):
            names = getattr(self, role)
            if isinstance(names, str):
                raise ValueError(f"`{role}` must be a list of names. Received: {names!r}.")
            if names is not None:
                object.__setattr__(self, role, tuple(names))
        for role in ("fixed", "configuration"):
            values = getattr(self, role)
            if not isinstance(values, Mapping):
                raise ValueError(
                    f"`{role}` must be a dict from names to values. Received: {values!r}."
                )
            object.__setattr__(self, role, dict(values))
        named = [*self.scientific, *(self.nuisance or ()), *self.fixed]
        if repeated := sorted({name for name in named if named.count(name) > 1}):
            raise ValueError(
                f"A hyperparameter must have one role. Received {repeated} more than once."
            )

    @property
    def caveat(self) -> str:
        """What fixed values put on every conclusion; empty if nothing is fixed."""
        settings = ", ".join(f"{name}={value}" for name, value in self.fixed.items())
        return f"Every conclusion holds for {settings} only (C1)." if settings else ""

    def plan(
        self,
        space: kt.HyperParameters | kt.HyperModel | Callable[[kt.HyperParameters], Any],
        *,
        max_trials: int,
        joint: bool = False,
    ) -> "Plan":
        """Return the studies to run, and how many trials each gets.

        One study per scientific configuration is the default: the best trial of each is compared
        with the best of the others. If there are too many configurations, let them share one study
        (C5).

        Args:
            space: The search space, or the hypermodel, which is then built once within each of its
                conditional scopes.
            max_trials: Trials of all studies together. What does not divide by the number of
                configurations is left out, for a fair comparison.
            joint: Whether one study samples the scientific hyperparameters too.

        Raises:
            ValueError: A role does not fit the space; there are fewer trials than configurations;
                or a study each is asked for and a scientific hyperparameter is continuous.
        """
        max_trials = check_count("max_trials", max_trials, minimum=1)
        if not isinstance(space, kt.HyperParameters):
            space = declared_space(space)
        roles = self.resolved(space)
        pinned = roles.pinned(space)
        scientific = roles.keys(pinned)
        chosen = [h for h in pinned.space if key_of(h) in scientific or is_constant(h)]
        cases = configurations(chosen, at_most=LARGEST_ENUMERATED)
        if cases is None:
            if not joint:
                raise ValueError(
                    "A study for each scientific configuration needs finitely many of them. "
                    f"Received {list(roles.scientific)}. Sample them in one study: `joint=True` "
                    "(C5)."
                )
            return Plan(studies=(_planned("joint", roles, space, max_trials, None),))
        if len(cases) > max_trials:
            raise ValueError(
                "`max_trials` must be at least the number of scientific configurations, "
                f"{len(cases)}. Received: {max_trials}."
            )
        each = max_trials // len(cases)
        if joint or not scientific:
            return Plan(studies=(_planned("joint", roles, space, each * len(cases), each),))
        known = _labels(pinned)
        studies = []
        for case in cases:
            configuration = {
                known[key_of(h)]: case[h.name]
                for h in chosen
                if key_of(h) in scientific and all(c.is_active(case) for c in h.conditions)
            }
            confined = dataclasses.replace(roles, configuration=configuration)
            studies.append(_planned(_folder_name(configuration), confined, space, each, each))
        return Plan(studies=tuple(studies))

    def resolved(self, space: kt.HyperParameters) -> "Roles":
        """Return these roles with every hyperparameter of `space` in one of them.

        Raises:
            ValueError: A name is not in the space, a hyperparameter has no role or two, or a value
                is not one that the hyperparameter can take.
        """
        known = _labels(space)
        role_of: dict[Key, str] = {}
        for role in ("scientific", "nuisance", "fixed"):
            for name in getattr(self, role) or ():
                for key in _matching(known, name, role):
                    if key in role_of:
                        raise ValueError(
                            f"A hyperparameter must have one role. Received: {known[key]!r} is "
                            f"{role_of[key]} and {role}."
                        )
                    role_of[key] = role
        rest = [
            known[key_of(h)]
            for h in space.space
            if key_of(h) not in role_of and not isinstance(h, Fixed)
        ]
        if self.nuisance is not None and rest:
            raise ValueError(
                f"Every hyperparameter must have a role. Received none for {rest}. Add them to "
                "`nuisance`, or leave `nuisance` out: it is then all that have no other role."
            )
        given = [known[key] for key, role in role_of.items() if role == "nuisance"]
        # As the types and levels of the hyperparameters: 0.3 and not 3 * 0.1.
        pinned = self.pinned(space).space
        exact = {known[key_of(h)]: h.value for h in pinned if isinstance(h, Fixed)}
        fixed = {name: exact.get(name, value) for name, value in self.fixed.items()}
        return dataclasses.replace(self, nuisance=(*given, *rest), fixed=fixed)

    def pinned(self, space: kt.HyperParameters) -> SearchSpace:
        """Return `space` with the fixed hyperparameters, and the configuration, as constants.

        Raises:
            ValueError: A value is not one that the hyperparameter can take.
        """
        known = _labels(space)
        values = {
            key: value
            for name, value in {**self.fixed, **self.configuration}.items()
            for key in _matching(known, name, "fixed")
        }
        pinned = SearchSpace()
        for hyperparameter in space.space:
            key = key_of(hyperparameter)
            if key in values:
                value = check_value(hyperparameter, values[key])
                hyperparameter = Fixed(
                    hyperparameter.name, value, conditions=hyperparameter.conditions
                )
            pinned.merge([hyperparameter])
        return pinned

    def keys(self, space: kt.HyperParameters) -> set[Key]:
        """Return which hyperparameters of `space` are scientific."""
        known = _labels(space)
        return {key for name in self.scientific for key in _matching(known, name, "scientific")}

    def to_json(self) -> dict[str, Any]:
        """Return the roles as plain JSON data."""
        return {
            "scientific": list(self.scientific),
            "nuisance": None if self.nuisance is None else list(self.nuisance),
            "fixed": dict(self.fixed),
            "configuration": dict(self.configuration),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Roles":
        """Return the roles that `to_json` has described.

        Raises:
            ValueError: It is something else.
        """
        kinds = {"scientific": list, "fixed": dict, "configuration": dict}
        check_entries(content, {**kinds, "nuisance": list | None}, where=" of `roles`")
        entries: dict[str, Any] = {name: content.get(name) for name in (*kinds, "nuisance")}
        return cls(**entries)


@dataclasses.dataclass(frozen=True)
class PlannedStudy:
    """A study that a plan asks for.

    Args:
        name: A name for its folder: its scientific configuration, or `"joint"`.
        roles: What to pass to `QuasiRandomSearch` as `roles`.
        nuisance: The nuisance hyperparameters that exist in it.
        max_trials: What to pass as `max_trials`.
        trials_per_configuration: How many trials each scientific configuration gets in it; None if
            a scientific hyperparameter is continuous.
    """

    name: str
    roles: Roles
    nuisance: tuple[str, ...]
    max_trials: int
    trials_per_configuration: int | None


@dataclasses.dataclass(frozen=True)
class Plan:
    """The studies that answer a question about scientific hyperparameters.

    Iterate over it to run them, all with one seed so that they meet the same nuisance points:

        for planned in roles.plan(build_model, max_trials=60):
            tuner = pb.search.QuasiRandomSearch(
                build_model, objective="val_loss", directory="studies", project_name=planned.name,
                roles=planned.roles, max_trials=planned.max_trials, seed=0)
            tuner.search(...)

    Args:
        studies: The studies.
    """

    studies: tuple[PlannedStudy, ...]

    def __iter__(self) -> Iterator[PlannedStudy]:
        return iter(self.studies)

    def __len__(self) -> int:
        return len(self.studies)

    def __str__(self) -> str:
        lines = []
        for study in self.studies:
            over = ", ".join(study.nuisance) or "nothing"
            line = f"{study.name}: {study.max_trials} trials over {over}"
            if study.name == "joint":
                each = study.trials_per_configuration
                share = "sampled uniformly" if each is None else f"{each} for each configuration"
                line += f"; {', '.join(study.roles.scientific) or 'nothing'}: {share}"
            lines.append(line)
        return "\n".join(filter(None, [*lines, self.studies[0].roles.caveat]))


def declared_space(
    hypermodel: kt.HyperModel | Callable[[kt.HyperParameters], Any],
) -> SearchSpace:
    """Return the search space that a hypermodel declares, in all of its conditional scopes."""
    known = SearchSpace()
    build = hypermodel.build if isinstance(hypermodel, kt.HyperModel) else hypermodel

    def add(hp: kt.HyperParameters) -> None:
        known.merge(hp, overwrite=False)

    _keras_tuner.explore(build, known.copy, add)
    return known


def _planned(
    name: str, roles: Roles, space: kt.HyperParameters, max_trials: int, each: int | None
) -> PlannedStudy:
    entries = {key_of_entry(e): e for e in roles.pinned(space).get_config()["space"]}
    known = labels(entries)
    existing = {known[key] for key in reachable(entries)}
    nuisance = tuple(label for label in roles.nuisance or () if label in existing)
    return PlannedStudy(name, roles, nuisance, max_trials, each)


def _labels(space: kt.HyperParameters) -> dict[Key, str]:
    return labels(key_of(hyperparameter) for hyperparameter in space.space)


def _matching(known: Mapping[Key, str], name: str, role: str) -> list[Key]:
    matching = [key for key, label in known.items() if name in (label, key[0])]
    if not matching:
        close = difflib.get_close_matches(name, known.values(), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"`{role}` must name hyperparameters of the search space: {list(known.values())}. "
            f"Received: {name!r}.{hint}"
        )
    return matching


def _folder_name(configuration: Point) -> str:
    settings = ",".join(f"{name}={value}" for name, value in configuration.items())
    return re.sub(r"[^\w.,=+-]", "_", settings)
