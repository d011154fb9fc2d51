"""Rows of trials from a file: CSV, TSV, JSON or JSON lines."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfplaybook._files import excerpt
from tfplaybook.studies._records import Objective
from tfplaybook.studies._rows import NESTED

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*_DELIMITERS, ".json", ".jsonl")
_BOOLEANS = {"true": True, "false": False}
_TEXTS = ("trial_id", "status", "message")
_JSONS = ("curves", NESTED)


def read_rows(path: Path) -> tuple[list[dict[str, Any]], Objective | None]:
    """Return the rows of a file by its suffix, and the objective if the file names one.

    Raises:
        ValueError: If the file is no table of trials; the message names the line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} must be UTF-8 text. Byte {error.start} is not: save it as UTF-8."
        ) from error
    suffix = path.suffix.lower()
    if suffix in _DELIMITERS:
        return _read_csv(path, text, _DELIMITERS[suffix]), None
    if suffix == ".jsonl":
        return _read_lines(path, text), None
    return _read_json(path, text)


def _read_csv(path: Path, text: str, delimiter: str) -> list[dict[str, Any]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    lines: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            lines.append((reader.line_num, cells))
    except csv.Error as error:
        raise ValueError(
            f"{path} cannot be read beyond line {reader.line_num} ({error}). "
            "Long curves are better kept in .json or .jsonl."
        ) from error
    if not lines:
        raise ValueError(f"{path} must have a line with the names of the columns. It is empty.")
    header = [name.strip() for name in lines[0][1]]
    if len(header) == 1 and ";" in header[0]:
        raise ValueError(
            f"The columns of {path} must be separated by commas. Its first line is "
            f"{excerpt(header[0])}: save it with commas, and with points in numbers."
        )
    if twice := {name for name in header if header.count(name) > 1}:
        raise ValueError(f"The columns of {path} must have different names. Twice: {twice}.")
    rows = [(number, cells) for number, cells in lines[1:] if cells]
    if rows and len(rows[-1][1]) < len(header) and not text.endswith("\n"):
        rows.pop()  # it is being written
    for number, cells in rows:
        if len(cells) != len(header):
            raise ValueError(
                f"Line {number} of {path} must have {len(header)} cells, as the first line has. "
                f"Received {len(cells)}: {excerpt(cells)}."
            )
    columns = {name: [cells[i].strip() for _, cells in rows] for i, name in enumerate(header)}
    typed = {name: _typed(name, cells, path) for name, cells in columns.items() if name}
    return [{name: cells[i] for name, cells in typed.items()} for i in range(len(rows))]


def _typed(name: str, cells: list[str], path: Path) -> list[Any]:
    """Return the cells of a column as what all of them can be read as; empty ones as None."""
    if name in _JSONS:
        return [_json(cell, f"{name!r} in {path}") if cell else None for cell in cells]
    readers: tuple[Callable[[str], Any], ...] = (int, float, _boolean)
    for read in () if name in _TEXTS else readers:
        try:
            return [read(cell) if cell else None for cell in cells]
        except ValueError:
            continue
    return [cell or None for cell in cells]


def _boolean(cell: str) -> bool:
    if cell.lower() not in _BOOLEANS:
        raise ValueError(cell)
    return _BOOLEANS[cell.lower()]


def _read_lines(path: Path, text: str) -> list[dict[str, Any]]:
    lines = text.split("\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(_row(_json(line, f"Line {number} of {path}"), f"Line {number} of {path}"))
        except ValueError:
            if number < len(lines):
                raise
            # The last line, without an end: it is being written.
    return rows


def _read_json(path: Path, text: str) -> tuple[list[dict[str, Any]], Objective | None]:
    content = _json(text, str(path))
    objective = None
    if isinstance(content, dict):
        named = content.get("objective")
        if named is not None:
            objective = _objective(named, path)
        content = content.get("trials")
    if not isinstance(content, list):
        raise ValueError(
            f'{path} must hold a list of trials, or an object with the list as "trials" and '
            '"objective" as {"name": ..., "direction": "min" or "max"}. '
            f"Received: {excerpt(content)}."
        )
    return [_row(row, f"Trial {i} of {path}") for i, row in enumerate(content)], objective


def _row(content: Any, where: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"{where} must be an object. Received: {excerpt(content)}.")
    return content


def _objective(named: Any, path: Path) -> Objective:
    try:
        return Objective(str(named["name"]), named["direction"])
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(
            f'"objective" in {path} must have a "name" and a "direction", "min" or "max". '
            f"Received: {excerpt(named)}."
        ) from error


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} must be JSON ({error}). Received: {excerpt(text)}.") from error
