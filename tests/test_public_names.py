"""Every public name is exported by hand and documented, and nothing else is documented."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = {
    "tfplaybook.schedules": "schedules.md",
    "tfplaybook.callbacks": "callbacks.md",
    "tfplaybook.runs": "runs.md",
    "tfplaybook.search": "search.md",
    "tfplaybook.studies": "studies.md",
    "tfplaybook.hosts": "hosts.md",
    "pipelines": "pipelines.md",
}


def exported(module):
    """Names that the module exports by `__all__` or by `from ... import name as name`."""
    if hasattr(module, "__all__"):
        return set(module.__all__)
    tree = ast.parse(Path(module.__file__).read_text())
    return {
        alias.asname
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }


@pytest.mark.parametrize("name", PAGES)
def test_the_reference_has_exactly_the_exported_names(name):
    page = (ROOT / "docs" / "reference" / PAGES[name]).read_text()
    documented = re.findall(rf"^::: {re.escape(name)}\.(\w+)$", page, re.MULTILINE)
    assert sorted(documented) == sorted(exported(importlib.import_module(name)))


@pytest.mark.parametrize("name", PAGES)
def test_every_exported_object_has_a_docstring(name):
    module = importlib.import_module(name)
    undocumented = [n for n in exported(module) if not (getattr(module, n).__doc__ or "").strip()]
    assert undocumented == []


def test_every_room_has_a_reference_page():
    rooms = {
        f"tfplaybook.{path.stem if path.is_file() else path.name}"
        for path in (ROOT / "tfplaybook").iterdir()
        if not path.name.startswith("_")
        and (path.suffix == ".py" or (path / "__init__.py").exists())
    }
    assert rooms - {"tfplaybook.cli"} == set(PAGES) - {"pipelines"}
