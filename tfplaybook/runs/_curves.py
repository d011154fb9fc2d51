"""`curves.jsonl`: every number of a run, one line each, append-only.

A line is `{"step": 120, "name": "val_loss", "value": 0.31}`; non-finite values are the strings
`"NaN"`, `"Infinity"` and `"-Infinity"`, since strict JSON has no others. A line
`{"attempt": 2, "step": 100}` says that training was started anew from step 100: whatever earlier
lines say about later steps is superseded.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfplaybook._files import decode_number, encode_number

FILE_NAME = "curves.jsonl"


class Curve(NamedTuple):
    """A number against the step, in the order of the steps.

    Attributes:
        steps: Optimizer updates made when the value was measured, int64 of shape (n,).
        values: The values, float64 of shape (n,); NaN and infinities are kept.
    """

    steps: np.ndarray
    values: np.ndarray


class CurveWriter:
    """Appends to `curves.jsonl`; holds no open file, so it can be copied and outlives a kill.

    Args:
        directory: The run directory, which must exist.
    """

    def __init__(self, directory: Path):
        self._path = directory / FILE_NAME

    def begin_attempt(self, step: int) -> None:
        """Mark that training starts (again) at `step` updates."""
        text = ""
        attempt = 1
        if self._path.exists():
            written = self._path.read_bytes()
            attempt += written.count(b'{"attempt"')
            # A line torn by a kill must not swallow the next one.
            text = "" if written.endswith(b"\n") or not written else "\n"
        self._append(text + json.dumps({"attempt": attempt, "step": step}) + "\n")

    def write(self, rows: Iterable[tuple[str, int, float]]) -> None:
        """Append (name, step, value) rows."""
        self._append(
            "".join(
                json.dumps({"step": step, "name": name, "value": encode_number(value)}) + "\n"
                for name, step, value in rows
            )
        )

    def _append(self, text: str) -> None:
        with self._path.open("ab") as file:
            file.write(text.encode())


def read_curves(directory: Path) -> dict[str, Curve]:
    """Read all curves of a run, also while it is being written.

    A row that is torn or malformed is left out.
    """
    try:
        content = (directory / FILE_NAME).read_bytes()
    except FileNotFoundError:
        return {}
    curves: dict[str, dict[int, float]] = {}
    for line in content.split(b"\n"):
        match _parse(line):
            case int(start):
                for values in curves.values():
                    for step in [step for step in values if step > start]:
                        del values[step]
            case (str(name), int(step), float(value)):
                curves.setdefault(name, {})[step] = value
    return {
        name: Curve(
            np.array(sorted(values), dtype=np.int64),
            np.array([values[step] for step in sorted(values)], dtype=np.float64),
        )
        for name, values in curves.items()
        if values
    }


def _parse(line: bytes) -> tuple[str, int, float] | int | None:
    """Return (name, step, value), or the step at which an attempt starts, or None for neither."""
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    step: Any = row.get("step")
    if not _is_step(step):
        return None
    if "attempt" in row:
        return step
    value = decode_number(row.get("value"))
    name = row.get("name")
    return (name, step, value) if isinstance(name, str) and value is not None else None


def _is_step(step: Any) -> bool:
    return isinstance(step, int) and not isinstance(step, bool) and 0 <= step < 2**63
