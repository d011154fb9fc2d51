"""The store gives back exactly what it was given, keeps what it should, and knows its owner."""

import copy
import errno
import gc
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
import threading
import zlib

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from safetensors.numpy import load_file

from tfplaybook.runs import (
    BestN,
    CheckpointReader,
    CheckpointStore,
    EveryNSteps,
    LatestN,
    _checkpoint_files,
)

DTYPES = [
    "bool",
    *("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
    *("float16", "float32", "float64", "complex64"),
]
KINDS = [
    *(np.dtype(name) for name in DTYPES),
    *(np.dtype(kind) for kind in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn)),
    np.dtype(ml_dtypes.float8_e5m2),
]


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "run" / "checkpoints"


@pytest.fixture
def store(directory):
    with CheckpointStore(directory, keep=LatestN(100)) as store:
        yield store


def save(store, step, arrays=None, *, asynchronous=False, resumable=True, record=None, **metrics):
    arrays = {"weight": np.full(3, step, "float32")} if arrays is None else arrays
    store.save(
        step,
        arrays,
        metrics=metrics,
        resumable=resumable,
        record=record or {},
        asynchronous=asynchronous,
    )


def steps(reader):
    return [entry.step for entry in reader.entries()]


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def random_arrays(dtype, shape):
    count = math.prod(shape) * dtype.itemsize
    data = np.random.default_rng(0).integers(0, 2 if dtype.kind == "b" else 256, count, "uint8")
    return data.view(dtype).reshape(shape)


@pytest.mark.parametrize("dtype", KINDS, ids=str)
def test_every_dtype_and_shape_comes_back_bit_for_bit(store, dtype):
    shapes = [(), (0,), (1,), (3, 0, 2), (5,), (2, 3, 4)]
    arrays = {str(shape): random_arrays(dtype, shape) for shape in shapes}
    save(store, 1, arrays)
    loaded = store.load(1).arrays
    assert_same(loaded, arrays)
    for array in loaded.values():
        array[...] = 0  # it is a private copy that can be written to


def test_the_file_opens_with_the_safetensors_library(store):
    arrays = {
        f"{dtype}/{shape}": random_arrays(dtype, shape)
        for dtype in KINDS
        # That library maps these to NumPy types that do not exist.
        if not dtype.name.startswith("float8")
        for shape in [(), (0, 2), (3,)]
    }
    save(store, 1, {**arrays, 'ünïcode "name"/0': np.arange(7, dtype="uint8")})
    loaded = load_file(store.folder(1) / "state.safetensors")
    assert loaded.pop('ünïcode "name"/0').tolist() == list(range(7))
    assert_same(loaded, arrays)


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(
        st.text(max_size=5),
        npst.arrays(st.sampled_from(DTYPES), npst.array_shapes(min_dims=0, min_side=0, max_side=3)),
        max_size=4,
    ),
    st.dictionaries(st.text(max_size=3), st.floats(), max_size=3),
)
def test_any_arrays_and_metrics_come_back(tmp_path_factory, arrays, metrics):
    directory = tmp_path_factory.getbasetemp() / "any"
    with CheckpointStore(directory, keep=LatestN(1)) as store:
        save(store, 7, arrays)
        store.save(7, arrays, metrics=metrics, resumable=False, record={}, asynchronous=False)
        checkpoint = CheckpointReader(directory).load(7)
    assert_same(checkpoint.arrays, arrays)
    assert repr(checkpoint.entry.metrics) == repr({str(k): float(v) for k, v in metrics.items()})


def test_arrays_that_are_not_contiguous(store):
    table = np.arange(24, dtype="int32").reshape(4, 6)
    arrays = {"transposed": table.T, "strided": table[::2, 1::2], "reversed": table[::-1]}
    save(store, 1, arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(store.load(1).arrays[name], array)


def test_arrays_larger_than_a_chunk(store):
    arrays = {"large": np.random.default_rng(0).integers(0, 256, (1 << 22) * 2 + 5, "uint8")}
    save(store, 1, arrays)
    assert_same(store.load(1).arrays, arrays)


def test_record_and_entry_come_back(store, directory):
    metrics = {"val_loss": math.nan, "a": math.inf, "b": -math.inf, "c": 0.1, "d": np.float32(2)}
    record = {"epoch": 3, "history": [{"step": 1}], "note": 'ünïcode "quoted"\n', "none": None}
    save(store, 300, record=record, resumable=False, **metrics)
    entry, _, found = store.load(300)
    assert found == record
    assert entry == store.entries()[0] or math.isnan(entry.metrics["val_loss"])
    assert repr(entry.metrics) == repr({name: float(value) for name, value in metrics.items()})
    assert (entry.step, entry.resumable) == (300, False)
    assert entry.path == directory / "step_0000000300"
    json.loads((entry.path / "record.json").read_text(), parse_constant=pytest.fail)


def test_the_record_is_taken_as_it_is_at_the_call(directory):
    go = threading.Event()
    store = CheckpointStore(directory, keep=LatestN(1), on_phase=lambda _: go.wait())
    history = [1]
    save(store, 1, record={"history": history}, asynchronous=True)
    history.append(2)
    go.set()
    store.close()
    assert CheckpointReader(directory).load(1).record == {"history": [1]}


def test_a_save_returns_before_it_is_written_and_the_next_waits(directory):
    go, seen = threading.Event(), []

    def on_phase(phase):
        if phase == "begun":
            go.wait()
        seen.append(phase)

    with CheckpointStore(directory, keep=LatestN(5), on_phase=on_phase) as store:
        save(store, 1, asynchronous=True)
        assert seen == []
        assert steps(store) == []
        go.set()
        save(store, 2, asynchronous=True)
        assert seen[:5] == ["begun", "written", "synced", "committed", "collected"]
        store.wait()
        assert steps(store) == [1, 2]


def test_saving_a_step_again_replaces_it(store, directory):
    save(store, 1, {"old": np.zeros(2)}, loss=1.0)
    save(store, 1, {"new": np.ones(2)}, loss=2.0)
    assert list(store.load(1).arrays) == ["new"]
    assert store.entries()[0].metrics == {"loss": 2.0}
    assert sorted(os.listdir(directory)) == [".lock", "step_0000000001"]


def test_garbage_is_collected_and_the_latest_to_resume_from_stays(directory):
    keep = BestN(1, "loss", "min") | EveryNSteps(40)
    with CheckpointStore(directory, keep=keep) as store:
        found = []
        for step, loss, resumable in [
            (10, 0.9, True),
            (20, 0.5, True),
            (30, 0.7, True),
            (35, 0.8, False),
            (45, math.nan, True),
            (50, 0.6, False),
            (55, 0.6, True),
        ]:
            save(store, step, resumable=resumable, loss=loss)
            found.append(steps(store))
        assert found == [[10], [20], [20, 30], [20, 30], [20, 45], [20, 45], [20, 45, 55]]
        assert store.best("loss", "min").step == 20
        assert store.best("loss", "max").step == 55
        assert store.best("accuracy", "max") is None
        with pytest.raises(ValueError, match="Did you mean 'max'"):
            store.best("loss", "maxx")
    with CheckpointStore(directory, keep=LatestN(1)) as store:
        assert steps(store) == [20, 45, 55]
        save(store, 60)
        assert steps(store) == [60]
        assert sorted(os.listdir(directory)) == [".lock", "step_0000000060"]


def test_the_folder_of_a_checkpoint_removed_by_hand_does_not_disturb(directory):
    with CheckpointStore(directory, keep=LatestN(1)) as store:
        save(store, 1)
        shutil.rmtree(store.folder(1))
        save(store, 2)
        assert steps(store) == [2]


def test_steps_beyond_ten_digits(store):
    for step in (0, 2 * 10**10, 9):
        save(store, step)
    assert steps(store) == [0, 9, 2 * 10**10]
    assert store.load_latest().checkpoint.entry.step == 2 * 10**10


def test_load_latest(store):
    assert store.load_latest() == (None, [])
    save(store, 1)
    save(store, 2)
    save(store, 3, resumable=False)
    assert store.load_latest().checkpoint.entry.step == 2
    assert store.load_latest(resumable=False).checkpoint.entry.step == 3


def test_what_a_run_makes_again_can_be_discarded(store):
    for step in (1, 2, 3, 4):
        save(store, step)
    (store.folder(4) / "record.json").write_bytes(b"")
    store.load_latest()
    store.discard(after=1)
    assert steps(store) == [1]
    assert store.folder(4).exists(), "damaged, and not ours to throw away"
    store.discard(after=-1)
    assert steps(store) == []


def test_folders_that_were_made_are_on_the_disk_with_the_store(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(_checkpoint_files, "sync_directory", synced.append)
    with CheckpointStore(tmp_path / "runs" / "first" / "checkpoints", keep=LatestN(1)):
        pass
    assert set(synced) == {tmp_path, tmp_path / "runs", tmp_path / "runs" / "first"}


def test_a_lock_that_was_removed_is_named(store, directory):
    (directory / ".lock").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"its \.lock was removed, which keeps other writers"
    ):
        save(store, 1)


def test_a_load_that_finds_nothing_says_what_there_is(store):
    save(store, 5)
    with pytest.raises(ValueError, match=r"`step` must be one of \[5\] .* Received: 6"):
        store.load(6)


def test_a_reader_changes_nothing(directory):
    reader = CheckpointReader(directory)
    assert reader.entries() == []
    assert reader.load_latest() == (None, [])
    assert not directory.exists()
    with CheckpointStore(directory, keep=LatestN(1)) as store:
        save(store, 1)
        (directory / ".writing-step_0000000002").mkdir()
        before = sorted(os.listdir(directory))
        assert steps(reader) == [1]
        assert reader.load(1).entry.step == 1
        assert sorted(os.listdir(directory)) == before


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"step": -1}, ValueError, "`step` must be an integer of at least 0"),
        ({"arrays": {"x": [1.0]}}, TypeError, "`arrays` must hold NumPy arrays. Received for 'x'"),
        ({"arrays": {"x": np.zeros(1, object)}}, TypeError, "dtypes of the safetensors format"),
        ({"arrays": {"x": np.zeros(1, "complex128")}}, TypeError, "dtype('complex128')"),
        ({"arrays": {"x": np.zeros(1, ">f4")}}, TypeError, "dtype('>f4')"),
        ({"arrays": {"__metadata__": np.zeros(1)}}, ValueError, "'__metadata__'"),
        ({"arrays": {3: np.zeros(1)}}, ValueError, "must be strings"),
        ({"metrics": {"loss": "low"}}, ValueError, "`metrics` must map names to numbers"),
        ({"metrics": {"loss": None}}, ValueError, "`metrics` must map names to numbers"),
        ({"record": [1]}, TypeError, "`record` must be a dict. Received: [1]"),
        ({"record": {"a": math.nan}}, ValueError, "`record` must be plain JSON data"),
        ({"record": {"a": {1, 2}}}, ValueError, "`record` must be plain JSON data"),
    ],
)
def test_bad_arguments_are_refused_at_once(store, change, error, message):
    good = {"step": 1, "arrays": {}, "metrics": {}, "resumable": True, "record": {}}
    with pytest.raises(error) as raised:
        store.save(**{**good, **change})
    assert message in str(raised.value)
    store.wait()
    assert steps(store) == []


def test_bad_arguments_of_the_store(tmp_path):
    with pytest.raises(TypeError, match="`keep` must be a retention policy"):
        CheckpointStore(tmp_path / "a", keep=3)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"must be a folder\. Received a file"):
        CheckpointStore(tmp_path / "file", keep=LatestN(1))
    with pytest.raises(OSError, match="cannot hold checkpoints: Not a directory"):
        CheckpointStore(tmp_path / "file" / "checkpoints", keep=LatestN(1))
    assert not (tmp_path / "a").exists()


class TestErrorsOfTheThread:
    """An error of a save comes up in the next call, once, and never gets lost."""

    @pytest.fixture
    def failing(self, directory):
        fail = {"now": True}

        def on_phase(phase):
            if fail["now"] and phase == "written":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        store = CheckpointStore(directory, keep=LatestN(5), on_phase=on_phase)
        yield store, fail
        fail["now"] = False
        store.close()

    @pytest.mark.parametrize("call", ["save", "wait", "close"])
    def test_in_the_next_call(self, failing, directory, call):
        store, fail = failing
        fail["now"] = False
        save(store, 100)
        fail["now"] = True
        save(store, 300, asynchronous=True)
        message = (
            f"The checkpoint of step 300 could not be written to {directory}: No space left on "
            r"device. The checkpoints of steps \[100\] are intact."
        )
        with pytest.raises(OSError, match=message) as raised:
            save(store, 400) if call == "save" else getattr(store, call)()
        assert raised.value.errno == errno.ENOSPC
        store.wait()
        fail["now"] = False
        if call != "close":
            save(store, 400)
            assert steps(store) == [100, 400]
        assert not list(directory.glob(".writing*"))

    def test_when_nobody_calls_again(self, directory, monkeypatch):
        def fail(phase):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        seen = []
        monkeypatch.setattr(sys, "unraisablehook", lambda args: seen.append(str(args.exc_value)))
        store = CheckpointStore(directory, keep=LatestN(1), on_phase=fail)
        save(store, 1, asynchronous=True)
        store._background._thread.join()
        del store
        gc.collect()
        assert len(seen) == 1
        assert "The checkpoint of step 1 could not be written" in seen[0]
        CheckpointStore(directory, keep=LatestN(1)).close()

    def test_at_the_end_of_the_interpreter(self, directory):
        program = f"""
import os, numpy as np
from tfplaybook.runs import CheckpointStore, LatestN
def fail(phase):
    if phase == "written" and os.path.exists({str(directory / "step_0000000001")!r}):
        raise OSError(28, "No space left on device")
store = CheckpointStore({str(directory)!r}, keep=LatestN(5), on_phase=fail)
for step in (1, 2):
    store.save(step, {{"x": np.zeros(9)}}, metrics={{}}, resumable=True, record={{}})
"""
        environment = {**os.environ, "KERAS_BACKEND": "numpy"}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert steps(CheckpointReader(directory)) == [1]
        assert "The checkpoint of step 2 could not be written" in done.stderr


def test_an_error_while_an_old_one_makes_place_puts_it_back(directory):
    def on_phase(phase):
        if phase == "replacing":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with CheckpointStore(directory, keep=LatestN(5), on_phase=on_phase) as store:
        save(store, 1)
        with pytest.raises(OSError, match="Input/output error"):
            save(store, 1, {"other": np.zeros(1)})
        assert list(store.load(1).arrays) == ["weight"]


class TestOneWriter:
    """A directory has one writer, whichever way that ends."""

    def test_a_second_store_is_refused(self, store, directory):
        with pytest.raises(RuntimeError, match=r"this process, which has them open already"):
            CheckpointStore(directory, keep=LatestN(1))

    def test_closing_lets_the_next_in(self, directory):
        for _ in range(2):
            store = CheckpointStore(directory, keep=LatestN(1))
            store.close()
            store.close()
        with pytest.raises(RuntimeError, match="they are closed"):
            save(store, 1)

    def test_so_does_dropping_it(self, directory):
        store = CheckpointStore(directory, keep=LatestN(1))
        del store
        gc.collect()
        CheckpointStore(directory, keep=LatestN(1)).close()

    def test_a_store_cannot_be_copied(self, store):
        for copied in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                copied(store)

    def test_a_directory_made_anew_is_not_written_to(self, store, directory):
        save(store, 1)
        shutil.rmtree(directory)
        with pytest.raises(OSError, match=r"could not be written to .*: No such file or directory"):
            save(store, 2)
        other = CheckpointStore(directory, keep=LatestN(1))
        with pytest.raises(OSError, match=r"another writer made it anew"):
            save(store, 2)
        other.close()
        assert steps(other) == []


class TestDamage:
    """Damage is named, walked back over, and left where it is."""

    @pytest.fixture
    def damaged(self, store):
        for step in (100, 200, 300):
            save(store, step, {"a": np.arange(4.0), "b": np.ones(2, "int8")}, loss=float(step))
        return store.folder(300)

    def check(self, store, folder, message, readable_record=False):
        with pytest.raises(ValueError) as raised:  # noqa: PT011
            CheckpointReader(store.directory).load(300)
        assert message in str(raised.value)
        reader = CheckpointReader(store.directory)
        checkpoint, skipped = reader.load_latest()
        assert checkpoint.entry.step == 200
        assert [path for path, _ in skipped] == [folder]
        assert message in skipped[0][1]
        assert steps(reader) == [100, 200]
        unreadable = [path for path, _ in reader.unreadable()]
        assert unreadable == ([] if readable_record else [folder])
        # It neither ranks nor counts, and is not collected.
        store.load_latest()
        store.keep = BestN(1, "loss", "max")
        save(store, 250, loss=0.0)
        assert steps(store) == [200, 250]
        assert folder.exists()

    def rewrite(self, folder, change):
        """Change what the record says, with a checksum that is right."""
        path = folder / "record.json"
        content = json.loads(path.read_text())
        change(content)
        inner = json.dumps({k: content[k] for k in ("checkpoint", "record") if k in content})
        data = inner[1:].encode() + b"\n"
        seal = b'{"format": %d, "checksum": "%08x", ' % (content["format"], zlib.crc32(data))
        path.write_bytes(seal + data)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("record.json", None, "has no record.json. Move its folder away"),
            ("record.json", b"", "is no JSON"),
            ("record.json", b"[]", "must be a JSON object"),
            ("record.json", b'{"format": 1}', "does not match its checksum"),
            ("record.json", b'{"format": "x"}', "`format` must be a positive integer"),
            ("state.safetensors", None, "has no state.safetensors. Move its folder away"),
            ("state.safetensors", b"", "its header would be 0 bytes long, and the file has 0"),
            ("state.safetensors", b"\xff" * 8, f"would be {2**64 - 1} bytes long, and the file"),
            ("state.safetensors", b"\x02" + b"\0" * 7 + b"[]", "its header is no JSON object"),
            ("state.safetensors", b"\x03" + b"\0" * 7 + b"{{}", "its header is no JSON object"),
            (
                "state.safetensors",
                b"\x0d" + b"\0" * 7 + b'{"a":0,"c":0}',
                "Missing: ['b']. Unexpected: ['c']",
            ),
            ("state.safetensors", b"\x0d" + b"\0" * 7 + b'{"a":0,"b":0}', "header does not match"),
        ],
    )
    def test_a_file(self, store, damaged, name, content, message):
        path = damaged / name
        path.unlink() if content is None else path.write_bytes(content)
        self.check(store, damaged, message, readable_record=name != "record.json")

    def test_a_newer_format_is_no_damage_to_go_back_over(self, store, damaged):
        (damaged / "record.json").write_bytes(b'{"format": 2}')
        message = "has format 2; this version of tfplaybook reads up to 1. Upgrade tfplaybook"
        for resumable in (True, False):
            with pytest.raises(ValueError, match=message):
                store.load_latest(resumable=resumable)

    def test_a_torn_record(self, store, damaged):
        path = damaged / "record.json"
        path.write_bytes(path.read_bytes()[:-20])
        self.check(store, damaged, "is no JSON")

    @pytest.mark.parametrize("change", [-1, 1, 1000])
    def test_a_shorter_or_longer_state(self, store, damaged, change):
        path = damaged / "state.safetensors"
        data = path.read_bytes()
        path.write_bytes(data[:change] if change < 0 else data + b"\0" * change)
        size = len(data)
        self.check(
            store, damaged, f"it has {size + change} bytes, and the record says {size}", True
        )

    def test_a_folder_renamed(self, store, damaged):
        shutil.rmtree(damaged)
        shutil.copytree(store.folder(100), damaged)
        self.check(store, damaged, "it is of step 100, and its folder is step_0000000300")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda c: c.pop("record"), "`record` must be dict"),
            (lambda c: c.update(checkpoint=[]), "`checkpoint` must be dict"),
            (lambda c: c["checkpoint"].update(step="3"), "`step` must be int"),
            (lambda c: c["checkpoint"].update(resumable=1), "`resumable` must be true or false"),
            (lambda c: c["checkpoint"]["metrics"].update(loss="x"), "'loss' must be a number"),
            (lambda c: c["checkpoint"]["arrays"].update(a=3), "'a' must be an object"),
            (lambda c: c["checkpoint"]["arrays"]["a"].pop("checksum"), "`checksum` of the array"),
            (
                lambda c: c["checkpoint"]["arrays"]["a"].update(dtype="object"),
                "`dtype` of the array 'a' is unknown",
            ),
            (
                lambda c: c["checkpoint"]["arrays"]["a"].update(shape=[-4]),
                "`shape` of the array 'a' must be lengths",
            ),
        ],
    )
    def test_a_record_with_a_right_checksum(self, store, damaged, change, message):
        self.rewrite(damaged, change)
        self.check(store, damaged, message)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda arrays: arrays.pop("a"), "Missing: []. Unexpected: ['a']"),
            (lambda arrays: arrays.update(z=arrays["a"]), "Missing: ['z']. Unexpected: []"),
            (lambda arrays: arrays.update(z=arrays.pop("a")), "Missing: ['z']. Unexpected: ['a']"),
            (lambda arrays: arrays["a"].update(dtype="int64"), "its header does not match"),
            (lambda arrays: arrays["a"].update(shape=[2, 2]), "its header does not match"),
            (lambda arrays: arrays["a"].update(shape=[2**62]), "its header does not match"),
            (lambda arrays: arrays["a"].update(checksum="0"), "'a' does not match its checksum"),
        ],
    )
    def test_a_record_of_other_arrays(self, store, damaged, change, message):
        self.rewrite(damaged, lambda content: change(content["checkpoint"]["arrays"]))
        self.check(store, damaged, message, readable_record=True)
