"""A study as a table: in the terminal, or as a data frame."""

import importlib
import re
from typing import Any

import rich.box
import rich.table
import rich.text

from tfplaybook.studies._format import format_value
from tfplaybook.studies._records import Study, Trial

_HEADER_WIDTH = 9
_NOTHING = "–"  # noqa: RUF001


def study_table(study: Study) -> rich.table.Table:
    """Return a table of all trials: completed ones best first, infeasible ones last.

    A hyperparameter that no trial varies is named once, below the table.
    """
    constant = _constant_values(study)
    names = [name for name in _hyperparameter_names(study) if name not in constant]
    goal = "lower" if study.objective.direction == "min" else "higher"
    title = f"{study.name}: {study.summary()}\n{study.objective.name} ({goal} is better)"
    table = rich.table.Table(
        title=rich.text.Text("\n".join(filter(None, [title, study.goal, study.note]))),
        title_justify="left",
        caption=rich.text.Text(_caption(constant)) if constant else None,
        caption_justify="left",
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    # In a narrow terminal reasons are cut first, then the values of hyperparameters are folded.
    table.add_column("trial", no_wrap=True)
    table.add_column(rich.text.Text(_in_lines(study.objective.name)), justify="right", no_wrap=True)
    table.add_column("best\nepoch", justify="right", no_wrap=True)
    for name in names:
        table.add_column(rich.text.Text(_in_lines(name)), justify="right", overflow="fold")
    table.add_column("status", no_wrap=True)
    has_reasons = any(trial.message for trial in study.trials)
    if has_reasons:
        table.add_column("reason")

    ranked = study.ranked()
    styles = ["bold green" if rank == 0 else "" for rank in range(len(ranked))]
    rest = (*study.running, *study.failed, *study.infeasible)
    styles += ["cyan" if trial.status == "running" else "red" for trial in rest]
    for trial, style in zip((*ranked, *rest), styles, strict=True):
        cells = [rich.text.Text(cell) for cell in _cells(trial, names)]
        if has_reasons:
            cells.append(rich.text.Text(_reason(trial), no_wrap=True, overflow="ellipsis"))
        table.add_row(*cells, style=style)
    return table


def study_frame(study: Study) -> Any:
    """Return a `pandas.DataFrame` with one row per trial, in the order of their ids."""
    try:
        pandas = importlib.import_module("pandas")
    except ImportError as error:
        raise ImportError(
            "`Study.to_pandas` needs pandas, which is not installed: pip install pandas."
        ) from error
    names = _hyperparameter_names(study)
    columns = ["trial_id", "status", "objective", "best_step", *names, "message"]
    rows = [
        [trial.trial_id, trial.status, trial.objective, trial.best_step]
        + [trial.values.get(name) for name in names]
        + [trial.message]
        for trial in study.trials
    ]
    return pandas.DataFrame(rows, columns=columns)


def _hyperparameter_names(study: Study) -> list[str]:
    """Return the declared names in order, then those that only trials know."""
    names = [h.name for h in study.space]
    names += [name for trial in study.trials for name in trial.values]
    return list(dict.fromkeys(names))


def _constant_values(study: Study) -> dict[str, Any]:
    """Return the hyperparameters of which the space allows a single value."""
    varied = {h.name for h in study.varied}
    return {h.name: (*h.values, h.min_value)[0] for h in study.space if h.name not in varied}


def _caption(constant: dict[str, Any]) -> str:
    return "fixed: " + ", ".join(f"{name}={format_value(v)}" for name, v in constant.items())


def _cells(trial: Trial, names: list[str]) -> list[str]:
    return [
        trial.trial_id,
        _NOTHING if trial.objective is None else format_value(trial.objective),
        _NOTHING if trial.best_step is None else str(trial.best_step),
        *(format_value(trial.values[name]) if name in trial.values else _NOTHING for name in names),
        trial.status,
    ]


def _reason(trial: Trial) -> str:
    """Return the last line of the message, which may be a traceback."""
    return trial.message.strip().rpartition("\n")[2].removeprefix(f"{trial.status}:").strip()


def _in_lines(name: str) -> str:
    r"""Break a long name after its separators, so that its column is not wider than its values.

    >>> _in_lines("optimizer=adam/learning_rate").split("\n")
    ['optimizer=', 'adam/', 'learning_', 'rate']
    """
    parts = re.findall(r"[^_/=]*[_/=]+|[^_/=]+", name)
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) > _HEADER_WIDTH:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)
