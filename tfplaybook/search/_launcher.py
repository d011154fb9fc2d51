"""`launch`: a chief and its workers on this machine, as processes that are started again."""

import contextlib
import dataclasses
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.console
from rich.live import Live

from tfplaybook._arguments import check_count
from tfplaybook.search._chief import SEARCH_ID, STATUS_FILE
from tfplaybook.search._live_table import progress_table

_LOOK_SECONDS = 0.2
_LEAVE_SECONDS = 30.0
_LOG_LINES = 20
_CHIEF = "chief"
_INTERRUPTED = 130


@dataclasses.dataclass(frozen=True)
class RestartPolicy:
    """Whether a process that died is started again.

    Args:
        max_deaths: How often, at least 1, it may die before another trial is done.
    """

    max_deaths: int = 3

    def __post_init__(self) -> None:
        check_count("max_deaths", self.max_deaths, minimum=1)

    def starts_again(self, name: str, exit_code: int, deaths: int) -> bool:
        """Return whether to start the process again.

        Args:
            name: Its name. A chief that ended with an error would do so again.
            exit_code: How it ended, the negative number of a signal if that ended it.
            deaths: How often it has died since a trial was last done, with this time.

        >>> RestartPolicy().starts_again("chief", -9, 1)
        True
        >>> RestartPolicy().starts_again("chief", 1, 1)
        False
        """
        return deaths < self.max_deaths and (name != _CHIEF or exit_code < 0)


class _GivenUpError(Exception):
    """A process has died too often."""


@dataclasses.dataclass
class _Child:
    """A process with its log, and how often it has died since a trial was last done."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    deaths: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the launcher, which then ends the others in order.
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        return self.process.poll() if self.process is not None else None

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-_LOG_LINES:])


def launch(
    script: Path,
    arguments: Sequence[str] = (),
    *,
    num_workers: int,
    address: str = "127.0.0.1",
    port: int = 0,
    logs: Path | None = None,
    policy: RestartPolicy | None = None,
    console: rich.console.Console,
) -> int:
    """Run a search script as a chief and workers, and return an exit status.

    0 when the search is finished, 1 when a process died too often, 130 after an interrupt. However
    it ends, none of the processes is left.

    Args:
        script: A Python script that makes a `QuasiRandomSearch` and calls its `search`.
        arguments: Arguments of the script.
        num_workers: Number of workers, at least 1.
        address: Address of this machine at which the chief listens. Whoever can reach it can take
            part in the search: KerasTuner's RPC knows no passwords.
        port: Port of the chief; 0 for a free one.
        logs: Where the output of each process is kept; None for a new temporary directory.
        policy: When a process that died is started again.
        console: What to print on.

    Raises:
        ValueError: There is no such script, or a number is outside its range.
    """
    num_workers = check_count("workers", num_workers, minimum=1)
    if not script.is_file():
        raise ValueError(f"`script` must be a Python script. Received: {str(script)!r}, no file.")
    port = check_count("port", port, minimum=0) or _free_port(address)
    logs = logs or Path(tempfile.mkdtemp(prefix="tfplaybook-"))
    logs.mkdir(parents=True, exist_ok=True)
    status_file = logs / "status.json"
    status_file.unlink(missing_ok=True)
    shared = {"KERASTUNER_ORACLE_PORT": str(port), SEARCH_ID: uuid.uuid4().hex}
    # The workers cannot call a chief at "every address of this machine".
    reached = "127.0.0.1" if address == "0.0.0.0" else address
    children = []
    for name in (_CHIEF, *(f"worker{number}" for number in range(num_workers))):
        own = {"KERASTUNER_ORACLE_IP": reached, "KERASTUNER_TUNER_ID": name}
        if name == _CHIEF:
            own = {**own, "KERASTUNER_ORACLE_IP": address, STATUS_FILE: str(status_file)}
        environment = {**os.environ, **shared, **own}
        command = [sys.executable, str(script), *arguments]
        children.append(_Child(name, command, environment, logs / f"{name}.log"))
    welcome = _welcome([str(script), *arguments], address, shared, logs)
    console.print(welcome, highlight=False, markup=False, soft_wrap=True)
    supervisor = _Supervisor(children, policy or RestartPolicy(), status_file, console)
    with _signals_as_interrupts():
        try:
            supervisor.run()
        except _GivenUpError as error:
            console.print(str(error), highlight=False, markup=False, soft_wrap=True)
            return 1
        except KeyboardInterrupt:
            console.print("interrupted; run the command again to go on with the search")
            return _INTERRUPTED
        finally:
            supervisor.end()
    return 0


class _Supervisor:
    """Starts processes, starts them again when they die, and ends them."""

    def __init__(
        self,
        children: Sequence[_Child],
        policy: RestartPolicy,
        status_file: Path,
        console: rich.console.Console,
    ):
        self._children = children
        self._policy = policy
        self._status_file = status_file
        self._console = console
        self._status: dict[str, Any] | None = None
        self._begun = time.monotonic()
        self._done_before = 0

    def run(self) -> None:
        """Return when the search is finished."""
        chief, *workers = self._children
        for child in self._children:
            child.start()
        with Live(self._table(), console=self._console, auto_refresh=False) as live:
            while chief.exit_code != 0:
                self._read_status()
                for child in self._children:
                    self._look_after(child)
                live.update(self._table(), refresh=True)
                time.sleep(_LOOK_SECONDS)
            deadline = time.monotonic() + _LEAVE_SECONDS
            while any(worker.is_alive for worker in workers) and time.monotonic() < deadline:
                time.sleep(_LOOK_SECONDS)
            self._read_status()
            live.update(self._table(), refresh=True)

    def end(self) -> None:
        """End the processes that are left, the workers first so that each can save its state.

        Whoever interrupts again does not want to wait.
        """
        for group in (self._children[1:], self._children[:1]):
            alive = [child.process for child in group if child.is_alive and child.process]
            with contextlib.suppress(KeyboardInterrupt):
                for process in alive:
                    process.terminate()
                deadline = time.monotonic() + _LEAVE_SECONDS
                for process in alive:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(max(0.0, deadline - time.monotonic()))
            for process in alive:
                # With what it has started itself.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _look_after(self, child: _Child) -> None:
        code = child.exit_code
        if code is None or (code == 0 and (child.name == _CHIEF or self._is_done())):
            return
        child.deaths += 1
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit status {code}"
        if not self._policy.starts_again(child.name, code, child.deaths):
            times = "" if child.deaths == 1 else f" ({child.deaths} deaths and no trial done)"
            raise _GivenUpError(
                f"{child.name} {how}{times}, and the search cannot go on. The end of {child.log}:\n"
                f"{child.tail()}"
            )
        self._console.print(f"{child.name} {how}; started again", highlight=False)
        child.start()

    def _is_done(self) -> bool:
        status = self._status
        return status is not None and (status["is_over"] or status["done"] >= status["trials"])

    def _read_status(self) -> None:
        if not self._status_file.exists():
            return
        status = json.loads(self._status_file.read_text())
        if self._status is None:
            self._begun, self._done_before = time.monotonic(), status["done"]
        elif status["done"] > self._status["done"]:
            for child in self._children:
                child.deaths = 0
        self._status = status

    def _table(self) -> Any:
        workers = self._children[1:]
        alive = sum(worker.is_alive for worker in workers)
        return progress_table(
            self._status,
            seconds=time.monotonic() - self._begun,
            done_before=self._done_before,
            workers=f"{alive} of {len(workers)}",
        )


def _welcome(script: Sequence[str], address: str, shared: Mapping[str, str], logs: Path) -> str:
    host = socket.gethostname() if address == "0.0.0.0" else address
    variables = {
        "KERASTUNER_ORACLE_IP": host,
        **shared,
        "KERASTUNER_TUNER_ID": "another-name-for-each",
    }
    command = " ".join(f"{name}={value}" for name, value in variables.items())
    only = " (of this machine only: --address)" if host == "127.0.0.1" else ""
    return f"logs: {logs}\nfurther workers{only}: {command} python {shlex.join(script)}"


def _free_port(address: str) -> int:
    try:
        with socket.socket() as free:
            free.bind((address, 0))
            return free.getsockname()[1]
    except OSError as error:
        raise ValueError(
            f"`address` must be one of this machine. Received: {address!r} ({error})."
        ) from error


@contextlib.contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """Take the signals that a platform or a closed terminal sends for Ctrl-C."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    # `nohup` has the second ignored.
    heard = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) != signal.SIG_IGN]
    before = {s: signal.signal(s, interrupt) for s in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
