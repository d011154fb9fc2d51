"""What is needed to run something again (playbook J1): command, versions, commit, changes."""

import functools
import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras

MAX_DIFF_BYTES = 1_000_000
MAX_UNTRACKED = 1_000

_PACKAGES = ("tfplaybook", "keras", "tensorflow", "jax", "keras-tuner", "tensorboard", "numpy")


@functools.cache
def provenance() -> dict[str, Any]:
    """Describe this process: taken once, since imported code does not change afterwards."""
    script = Path(sys.argv[0]).resolve() if sys.argv and sys.argv[0] else None
    folder = script.parent if script is not None and script.is_file() else Path.cwd()
    return {
        "command": [sys.executable, *sys.argv],
        "working_directory": str(Path.cwd()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "backend": keras.backend.backend(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
        "git": _git_state(folder) or _git_state(Path.cwd()),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_state(folder: Path) -> dict[str, Any] | None:
    """Return the commit and all uncommitted changes around `folder`, or None outside a checkout."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None:
        return None
    root = Path(top.strip())
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    # Whatever the user's own settings are, the diff can be applied with `git apply`.
    form = ("--no-color", "--no-ext-diff", "--binary", "--src-prefix=a/", "--dst-prefix=b/")
    diff = "" if commit is None else _git(root, "diff", *form, "HEAD") or ""
    untracked = _git(root, "ls-files", "--others", "--exclude-standard") or ""
    return {
        "commit": None if commit is None else commit.strip(),
        "diff": diff[:MAX_DIFF_BYTES],
        "diff_truncated": len(diff) > MAX_DIFF_BYTES,
        "untracked": untracked.splitlines()[:MAX_UNTRACKED],
    }


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
