"""Reading a run directory back."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from tfplaybook._files import read_json
from tfplaybook.runs._curves import FILE_NAME as CURVES_FILE_NAME
from tfplaybook.runs._curves import Curve, read_curves

FORMAT = 1
INFO_FILE_NAME = "run.json"
CHECKPOINTS_FOLDER_NAME = "checkpoints"


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run as it stands on disk.

    Attributes:
        path: The run directory.
        info: What `run.json` holds: configuration, seed, model, command, versions, commit; empty
            when training has not begun.
        curves: Metric name to its curve against optimizer updates.
    """

    path: Path
    info: dict[str, Any]
    curves: dict[str, Curve]


def load_run(directory: str | os.PathLike[str]) -> Run:
    """Read a run directory, finished or still growing.

    Rows of `curves.jsonl` that are torn or malformed are left out.

    Args:
        directory: What `RunRecorder` wrote.

    Raises:
        ValueError: There is no such directory or it is no run, `run.json` is damaged, or a newer
            version of tfplaybook wrote it.
    """
    path = Path(directory)
    if not path.is_dir():
        raise ValueError(f"`directory` must be a run directory. There is none at {path}.")
    if not (path / INFO_FILE_NAME).exists() and not (path / CURVES_FILE_NAME).exists():
        is_study = any(path.glob("trial_*"))
        hint = " It looks like a study: use tfplaybook.studies.load." if is_study else ""
        raise ValueError(
            f"`directory` must be a run directory, which holds {INFO_FILE_NAME} or "
            f"{CURVES_FILE_NAME}. Received: {str(path)!r}, which has neither.{hint}"
        )
    return Run(path, read_info(path), read_curves(path))


def read_info(directory: Path) -> dict[str, Any]:
    """Return `run.json`, or an empty dict when there is none."""
    return read_json(directory / INFO_FILE_NAME, newest_format=FORMAT) or {}
