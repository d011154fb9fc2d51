"""Writing files that a killed process leaves whole; a leaf that any room may use."""

import json
import os
from pathlib import Path
from typing import Any


def replace_json(path: Path, content: Any) -> None:
    """Write `content` as JSON so that `path` holds either the old or the new text, never a part.

    Written beside, flushed to the disk, then renamed: a process killed at any moment leaves the
    old file as it was. Strict JSON: a NaN inside is a `ValueError`.
    """
    text = json.dumps(content, indent=1, allow_nan=False)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
