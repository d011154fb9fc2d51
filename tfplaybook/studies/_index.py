"""The studies below a directory, one line each: what was asked, found, and how to run it again."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich.box
import rich.table
import rich.text

from tfplaybook.runs._run import INFO_FILE_NAME, read_info
from tfplaybook.search._study_file import FILE_NAME as STUDY_FILE
from tfplaybook.search._trial_files import execution_folders, trial_folders
from tfplaybook.studies._format import format_value
from tfplaybook.studies._origin import origin_of, reproduction
from tfplaybook.studies._project import is_project, read_project
from tfplaybook.studies._records import Objective, Study
from tfplaybook.studies._table import markdown_table

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMIT_LENGTH = 10
# Of the columns, those that a terminal has room for.
_RESULTS = 4
_HEADER = ("study", "trials", "best", "note", "reproduce", "code", "config")


@dataclasses.dataclass(frozen=True)
class IndexEntry:
    """One study in an index (J1).

    Args:
        path: The study's directory.
        objective: What its trials are compared by; None if it cannot be told.
        trials: Number of its trials.
        completed: How many of them have an objective.
        best: The best of these objectives; None without one.
        best_trial: The trial that has it.
        goal: The question that the study was to answer.
        note: Free text.
        config: The `study.json`, or else the `run.json` that `command` is from; None without.
        command: The command line that trained the best trial, or else any other; empty if no run
            has recorded it.
        working_directory: Where it was started.
        commit: The commit that its code was at; None if it was not under version control.
        has_changes: Whether there were changes since that commit, or new files; None if that is
            not known. The run's `run.json` has the changes.
        problem: Why the study cannot be read in full; else empty.
    """

    path: Path
    objective: Objective | None = None
    trials: int = 0
    completed: int = 0
    best: float | None = None
    best_trial: str | None = None
    goal: str = ""
    note: str = ""
    config: Path | None = None
    command: tuple[str, ...] = ()
    working_directory: str = ""
    commit: str | None = None
    has_changes: bool | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        """Name of the study: the last part of its path."""
        return self.path.name

    @property
    def reproduction(self) -> str:
        """The command for a shell, with the directory that it has to be started in."""
        return reproduction(self.command, self.working_directory)


@dataclasses.dataclass(frozen=True)
class StudyIndex:
    """The studies below a directory.

    Args:
        directory: The directory.
        entries: The studies, in the order of their paths.
    """

    directory: Path
    entries: tuple[IndexEntry, ...]

    def table(self) -> rich.table.Table:
        """Return what the studies found as a table for the terminal: print it with `rich.print`."""
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for name in _HEADER[:_RESULTS]:
            is_number = name in ("trials", "best")
            table.add_column(name, justify="right" if is_number else "left", overflow="fold")
        for entry in self.entries:
            style = "red" if entry.problem else ""
            table.add_row(*map(rich.text.Text, self._cells(entry)[:_RESULTS]), style=style)
        return table

    def reproductions(self) -> list[str]:
        """Return how to run each study again: its code and configuration, then its command."""
        lines = []
        for entry in self.entries:
            name, *_, command, code, config = self._cells(entry)
            where = ", ".join(filter(None, (code, config)))
            lines += [
                f"{name}: {where or 'nothing recorded'}",
                *([f"  {command}"] if command else []),
            ]
        return lines

    def to_markdown(self) -> str:
        """Return everything as a table in Markdown."""
        return markdown_table(_HEADER, map(self._cells, self.entries)) + "\n"

    def _cells(self, entry: IndexEntry) -> "Sequence[str]":
        best = ""
        if entry.best is not None and entry.objective is not None:
            best = f"{entry.objective.name} {format_value(entry.best)} ({entry.best_trial})"
        code = "" if entry.commit is None else entry.commit[:_COMMIT_LENGTH]
        code += " with changes" if entry.has_changes else ""
        return (
            self._relative(entry.path),
            f"{entry.completed}/{entry.trials}",
            best,
            " ".join(filter(None, (entry.goal, entry.note, entry.problem))),
            entry.reproduction,
            code.strip(),
            "" if entry.config is None else self._relative(entry.config),
        )

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self.directory)) if path != self.directory else path.name


def index(directory: str | Path) -> StudyIndex:
    """Return all studies below `directory`, what each found, and how to run it again (J1).

    Plain KerasTuner projects are in it too; tables of trials are not. Their curves are not read.
    A study that is damaged is in it, with its problem. Print it with
    `rich.print(studies.index("studies").table())`, or `tfplaybook index studies` in a shell.

    Args:
        directory: A directory; links to directories below it are not followed.

    Raises:
        ValueError: If there is no such directory.
    """
    root = Path(directory)
    if not root.is_dir():
        raise ValueError(
            f"`directory` must be a directory that holds studies. Received: {str(directory)!r}, "
            f"which {'is a file' if root.exists() else 'does not exist'}."
        )
    root = root.resolve()
    entries = []
    for name, folders, _ in os.walk(root):
        path = Path(name)
        if is_project(path):
            entries.append(_entry(path))
            folders.clear()
        else:
            folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
    return StudyIndex(root, tuple(sorted(entries, key=lambda entry: entry.path)))


def _entry(path: Path) -> IndexEntry:
    header = path / STUDY_FILE
    config = header if header.is_file() else None
    try:
        study = read_project(path, runs=False)
    except ValueError as error:
        count = len(trial_folders(path))
        return IndexEntry(path, trials=count, config=config, problem=str(error))
    ranked = study.ranked()
    entry = IndexEntry(
        path=path,
        objective=study.objective,
        trials=len(study.trials),
        completed=len(ranked),
        best=ranked[0].objective if ranked else None,
        best_trial=ranked[0].trial_id if ranked else None,
        goal=study.goal,
        note=study.note,
        config=config,
    )
    try:
        run, info = _first_run(study)
    except ValueError as error:
        return dataclasses.replace(entry, problem=str(error))
    origin = origin_of(info)
    return dataclasses.replace(
        entry,
        config=config or run,
        command=origin.command,
        working_directory=origin.working_directory,
        commit=origin.commit,
        has_changes=origin.has_changes,
    )


def _first_run(study: Study) -> tuple[Path | None, dict[str, Any]]:
    """Return `run.json` and its content: of the best trial that has one, or else of any other."""
    folders = trial_folders(study.path)
    ranked = [trial.trial_id for trial in study.ranked()]
    for trial_id in dict.fromkeys((*ranked, *folders)):
        for execution in execution_folders(folders[trial_id]):
            if info := read_info(execution):
                return execution / INFO_FILE_NAME, info
    return None, {}
