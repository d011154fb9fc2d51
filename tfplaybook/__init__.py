"""The Deep Learning Tuning Playbook as software for TensorFlow and Keras.

`import tfplaybook as pb` costs `import keras` and little more: of the rooms below, all but
`schedules` load when they are first used.

| room | what it holds |
|---|---|
| `pb.schedules` | learning-rate schedules |
| `pb.callbacks` | what goes into `model.fit(callbacks=[...])` |
| `pb.runs` | one training run on disk |
| `pb.search` | quasi-random points, the KerasTuner oracle and tuner |
| `pb.studies` | many runs: records, tables, pictures |
| `pb.hosts` | who a process is among those that train together |
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

# Loaded at once so that `keras.models.load_model` finds the registered schedules.
from tfplaybook import schedules as schedules
from tfplaybook._version import __version__ as __version__

if TYPE_CHECKING:
    from tfplaybook import callbacks as callbacks
    from tfplaybook import hosts as hosts
    from tfplaybook import runs as runs
    from tfplaybook import search as search
    from tfplaybook import studies as studies

_LAZY_ROOMS = ("callbacks", "hosts", "runs", "search", "studies")


def __getattr__(name: str) -> ModuleType:
    if name in _LAZY_ROOMS:
        return importlib.import_module(f"tfplaybook.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY_ROOMS])
