"""What a report says, as plain JSON data: the page draws it and measures nothing."""

import datetime
from collections.abc import Collection, Sequence
from typing import Any, get_args

from tfplaybook._files import encode_number
from tfplaybook._metric_names import direction as known_direction
from tfplaybook._version import __version__
from tfplaybook.studies._axis_plot import spread
from tfplaybook.studies._isolation_plot import isolation_record
from tfplaybook.studies._origin import Origin, origin_of
from tfplaybook.studies._records import Direction, Hyperparameter, Objective, Study, Trial
from tfplaybook.studies._report._curves import page_curves, recorded_metrics
from tfplaybook.studies._units import UnitAxis, bounds_of, scale_of, unit_axis

# Of all changes together: they are whole in `run.json`.
_MOST_DIFF_CHARACTERS = 60_000
_MOST_MESSAGE_CHARACTERS = 2_000
_PLACE_DIGITS = 4


def report_content(
    study: Study,
    *,
    scientific: Sequence[str] = (),
    baseline: str | Sequence[float] | None = None,
) -> dict[str, Any]:
    """Return the content of the report; arguments as of `Study.diagnose`."""
    names = [h.name for h in study.space]
    axes = [unit_axis(study, h.name) for h in study.varied]
    steps, curves = page_curves(study)
    origins: dict[Origin, int] = {}
    trials = [
        {
            **_trial(trial, names),
            "places": [None] * len(axes),
            "curves": curves[index],
            "runs": _runs(trial, study, origins),
        }
        for index, trial in enumerate(study.trials)
    ]
    for column, axis in enumerate(axes):
        for trial, place in zip(trials, _places(axis, study), strict=True):
            trial["places"][column] = place
    return {
        "name": study.name,
        "path": str(study.path),
        "goal": study.goal,
        "note": study.note,
        "seed": study.seed,
        "caveat": study.roles.caveat if study.roles is not None else "",
        "summary": study.summary(),
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "version": __version__,
        "objective": {"name": study.objective.name, "direction": study.objective.direction},
        "metrics": _metrics(study),
        "outcomes": _outcomes(study),
        "diagnosis": _diagnosis(study, scientific, baseline),
        "hyperparameters": [_hyperparameter(h, study) for h in study.space],
        "axes": [_axis(axis, h, names) for axis, h in zip(axes, study.varied, strict=True)],
        "isolations": _isolations(study, scientific),
        "steps": steps,
        "trials": trials,
        "origins": _origins(origins),
    }


def _metrics(study: Study) -> dict[str, Direction | None]:
    """Return what trials can be compared by, and which values of it are better if that is known."""
    objective = study.objective
    others = {name: known_direction(name) for name in recorded_metrics(study)}
    named = dict(sorted(others.items(), key=lambda item: (item[1] is None, item[0])))
    return {objective.name: objective.direction, **(named | {objective.name: objective.direction})}


def _outcomes(study: Study) -> dict[str, dict[str, list[list[Any]]]]:
    """Return status, objective and epoch of every trial by metric and direction."""
    outcomes: dict[str, dict[str, list[list[Any]]]] = {}
    for name in recorded_metrics(study):
        outcomes[name] = {
            direction: _outcome_rows(study.with_objective(Objective(name, direction)))
            for direction in get_args(Direction)
        }
    rows = _outcome_rows(study)
    # Without curves there is one value for both directions.
    recorded = outcomes.get(study.objective.name, dict.fromkeys(get_args(Direction), rows))
    outcomes[study.objective.name] = {**recorded, study.objective.direction: rows}
    return outcomes


def _outcome_rows(study: Study) -> list[list[Any]]:
    return [
        [
            trial.status,
            None if trial.objective is None else encode_number(trial.objective),
            trial.best_step,
        ]
        for trial in study.trials
    ]


def _diagnosis(
    study: Study, scientific: Sequence[str], baseline: str | Sequence[float] | None
) -> dict[str, Any]:
    diagnosis = study.diagnose(scientific=scientific, baseline=baseline)
    return {
        "next": diagnosis.next_step,
        "findings": [
            {
                "name": finding.name,
                "verdict": finding.verdict,
                "source": finding.source,
                "evidence": finding.evidence,
                "remedy": finding.remedy,
                "trials": list(finding.trials),
            }
            for finding in diagnosis.findings
        ],
    }


def _hyperparameter(h: Hyperparameter, study: Study) -> dict[str, Any]:
    bounds = bounds_of(h)
    return {
        "name": h.name,
        "kind": h.kind,
        "scale": scale_of(h),
        "bounds": bounds,
        "step": h.step,
        "values": list(h.values),
        "conditions": [[name, list(values)] for name, values in h.conditions],
        "role": _role(h, study),
    }


def _role(h: Hyperparameter, study: Study) -> str:
    if study.roles is None:
        return ""
    names = {h.name, h.declared_name}
    if names & {*study.roles.scientific}:
        return "scientific"
    return "nuisance" if h.is_varied else "fixed"


def _axis(axis: UnitAxis, h: Hyperparameter, names: Sequence[str]) -> dict[str, Any]:
    ticks = axis.ticks()
    if h.kind == "int":
        ticks = [(place, label) for place, label in ticks if float(label).is_integer()]
    ends = [axis.place(end) for end in axis.bounds or ()]
    return {
        "hyperparameter": names.index(axis.name),
        "ticks": [[round(place, _PLACE_DIGITS), label] for place, label in ticks],
        "bounds": [round(end, _PLACE_DIGITS) for end in ends if end is not None],
        "categories": len(axis.categories),
    }


def _places(axis: UnitAxis, study: Study) -> list[float | None]:
    """Return where every trial is on the axis; those in one category are kept apart."""
    values = [trial.values.get(axis.name) for trial in study.trials]
    if not axis.categories:
        places = [axis.place(value) for value in values]
        return [None if place is None else round(place, _PLACE_DIGITS) for place in places]
    known = [i for i, value in enumerate(values) if value in axis.categories]
    spots: list[float | None] = [None] * len(values)
    indices = [axis.categories.index(values[i]) for i in known]
    for i, spot in zip(known, spread(indices), strict=True):
        spots[i] = round(spot / (len(axis.categories) - 1), _PLACE_DIGITS)
    return spots


def _isolations(study: Study, scientific: Sequence[str]) -> list[dict[str, Any]]:
    """Return the buckets of every scientific hyperparameter (E3)."""
    named = {*scientific, *(study.roles.scientific if study.roles is not None else ())}
    return [
        {
            "axis": column,
            "buckets": [
                [round(b.low, _PLACE_DIGITS), round(b.high, _PLACE_DIGITS), b.label]
                for b in isolation_record(study, h.name).buckets
            ],
        }
        for column, h in enumerate(study.varied)
        if named & {h.name, h.declared_name}
    ]


def _trial(trial: Trial, names: Sequence[str]) -> dict[str, Any]:
    others = {name: value for name, value in trial.values.items() if name not in names}
    return {
        "id": trial.trial_id,
        "values": [_value(trial.values.get(name)) for name in names],
        "others": {name: _value(value) for name, value in others.items()},
        "message": trial.message[-_MOST_MESSAGE_CHARACTERS:],
        "enqueued": trial.enqueued,
    }


def _value(value: Any) -> Any:
    return encode_number(value) if isinstance(value, float) else value


def _runs(trial: Trial, study: Study, origins: dict[Origin, int]) -> list[dict[str, Any]]:
    runs = []
    for run in trial.runs:
        if not run.info:
            continue
        path = run.path
        seed, started, note = (run.info.get(name) for name in ("seed", "started", "note"))
        runs.append(
            {
                "path": str(path.relative_to(study.path))
                if path.is_relative_to(study.path)
                else str(path),
                "seed": seed,
                "started": started,
                "note": note,
                "origin": origins.setdefault(origin_of(run.info), len(origins)),
            }
        )
    return runs


def _origins(origins: Collection[Origin]) -> list[dict[str, Any]]:
    room = _MOST_DIFF_CHARACTERS // max(len(origins), 1)
    return [
        {
            "reproduction": origin.reproduction,
            "commit": origin.commit,
            "hasChanges": origin.has_changes,
            "diff": origin.diff[:room],
            "isCut": len(origin.diff) > room,
            "untracked": list(origin.untracked),
            "versions": dict(origin.versions),
            "platform": origin.platform,
            "host": origin.host,
        }
        for origin in origins
    ]
