"""Where the numbers of a run are from: the command, the code and the machine (J1)."""

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Origin:
    """What `run.json` says about where a run is from.

    Args:
        command: The command line; empty if it was not recorded.
        working_directory: Where it was started.
        commit: The commit that the code was at; None if it was not under version control.
        has_changes: Whether there were changes since that commit, or new files; None if that is
            not known.
        diff: These changes as `git apply` takes them, cut if they were very long.
        untracked: The new files.
        versions: Version of each package, and of Python.
        platform: The operating system.
        host: The machine.
    """

    command: tuple[str, ...] = ()
    working_directory: str = ""
    commit: str | None = None
    has_changes: bool | None = None
    diff: str = ""
    untracked: tuple[str, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    platform: str = ""
    host: str = ""

    @property
    def reproduction(self) -> str:
        """The command for a shell, with the directory that it has to be started in."""
        return reproduction(self.command, self.working_directory)


def origin_of(info: Mapping[str, Any]) -> Origin:
    """Return the origin in the content of a `run.json`, whose entries others may have written."""
    git = _table(info.get("git"))
    commit, diff = git.get("commit"), git.get("diff")
    versions = {"python": info.get("python"), **_table(info.get("versions"))}
    return Origin(
        command=_texts(info.get("command")),
        working_directory=_text(info.get("working_directory")),
        commit=commit if isinstance(commit, str) else None,
        has_changes=bool(diff or git.get("untracked")) if git else None,
        diff=_text(diff),
        untracked=_texts(git.get("untracked")),
        versions=tuple((name, str(version)) for name, version in versions.items() if version),
        platform=_text(info.get("platform")),
        host=_text(info.get("host")),
    )


def reproduction(command: tuple[str, ...], working_directory: str) -> str:
    """Return a command line for a shell that changes to the directory first.

    >>> reproduction(("python", "my search.py"), "/home/me")
    "cd /home/me && python 'my search.py'"
    """
    if not command:
        return ""
    line = shlex.join(command)
    return f"cd {shlex.quote(working_directory)} && {line}" if working_directory else line


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()
