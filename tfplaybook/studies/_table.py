"""A study as a table: in the terminal, or as a data frame."""

import importlib
import re
from typing import Any

import rich.box
import rich.console
import rich.table
import rich.text

from tfplaybook.search._trial_files import reason
from tfplaybook.studies._format import format_value
from tfplaybook.studies._records import Study, Trial

_HEADER_WIDTH = 9
_MAX_REASONS = 5
_NOTHING = "–"  # noqa: RUF001


class _TableWithNotes(rich.table.Table):
    """A table between lines that may be wider than its columns, unlike a title and a caption."""

    above: list[str]
    below: list[str]

    def __rich_console__(
        self, console: rich.console.Console, options: rich.console.ConsoleOptions
    ) -> rich.console.RenderResult:
        yield from (rich.text.Text(line, style="italic") for line in self.above)
        yield from super().__rich_console__(console, options)
        yield from map(rich.text.Text, self.below)


def study_table(study: Study) -> rich.table.Table:
    """Return a table of all trials: completed ones best first, infeasible ones last.

    Epochs count from 1, as Keras prints them. Below the table are the hyperparameters that no
    trial varies, and why trials have failed, are infeasible or are damaged, each reason once.
    """
    constant = _constant_values(study)
    names = [name for name in _hyperparameter_names(study) if name not in constant]
    goal = "lower" if study.objective.direction == "min" else "higher"
    title = f"{study.name}: {study.summary()}\n{study.objective.name} ({goal} is better)"
    table = _TableWithNotes(box=rich.box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.above = [title, *filter(None, [study.goal, study.note])]
    table.below = _fixed_values(constant) + _reasons(study)
    # In a narrow terminal the values of hyperparameters are folded.
    table.add_column("trial", no_wrap=True)
    table.add_column(rich.text.Text(_in_lines(study.objective.name)), justify="right", no_wrap=True)
    table.add_column("best\nepoch", justify="right", no_wrap=True)
    for name in names:
        table.add_column(rich.text.Text(_in_lines(name)), justify="right", overflow="fold")
    table.add_column("status", no_wrap=True)

    ranked = study.ranked()
    styles = ["bold green" if rank == 0 else "" for rank in range(len(ranked))]
    rest = (*study.running, *study.failed, *study.infeasible)
    styles += ["cyan" if trial.status == "running" else "red" for trial in rest]
    for trial, style in zip((*ranked, *rest), styles, strict=True):
        table.add_row(*map(rich.text.Text, _cells(trial, names)), style=style)
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


def _fixed_values(constant: dict[str, Any]) -> list[str]:
    settings = ", ".join(f"{name}={format_value(v)}" for name, v in constant.items())
    return [f"fixed: {settings}"] if settings else []


def _reasons(study: Study) -> list[str]:
    """Return a line for each of the first reasons, with the trials that have it."""
    ids_of: dict[str, list[str]] = {}
    for trial in study.trials:
        if trial.message:
            ids_of.setdefault(f"{trial.status}: {reason(trial.message)}", []).append(trial.trial_id)
    lines = [f"{_some(ids)} {why}" for why, ids in ids_of.items()]
    more = len(lines) - _MAX_REASONS
    return lines[:_MAX_REASONS] + ([f"and {more} more: see `Trial.message`"] if more > 0 else [])


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")


def _cells(trial: Trial, names: list[str]) -> list[str]:
    return [
        trial.trial_id,
        _NOTHING if trial.objective is None else format_value(trial.objective),
        _NOTHING if trial.best_step is None else str(trial.best_step + 1),
        *(format_value(trial.values[name]) if name in trial.values else _NOTHING for name in names),
        trial.status,
    ]


def _in_lines(name: str) -> str:
    r"""Break a long name after its separators, so that its column is not wider than its values.

    >>> _in_lines("optimizer=adam/learning_rate").split("\n")
    ['optimizer=', 'adam/', 'learning_', 'rate']
    >>> _in_lines("learning_rate (optimizer=adam)").split("\n")
    ['learning_', 'rate', '(optimizer=', 'adam)']
    """
    parts = re.findall(r"[^_/= ]*[_/= ]+|[^_/= ]+", name)
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) > _HEADER_WIDTH:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)
