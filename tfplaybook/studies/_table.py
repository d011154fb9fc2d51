"""A study as a table: in the terminal, in Markdown or CSV, or as a data frame."""

import csv
import importlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
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
    columns = _shown_columns(study)
    table = _TableWithNotes(box=rich.box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.above, table.below = _above(study), _below(study)
    # In a narrow terminal the values of hyperparameters are folded.
    table.add_column("trial", no_wrap=True)
    table.add_column(rich.text.Text(_in_lines(study.objective.name)), justify="right", no_wrap=True)
    table.add_column("best\nepoch", justify="right", no_wrap=True)
    for name in columns:
        table.add_column(rich.text.Text(_in_lines(name)), justify="right", overflow="fold")
    table.add_column("status", no_wrap=True)

    styles = {"completed": "", "running": "cyan", "failed": "red", "infeasible": "red"}
    for row, trial in enumerate(_in_order(study)):
        style = "bold green" if row == 0 and trial in study.best() else styles[trial.status]
        table.add_row(*map(rich.text.Text, _cells(trial, columns)), style=style)
    return table


def study_markdown(study: Study) -> str:
    """Return the content of `study_table` as Markdown."""
    columns = _shown_columns(study)
    header = ["trial", study.objective.name, "best epoch", *columns, "status"]
    rows = [_cells(trial, columns) for trial in _in_order(study)]
    above = [line for text in _above(study) for line in text.splitlines()]
    parts = ["\n\n".join(map(_escaped, above)), markdown_table(header, rows)]
    parts += ["\n".join(f"- {_escaped(line)}" for line in _below(study))]
    return "\n\n".join(filter(None, parts)) + "\n"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Return a table in Markdown, whose cells are plain text.

    >>> print(markdown_table(["a", "b"], [["1", "x|y"]]))
    | a | b |
    | --- | --- |
    | 1 | x\|y |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines)


def study_csv(study: Study) -> str:
    """Return the trials as CSV, in the columns of `study_frame`."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([_columns(study), *_rows(study)])
    return file.getvalue()


def study_frame(study: Study) -> Any:
    """Return a `pandas.DataFrame` with one row per trial, in the order of their ids."""
    try:
        pandas = importlib.import_module("pandas")
    except ImportError as error:
        raise ImportError(
            "`Study.to_pandas` needs pandas, which is not installed: pip install pandas."
        ) from error
    return pandas.DataFrame(_rows(study), columns=_columns(study))


def _columns(study: Study) -> list[str]:
    names = _hyperparameter_names(study)
    return ["trial_id", "status", "objective", "best_step", *names, "message"]


def _rows(study: Study) -> list[list[Any]]:
    names = _hyperparameter_names(study)
    return [
        [trial.trial_id, trial.status, trial.objective, trial.best_step]
        + [trial.values.get(name) for name in names]
        + [trial.message]
        for trial in study.trials
    ]


def _above(study: Study) -> list[str]:
    goal = "lower" if study.objective.direction == "min" else "higher"
    title = f"{study.name}: {study.summary()}\n{study.objective.name} ({goal} is better)"
    return [title, *filter(None, [study.goal, study.note])]


def _below(study: Study) -> list[str]:
    return _fixed_values(_constant_values(study)) + _reasons(study)


def _in_order(study: Study) -> tuple[Trial, ...]:
    return (*study.ranked(), *study.running, *study.failed, *study.infeasible)


def _shown_columns(study: Study) -> dict[str, list[str]]:
    """Return the columns of the table by their headings, each with the hyperparameters in it.

    Those that share a declared name share a column: no trial has two of them, and which one it
    is stands in the column of their parent (C4).
    """
    constant = _constant_values(study)
    declared = {h.name: h.declared_name or h.name for h in study.space}
    columns: dict[str, list[str]] = {}
    for name in _hyperparameter_names(study):
        if name not in constant:
            columns.setdefault(declared.get(name, name), []).append(name)
    return columns


def _escaped(text: str) -> str:
    """Keep a text what it is within a cell of Markdown."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", " ".join(text.split()))


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


def _cells(trial: Trial, columns: Mapping[str, Sequence[str]]) -> list[str]:
    values = [
        [format_value(trial.values[name]) for name in names if name in trial.values]
        for names in columns.values()
    ]
    return [
        trial.trial_id,
        _NOTHING if trial.objective is None else format_value(trial.objective),
        _NOTHING if trial.best_step is None else str(trial.best_step + 1),
        *(", ".join(cell) or _NOTHING for cell in values),
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
