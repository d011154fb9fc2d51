"""Files, most of them JSON: written so that a kill leaves them whole, and read with distrust.

A leaf that any room may use.
"""

import json
import math
import os
import secrets
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

REMEDY = "Move it away to go on without it."

_EXCERPT_LENGTH = 80
_NON_FINITE = ("NaN", "Infinity", "-Infinity")


def replace_json(path: Path, content: Any, *, indent: int | None = 1) -> None:
    """Write `content` as JSON so that `path` holds either the old or the new text, never a part.

    Written beside, flushed to the disk, then renamed: a process killed at any moment leaves the
    old file as it was. Strict JSON: a NaN inside is a `ValueError`. Without an `indent` Python
    writes it several times faster.
    """
    replace_file(path, [json.dumps(content, indent=indent, allow_nan=False).encode(), b"\n"])


def replace_file(path: Path, content: Iterable[bytes | memoryview]) -> None:
    """Write the parts of `content`, one after the other, as `replace_json` does."""
    # Not by the process id, which two machines can share.
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with beside.open("wb") as file:
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_json(
    path: Path,
    *,
    newest_format: int | None = None,
    check: Callable[[dict[str, Any]], None] | None = None,
    remedy: str = REMEDY,
) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None if there is no such file.

    Args:
        path: The file.
        newest_format: The newest `format` entry that can be read; None for a file without one.
        check: Raises `ValueError` with what is wrong in the content.
        remedy: What to do about a damaged file; ends the error message.

    Raises:
        ValueError: The file holds no JSON object, one of a newer format, or one that `check`
            refuses. The message names the file, what is wrong and what to do.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    return parse_json(path, data, newest_format=newest_format, check=check, remedy=remedy)


def parse_json(
    path: Path,
    data: bytes,
    *,
    newest_format: int | None = None,
    check: Callable[[dict[str, Any]], None] | None = None,
    remedy: str = REMEDY,
) -> dict[str, Any]:
    """Return the object in `data`, the bytes of the JSON file `path`; else as `read_json`."""
    try:
        content = _parse(data)
        if newest_format is not None:
            _check_format(path, content, newest_format)
        if check is not None:
            check(content)
    except NewerFormatError:
        raise
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error} {remedy}") from error
    return content


def encode_number(value: float) -> float | str:
    """Return `value` for strict JSON, which has no numbers that are not finite: `"NaN"`, ..."""
    value = float(value)
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def decode_number(value: Any) -> float | None:
    """Return the number that `encode_number` wrote, or None for what it never writes."""
    if value in _NON_FINITE or (isinstance(value, int | float) and not isinstance(value, bool)):
        try:
            return float(value)
        except OverflowError:
            return None
    return None


def check_entries(
    content: Mapping[str, Any], kinds: Mapping[str, type | types.UnionType], *, where: str = ""
) -> None:
    """Raise `ValueError` unless each entry is of its kind; one that may be None may be missing."""
    for name, kind in kinds.items():
        value = content.get(name)
        # JSON tells true from 1.
        if not isinstance(value, kind) or isinstance(value, bool):
            wanted = kind.__name__ if isinstance(kind, type) else str(kind)
            raise ValueError(f"`{name}`{where} must be {wanted}. Received: {excerpt(value)}.")


def excerpt(value: Any) -> str:
    """Return the representation of `value`, cut if it is long."""
    text = repr(value)
    return text if len(text) <= _EXCERPT_LENGTH else f"{text[:_EXCERPT_LENGTH]}..."


class NewerFormatError(ValueError):
    """The file is whole, but a newer version wrote it."""


def _parse(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no UTF-8 (byte {error.start}).") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"it must be a JSON object. Received: {excerpt(content)}.")
    return content


def _check_format(path: Path, content: dict[str, Any], newest: int) -> None:
    number = content.get("format")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(f"`format` must be a positive integer. Received: {excerpt(number)}.")
    if number > newest:
        raise NewerFormatError(
            f"{path} has format {number}; this version of tfplaybook reads up to {newest}. "
            "Upgrade tfplaybook."
        )
