"""The page of a report: one HTML file that loads nothing, and runs nothing but its own script."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from tfplaybook._files import replace_file
from tfplaybook._version import __version__
from tfplaybook.studies._records import Study
from tfplaybook.studies._report._content import report_content

_FILES = resources.files(__package__) / "page"
# Joined into one script, in which the later parts use the earlier ones.
_SCRIPTS = (
    "dom.js",
    "numbers.js",
    "model.js",
    "frame.js",
    "scatter.js",
    "isolation.js",
    "curves.js",
    "table.js",
    "trial.js",
    "verdicts.js",
    "provenance.js",
    "main.js",
)


def write_report(
    study: Study,
    path: Path,
    *,
    scientific: Sequence[str] = (),
    baseline: str | Sequence[float] | None = None,
) -> Path:
    """Write the report of `study` to `path`, which is replaced whole or not at all."""
    if path.is_dir():
        raise ValueError(
            f"`path` must be a file to write, such as {str(path / 'report.html')!r}. "
            f"Received: {str(path)!r}, which is a directory."
        )
    if not path.parent.is_dir():
        raise ValueError(
            f"`path` must be in a directory that exists. Received: {str(path)!r}; make "
            f"{str(path.parent)!r} first."
        )
    content = report_content(study, scientific=scientific, baseline=baseline)
    replace_file(path, [report_page(content).encode()])
    return path


def report_page(content: dict[str, Any]) -> str:
    """Return the page that shows `content`, the result of `report_content`."""
    style = _text("report.css")
    script = "\n".join(map(_text, _SCRIPTS))
    # The browser refuses whatever is not named here: other scripts, and every request.
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": policy,
        "version": __version__,
        "title": html.escape(content["name"]),
        "style": style,
        "script": script,
        "data": _embedded(content),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _text("report.html"))


def _text(name: str) -> str:
    return (_FILES / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _embedded(content: dict[str, Any]) -> str:
    """Return JSON that can stand within a script element: nothing in it opens or closes a tag."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # Half of a surrogate pair, which a file name may hold, is no UTF-8.
    text = text.encode("utf-8", "replace").decode()
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")
