"""`load`: a study from wherever its trials are."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from tfplaybook.search._study_file import FILE_NAME as STUDY_FILE
from tfplaybook.search._trial_files import FILE_NAME as TRIAL_FILE
from tfplaybook.studies._project import is_project, read_project
from tfplaybook.studies._records import Hyperparameter, Objective, Study
from tfplaybook.studies._row_files import SUFFIXES, read_rows
from tfplaybook.studies._rows import check_objective, from_records

# Parts of a study that are JSON but no table of trials.
_PARTS = (STUDY_FILE, TRIAL_FILE, "oracle.json", "run.json", "curves.jsonl")


def load(
    path: str | Path,
    *,
    objective: Objective | None = None,
    space: Iterable[Hyperparameter] | None = None,
    hyperparameters: Sequence[str] | None = None,
) -> Study:
    """Read the study at `path`: a directory of KerasTuner, or a table of trials of any origin.

    A **directory** is a KerasTuner project, with a `study.json` if `tfplaybook.search` wrote it.
    It may be read while the search goes on: a trial whose record is missing, half written or
    damaged counts as running, since its end is not known; its message says what is wrong. A run
    whose `run.json` is damaged is left out of its trial, and the trial's message says so.

    A **file** is a table of trials whose columns `from_records` describes:

    | suffix | content |
    |---|---|
    | `.csv`, `.tsv` | names of the columns in the first line, then a line a trial. A column is of integers, numbers or booleans (`true`, `false`) if all of its cells are; an empty cell is None; `curves` and `hyperparameters` are JSON |
    | `.json` | a list of objects, or `{"objective": {"name": ..., "direction": ...}, "trials": [...]}` |
    | `.jsonl` | an object a line |

    A last line that ends in the middle of a CSV or JSON lines file is still being written, and is
    left out.

    Args:
        path: The project directory, `directory/project_name` of the tuner, or the file.
        objective: What to compare trials by. Not for a study with `study.json`, which has it
            there. Default for a plain KerasTuner project: the metric whose best value is the score
            that the project gave to its trials (of several, a `val_` one, then the first). Of
            another metric, KerasTuner has kept the value at the best epoch by its own objective.
            Default for a file: as in `from_records`.
        space: For a file: what is known of the hyperparameters, as in `from_records`.
        hyperparameters: For a file: which columns are hyperparameters, as in `from_records`.

    Raises:
        ValueError: If there is no study at `path`, if its `study.json` is damaged or of a newer
            format than this version reads, if its objective cannot be told, if a file is no table
            of trials, or if an argument is given that is not for this kind of study.
        TypeError: If `objective` is not an `Objective`.
    """  # noqa: E501
    check_objective(objective)
    path = Path(path)
    if path.is_file() and path.suffix.lower() in SUFFIXES and path.name not in _PARTS:
        rows, named = read_rows(path)
        return from_records(
            rows,
            objective=objective or named,
            space=space or (),
            hyperparameters=hyperparameters,
            name=path.resolve(),
        )
    if not is_project(path):
        raise ValueError(_not_a_study(path))
    if space is not None or hyperparameters is not None:
        raise ValueError(
            "`space` and `hyperparameters` are for a table of trials. Received them for "
            f"{str(path)!r}, a KerasTuner project, which has them in its files. Leave them out."
        )
    return read_project(path, objective=objective)


def _not_a_study(path: Path) -> str:
    """Say what a study is, what is there instead, and which directory was probably meant."""
    wanted = (
        "`path` must be a study: a KerasTuner project directory, which holds study.json, "
        f"oracle.json or trial_<id>/trial.json, or a table of trials ({', '.join(SUFFIXES)}). "
        f"Received: {str(path)!r}, "
    )
    above = next((parent for parent in path.resolve().parents if is_project(parent)), None)
    if above is not None:
        return f"{wanted}which is a part of a study. Did you mean {str(above)!r}?"
    if not path.exists():
        return f"{wanted}which does not exist."
    if not path.is_dir():
        return f"{wanted}which is another kind of file."
    entries = sorted(entry.name for entry in path.iterdir())
    studies = [name for name in entries if is_project(path / name)]
    if studies:
        return (
            f"{wanted}which contains studies but is none: {_some(studies)}. "
            f"Pass one of them, such as {str(path / studies[0])!r}."
        )
    return f"{wanted}which holds {_some(entries) if entries else 'nothing'}."


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:6])
    return shown if len(names) <= 6 else f"{shown} and {len(names) - 6} more"
