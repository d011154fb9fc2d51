"""What is committed survives: SIGKILL in every phase, full disks, removed folders, flips."""

import contextlib
import ctypes
import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from tfplaybook.runs import BestN, CheckpointReader, CheckpointStore, LatestN

# Imports once, and forks a child for each task that it reads; the child saves steps and is killed
# when a phase of the last save is over, or when the seconds are.
SERVER = """
import json, os, signal, sys
import numpy as np
from tfplaybook.runs import BestN, CheckpointStore, LatestN

def arrays(step, version):
    data = np.random.default_rng([step, version]).integers(0, 256, 300_000, "uint8")
    return {"weight": data.view("float32").reshape(3, -1), "seed": np.array(step, "uint32")}

def work(directory, steps, version, phase, asynchronous):
    finished = 0
    def on_phase(name):
        nonlocal finished
        if finished == len(steps) - 1 and name == phase:
            os.kill(os.getpid(), signal.SIGKILL)
        finished += name == "collected"
    keep = LatestN(2) | BestN(1, "loss", "min")
    with CheckpointStore(directory, keep=keep, on_phase=on_phase) as store:
        print("pid", os.getpid(), flush=True)
        for step in steps:
            store.save(step, arrays(step, version), metrics={"loss": abs(step - 2)},
                       resumable=True, record={"version": version}, asynchronous=asynchronous)

for line in sys.stdin:
    child = os.fork()
    if not child:
        try:
            work(**json.loads(line))
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
KEEP = LatestN(2) | BestN(1, "loss", "min")


class Writers:
    """Processes that save, one after the other."""

    def __init__(self, server):
        self._server = server

    def run(self, directory, steps, *, version=0, phase=None, asynchronous=True, delay=None):
        """Return the exit status of a process that saves `steps`."""
        task = {"directory": str(directory), "steps": list(steps), "version": version}
        task |= {"phase": phase, "asynchronous": asynchronous}
        self._server.stdin.write(json.dumps(task) + "\n")
        self._server.stdin.flush()
        word, number = self._line()
        if word == "pid":
            if delay is not None:
                # Not a wait for something to happen: the kill may fall anywhere.
                threading.Event().wait(delay)
                os.kill(number, signal.SIGKILL)
            _, number = self._line()
        return number

    def _line(self):
        word, number = self._server.stdout.readline().split()
        return word, int(number)


@pytest.fixture(scope="module")
def writers():
    environment = {**os.environ, "KERAS_BACKEND": "numpy", "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        yield Writers(server)
        server.stdin.close()


def arrays(step, version):
    data = np.random.default_rng([step, version]).integers(0, 256, 300_000, "uint8")
    return {"weight": data.view("float32").reshape(3, -1), "seed": np.array(step, "uint32")}


def whole(directory):
    """Step to version of all checkpoints, each of which must be bit for bit what was saved."""
    reader = CheckpointReader(directory)
    assert reader.unreadable() == []
    found = {}
    for entry in reader.entries():
        checkpoint = reader.load(entry.step)
        version = checkpoint.record["version"]
        for name, array in arrays(entry.step, version).items():
            assert checkpoint.arrays[name].dtype == array.dtype
            assert checkpoint.arrays[name].tobytes() == array.tobytes()
        found[entry.step] = version
    return found


def reopen(directory):
    """Open as the next writer does, and see that nothing is left of the killed one."""
    CheckpointStore(directory, keep=KEEP).close()
    names = [".lock", *(f"step_{step:010d}" for step in sorted(whole(directory)))]
    assert sorted(os.listdir(directory)) == names


# Steps 1 to 5, of which 2 is best: the fifth save collects the third checkpoint.
@pytest.mark.parametrize("asynchronous", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize(
    ("phase", "before", "after"),
    [
        ("begun", {2, 3, 4}, {2, 3, 4}),
        ("written", {2, 3, 4}, {2, 3, 4}),
        ("synced", {2, 3, 4}, {2, 3, 4}),
        ("committed", {2, 3, 4, 5}, {2, 3, 4, 5}),
        ("collecting", {2, 4, 5}, {2, 4, 5}),
        ("collected", {2, 4, 5}, {2, 4, 5}),
    ],
)
def test_killed_in_a_save(writers, tmp_path, phase, before, after, asynchronous):
    status = writers.run(tmp_path, [1, 2, 3, 4, 5], phase=phase, asynchronous=asynchronous)
    assert status == -signal.SIGKILL
    assert set(whole(tmp_path)) == before
    reopen(tmp_path)
    assert set(whole(tmp_path)) == after
    assert writers.run(tmp_path, [6]) == 0
    assert set(whole(tmp_path)) == {2, max(after), 6}


@pytest.mark.parametrize(
    ("phase", "version"),
    [
        ("begun", 0),
        ("written", 0),
        ("synced", 0),
        ("replacing", 0),
        ("committed", 1),
        ("collected", 1),
    ],
)
def test_killed_while_a_step_is_replaced(writers, tmp_path, phase, version):
    assert writers.run(tmp_path, [1, 2, 3]) == 0
    assert writers.run(tmp_path, [2], version=1, phase=phase) == -signal.SIGKILL
    reopen(tmp_path)
    assert whole(tmp_path) == {2: version, 3: 0}


@pytest.mark.parametrize(
    "kills", [5, pytest.param(500, marks=pytest.mark.soak)], ids=["short", "soak"]
)
def test_killed_at_random_moments(writers, tmp_path, kills):
    moments = random.Random(0)
    killed = attempt = 0
    latest = 0
    while killed < kills:
        attempt += 1
        # From the latest on, so that every writer begins with a replacement.
        steps = range(max(latest, 1), latest + 2000)
        status = writers.run(
            tmp_path, steps, version=attempt, phase=None, delay=moments.uniform(0.0, 0.2)
        )
        assert status in (0, -signal.SIGKILL)
        killed += status != 0
        before = CheckpointReader(tmp_path).entries()
        reopen(tmp_path)
        found = whole(tmp_path)
        assert {entry.step for entry in before} <= found.keys()
        assert max(found, default=0) >= latest
        assert latest < 2 or 2 in found
        latest = max(found, default=0)
    assert latest > 0


def test_the_kernel_lets_the_next_writer_in_after_a_kill(writers, tmp_path):
    for step in (1, 2):
        assert writers.run(tmp_path, [step], phase="collected") == -signal.SIGKILL
    assert set(whole(tmp_path)) == {1, 2}


HOLDER = """
import os, sys
from tfplaybook.runs import CheckpointStore, LatestN

store = CheckpointStore(sys.argv[1], keep=LatestN(1))
child = os.fork()
if not child:
    try:
        store.save(1, {}, metrics={}, resumable=True, record={})
    except RuntimeError as error:
        os.write(1, f"{error}\\n".encode())
    os.read(0, 1)
    os._exit(0)
os.write(1, f"{os.getpid()}\\n".encode())
os.waitpid(child, 0)
"""


def test_a_process_that_writes_keeps_others_out_and_its_children_do_not(tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": "numpy", "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        said = sorted(holder.stdout.readline().strip() for _ in range(2))
        assert said[0] == str(holder.pid)
        assert "this process is a fork of the one that writes them" in said[1]
        with pytest.raises(RuntimeError, match=f"written by process {holder.pid} on .* Wait until"):
            CheckpointStore(tmp_path, keep=KEEP)
        holder.kill()
        holder.wait()
        # The child is still there.
        CheckpointStore(tmp_path, keep=KEEP).close()
        holder.stdin.write("x")


def save(store, step, version=0, **options):
    store.save(
        step,
        arrays(step, version),
        metrics={"loss": abs(step - 2)},
        resumable=True,
        record={"version": version},
        **options,
    )


@contextlib.contextmanager
def file_size_limit(size):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores SIGXFSZ, so that a write beyond the limit is an error.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("size", [0, 100, 250_000], ids=str)
@pytest.mark.parametrize("step", [3, 4], ids=["replaced", "new"])
def test_files_that_may_not_grow(tmp_path, size, step):
    with CheckpointStore(tmp_path, keep=KEEP) as store:
        for earlier in (1, 2, 3):
            save(store, earlier)
        store.wait()
        with file_size_limit(size):
            save(store, step, version=1)
            with pytest.raises(
                OSError, match=rf"of step {step} could not .*: File too large. The "
            ):
                store.wait()
        assert whole(tmp_path) == {2: 0, 3: 0}
        assert not list(tmp_path.glob(".writing*"))
        save(store, step, version=1)
    assert whole(tmp_path)[step] == 1


@contextlib.contextmanager
def mounted(directory, options):
    """A file system in memory at `directory`, where this process may mount one."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", bytes(directory), b"tmpfs", 0, options.encode()):
        pytest.skip(f"this process may not mount: {os.strerror(ctypes.get_errno())}")
    try:
        yield libc
    finally:
        assert libc.umount2(bytes(directory), 2) == 0


def test_a_full_disk(tmp_path):
    with (
        mounted(tmp_path, "size=1400k"),
        CheckpointStore(tmp_path / "checkpoints", keep=LatestN(9)) as store,
    ):
        with pytest.raises(OSError, match=r"No space left on device. The checkpoints of") as raised:  # noqa: PT012
            for step in range(1, 9):
                save(store, step)
        assert raised.value.errno == errno.ENOSPC
        kept = whole(store.directory)
        assert len(kept) == 4
        shutil.rmtree(store.folder(1))
        save(store, 9, asynchronous=False)
        assert set(whole(store.directory)) == {2, 3, 4, 9}


def test_a_disk_that_becomes_read_only(tmp_path):
    read_only, remount = 1, 32
    with mounted(tmp_path, "size=4m") as libc:
        store = CheckpointStore(tmp_path / "checkpoints", keep=KEEP)
        save(store, 1, asynchronous=False)
        store.close()
        assert libc.mount(b"tmpfs", bytes(tmp_path), b"tmpfs", read_only | remount, None) == 0
        assert whole(store.directory) == {1: 0}
        with pytest.raises(OSError, match=r"cannot hold checkpoints: .*Read-only file system"):
            CheckpointStore(tmp_path / "checkpoints", keep=KEEP)
        with pytest.raises(OSError, match=r"cannot hold checkpoints: .*Read-only file system"):
            CheckpointStore(tmp_path / "other" / "checkpoints", keep=KEEP)


@pytest.mark.parametrize("phase", ["begun", "written", "synced"])
def test_a_directory_removed_in_a_save(tmp_path, phase):
    directory = tmp_path / "checkpoints"

    def on_phase(name):
        if name == phase:
            shutil.rmtree(directory)

    with CheckpointStore(directory, keep=KEEP, on_phase=on_phase) as store:
        save(store, 1)
        with pytest.raises(OSError, match=r"of step 1 could not be written .*: No such file"):
            store.wait()
        with pytest.raises(OSError, match=r"of step 2 could not be written .*: No such file"):
            save(store, 2, asynchronous=False)
    assert not directory.exists()


def test_every_flipped_byte_is_detected(tmp_path):
    small = {
        "weight": np.linspace(0, 1, 6, dtype="float32").reshape(2, 3),
        "scale": np.array(2.0, "float16"),
        "empty": np.zeros((0, 2), "int64"),
        "mask": np.array([True, False, True]),
    }
    with CheckpointStore(tmp_path, keep=LatestN(9)) as store:
        for step in (1, 2):
            store.save(step, small, metrics={"loss": 0.5}, resumable=True, record={"note": "ü"})
    reader = CheckpointReader(tmp_path)
    for path in sorted(store.folder(2).iterdir()):
        good = path.read_bytes()
        with path.open("r+b", buffering=0) as file:
            for place, byte in enumerate(good):
                for mask in (0x01, 0x20, 0xFF):
                    os.pwrite(file.fileno(), bytes([byte ^ mask]), place)
                    with pytest.raises(ValueError, match=r"step_0000000002"):
                        reader.load(2)
                os.pwrite(file.fileno(), bytes([byte]), place)
        assert path.read_bytes() == good
    assert reader.load(2).arrays.keys() == small.keys()


@pytest.mark.parametrize("name", ["record.json", "state.safetensors"])
def test_a_file_torn_anywhere_is_detected(tmp_path, name):
    with CheckpointStore(tmp_path, keep=LatestN(9)) as store:
        for step in (1, 2):
            store.save(step, {"x": np.ones(9)}, metrics={}, resumable=True, record={})
    path = store.folder(2) / name
    for size in range(path.stat().st_size - 1, -1, -1):
        os.truncate(path, size)
        checkpoint, skipped = CheckpointReader(tmp_path).load_latest()
        assert checkpoint.entry.step == 1
        assert [folder for folder, _ in skipped] == [store.folder(2)]
