"""Reading a run directory back."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from tfplaybook.runs._curves import Curve, read_curves

FORMAT = 1
INFO_FILE_NAME = "run.json"


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

    Args:
        directory: What `RunRecorder` wrote.

    Raises:
        ValueError: There is no such directory, or a newer version of tfplaybook wrote it.
    """
    path = Path(directory)
    if not path.is_dir():
        raise ValueError(f"`directory` must be a run directory. There is none at {path}.")
    return Run(path, read_info(path), read_curves(path))


def read_info(directory: Path) -> dict[str, Any]:
    """Return `run.json`, or an empty dict when there is none."""
    path = directory / INFO_FILE_NAME
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is damaged: {error}. Move it away to go on without it."
        ) from error
    if info.get("format", 0) > FORMAT:
        raise ValueError(
            f"{path} has format {info['format']}; this version of tfplaybook reads up to {FORMAT}. "
            "Upgrade tfplaybook."
        )
    return info
