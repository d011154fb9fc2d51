"""Preprocessing once: whole, keyed by what it is made of, and safe from kills and full disks."""

import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import cache_until_killed
import numpy as np
import pytest
import tensorflow as tf

import pipelines
from pipelines._shards import ShardFolder


def cache(source, folder, **options):
    return pipelines.cache_offline(source, folder, **({"progress": False} | options))


def examples(cached, **options):
    """The examples of a cache, in order, as a list."""
    train = pipelines.training_pipeline(cached, batch_size=1, seed=0, shuffle=False, **options)
    squeezed = train.take(train.steps_per_epoch).unbatch()
    return list(squeezed.as_numpy_iterator())


def shard_times(folder):
    return {path.name: path.stat().st_mtime_ns for path in Path(folder).rglob("*.tfrecord")}


def flip_last_data_byte(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


class Counted:
    """Squares, and counts how often it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, number):
        self.asked.append(int(number))
        return np.square(number)


def python_function():
    return lambda number: tf.numpy_function(np.square, [number], tf.int64)


def variable_function():
    held = tf.Variable(3, dtype=tf.int64)
    return lambda number: number + held


def table_function():
    keys = tf.constant([0], tf.int64)
    pairs = tf.lookup.KeyValueTensorInitializer(keys, keys)
    return tf.lookup.StaticHashTable(pairs, default_value=-1).lookup


class TestContents:
    def test_every_dtype_and_structure_comes_back(self, tmp_path):
        def prepare(x, y):
            return {
                "half": tf.cast(x, tf.bfloat16) / 2,
                "nested": (y > 4, tf.strings.as_string(y)),
                "wide": tf.zeros([1, 3], tf.uint8),
            }

        x, y = np.arange(20.0, dtype="float32").reshape(10, 2), np.arange(10)
        read = examples(cache((x, y), tmp_path, map=prepare))
        assert len(read) == 10
        for number, example in enumerate(read):
            np.testing.assert_array_equal(example["half"].astype("float32"), x[number] / 2)
            assert example["half"].dtype == tf.bfloat16.as_numpy_dtype
            assert example["nested"] == (number > 4, b"%d" % number)
            assert example["wide"].shape == (1, 3)

    def test_keep_after_the_cache(self, tmp_path):
        cached = cache({"a": np.arange(6), "b": np.arange(6) * 2, "c": np.arange(6)}, tmp_path)
        assert [set(e) for e in examples(cached, keep=["c", "b"])] == [{"b", "c"}] * 6
        with pytest.raises(ValueError, match=r"lacks: \['d'\]"):
            examples(cached, keep=["d"])

    def test_images_of_any_size_are_decoded_once(self, tmp_path):
        (tmp_path / "photos" / "cat").mkdir(parents=True)
        for size in (3, 5):
            image = tf.io.encode_png(tf.fill([size, size, 3], tf.constant(size, tf.uint8)))
            tf.io.write_file(str(tmp_path / "photos" / "cat" / f"{size}.png"), image)
        cached = cache(pipelines.ImageFolders(tmp_path / "photos"), tmp_path / "cache")
        shutil.rmtree(tmp_path / "photos")
        train = pipelines.training_pipeline(
            cached,
            batch_size=2,
            seed=0,
            shuffle=False,
            map=lambda image, label: (tf.ensure_shape(image[:3, :3], [3, 3, 3]), label),
        )
        images, labels = next(iter(train))
        assert images.numpy()[:, 0, 0, 0].tolist() == [3, 5]
        assert labels.numpy().tolist() == [0, 0]

    @pytest.mark.parametrize("cache_bytes", [0, 2**20])
    def test_it_can_be_shuffled_sharded_and_sought_afterwards(self, tmp_path, cache_bytes):
        cached = cache((np.arange(48),), tmp_path, examples_per_shard=7)
        shares = [
            pipelines.training_pipeline(
                cached,
                batch_size=4,
                seed=0,
                cache_bytes=cache_bytes,
                host=pipelines.Host(index, 3),
            )
            for index in range(3)
        ]
        read = [np.ravel([batch for (batch,) in share.take(8)]) for share in shares]
        assert sorted(np.concatenate([numbers[:16] for numbers in read])) == list(range(48))
        for share, numbers in zip(shares, read, strict=True):
            np.testing.assert_array_equal(next(iter(share.starting_at(5)))[0], numbers[20:24])

    def test_evaluation_reads_it_in_order(self, tmp_path, numbered):
        cached = cache(numbered, tmp_path, examples_per_shard=3)
        valid = pipelines.evaluation_pipeline(cached, batch_size=5, cache_bytes=0)
        np.testing.assert_array_equal(np.concatenate([y for _, y, _ in valid]), np.arange(10))

    @pytest.mark.parametrize(
        ("num_examples", "per_shard", "lengths"),
        [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 4, [3]), (33, None, [3] * 11)],
    )
    def test_shards_are_equal_but_the_last(self, tmp_path, num_examples, per_shard, lengths):
        cached = cache((np.arange(num_examples),), tmp_path, examples_per_shard=per_shard)
        assert list(cached.lengths) == lengths
        assert cached.num_examples == num_examples


class TestKey:
    def test_a_second_call_makes_nothing(self, tmp_path):
        counted = Counted()
        first = cache_until_killed.write(tmp_path, counted)
        assert sorted(counted.asked) == list(range(cache_until_killed.LENGTH))
        times = shard_times(tmp_path)
        assert cache_until_killed.write(tmp_path, counted) == first
        assert len(counted.asked) == cache_until_killed.LENGTH
        assert shard_times(tmp_path) == times

    def test_every_change_makes_a_new_cache(self, tmp_path):
        x, y = np.arange(6.0), np.arange(6)
        changed = np.where(y == 5, 7.0, x)
        strings = np.array([b"a"] * 6)

        def scale(factor):
            return lambda a, b: (a * factor, b)

        calls = [
            (((x, y),), {}),
            (((changed, y),), {}),
            (((x.astype("float32"), y),), {}),
            (((y, x),), {}),
            (((strings, y),), {}),
            (({"x": x, "y": y},), {}),
            (({"x": x, "z": y},), {}),
            (({"x": x, "y": y},), {"keep": ["x"]}),
            (((x, y),), {"map": scale(2.0)}),
            (((x, y),), {"map": scale(np.float64(3.0))}),
            (((x, y),), {"version": "2"}),
            (((x, y),), {"examples_per_shard": 3}),
            ((tf.data.Dataset.from_tensor_slices((x, y)),), {}),
            ((tf.data.Dataset.from_tensor_slices((changed, y)),), {}),
        ]
        folders = [cache(*args, tmp_path, **options).folder for args, options in calls]
        assert len(set(folders)) == len(calls)
        assert [cache(*args, tmp_path, **options).folder for args, options in calls] == folders

    def test_a_file_that_is_written_again_makes_a_new_cache(self, tmp_path):
        path = tmp_path / "a.tfrecord"

        def write(text):
            with tf.io.TFRecordWriter(str(path)) as writer:
                writer.write(text)
            os.utime(path, ns=(0, len(text)))
            return cache(pipelines.TFRecordFiles(path), tmp_path / "cache")

        first, same, longer = write(b"1"), write(b"1"), write(b"12")
        assert first.folder == same.folder != longer.folder
        os.utime(path, ns=(0, 99))
        touched = cache(pipelines.TFRecordFiles(path), tmp_path / "cache")
        assert touched.folder not in (first.folder, longer.folder)
        assert examples(touched) == [b"12"]

    @pytest.mark.parametrize(
        "make", [python_function, variable_function, table_function], ids=lambda make: make.__name__
    )
    def test_what_a_fingerprint_cannot_see_needs_a_version(self, tmp_path, make):
        function = make()
        with pytest.raises(ValueError, match="Pass `version`"):
            cache((np.arange(6),), tmp_path, map=function)
        assert cache((np.arange(6),), tmp_path, map=function, version="1").num_examples == 6


class TestKilled:
    def test_finished_shards_survive_and_are_not_made_again(self, tmp_path):
        script = Path(cache_until_killed.__file__)
        child = subprocess.Popen(
            [sys.executable, script, tmp_path],
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(script.parents[2]), "FORCE_COLOR": "1"},
        )
        with child:
            shown = b""
            while b"5/10" not in shown:
                shown += os.read(child.stderr.fileno(), 1000) or pytest.fail(shown)
            child.kill()
        times = shard_times(tmp_path)
        assert len(times) == 5
        assert not list(tmp_path.rglob("index.json"))
        counted = Counted()
        cached = cache_until_killed.write(tmp_path, counted)
        assert sorted(counted.asked) == list(range(20, cache_until_killed.LENGTH))
        assert times.items() <= shard_times(tmp_path).items()
        assert examples(cached) == [number**2 for number in range(cache_until_killed.LENGTH)]

    def test_another_writer_waits(self, tmp_path):
        folder, waits, entered = ShardFolder(tmp_path, 1, 1), threading.Event(), []

        def enter():
            with folder.locked(waiting=waits.set):
                entered.append("second")

        second = threading.Thread(target=enter)
        with folder.locked(waiting=pytest.fail):
            second.start()
            assert waits.wait(timeout=60)
            entered.append("first")
        second.join(timeout=60)
        assert entered == ["first", "second"]

    def test_two_at_once_make_each_example_once(self, tmp_path):
        counted = Counted()
        threads = [
            threading.Thread(target=cache_until_killed.write, args=(tmp_path, counted))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert sorted(counted.asked) == list(range(cache_until_killed.LENGTH))


class TestFaults:
    def test_a_full_disk_keeps_the_finished_shards(self, tmp_path):
        def grow(number):
            return tf.fill([500 * (number + 1)], tf.constant(1, tf.uint8))

        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        try:
            with pytest.raises(OSError, match=r"Shard 3 cannot be written to .*are kept"):
                cache((np.arange(6),), tmp_path, map=grow, examples_per_shard=1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        times = shard_times(tmp_path)
        assert len(times) == 3
        assert not list(tmp_path.rglob("*.tmp"))
        cached = cache((np.arange(6),), tmp_path, map=grow, examples_per_shard=1)
        assert times.items() <= shard_times(tmp_path).items()
        assert cached.num_examples == 6

    def test_a_folder_that_is_removed_meanwhile_is_named(self, tmp_path):
        def remove(number):
            if number == 20:
                # In one step: `rmtree` fails when a file is made beneath it.
                (tmp_path / "cache").rename(tmp_path / "elsewhere")
            return number

        with pytest.raises(OSError, match=r"cannot be written to .*cache"):
            cache_until_killed.write(tmp_path / "cache", remove)

    def test_an_example_that_fails_leaves_no_half_shard(self, tmp_path):
        files = pipelines.TFRecordFiles(tmp_path / "a.tfrecord")
        with tf.io.TFRecordWriter(files.files.as_posix()) as writer:
            for number in range(8):
                writer.write(b"%d" % number)
        flip_last_data_byte(files.files)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"Record 7 of .*a\.tfrecord"):
            cache(files, tmp_path / "cache", examples_per_shard=3)
        assert len(shard_times(tmp_path / "cache")) == 2
        assert not list(tmp_path.rglob("*.tmp"))

    def test_a_damaged_shard_is_named_and_made_again(self, tmp_path):
        source = (np.arange(9),)
        cached = cache(source, tmp_path, examples_per_shard=3)
        times = shard_times(tmp_path)
        flip_last_data_byte(cached.paths[1])
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"Record 2 of .*00001-.*repair=True"
        ):
            examples(cache(source, tmp_path, examples_per_shard=3), cache_bytes=0)
        repaired = cache(source, tmp_path, examples_per_shard=3, repair=True)
        assert [number for (number,) in examples(repaired)] == list(range(9))
        assert repaired == cached
        now = shard_times(tmp_path)
        assert [now[name] == times[name] for name in sorted(now)] == [True, False, True]

    @pytest.mark.parametrize("damage", ["cut", "gone", "index", "elsewhere", "fewer"])
    def test_what_is_missing_is_named_and_made_again(self, tmp_path, damage):
        cached = cache((np.arange(9),), tmp_path, examples_per_shard=3)
        index = cached.folder / "index.json"
        content = json.loads(index.read_text())
        if damage == "cut":
            cached.paths[1].write_bytes(cached.paths[1].read_bytes()[:-1])
        elif damage == "gone":
            cached.paths[1].unlink()
        elif damage == "index":
            index.write_text("{")
        elif damage == "elsewhere":
            content["shards"][0]["file"] = "../" + content["shards"][0]["file"]
        else:
            del content["shards"][1]
        if damage in ("elsewhere", "fewer"):
            index.write_text(json.dumps(content))
        culprit = "00001-" if damage in ("cut", "gone") else "index.json"
        with pytest.raises(ValueError, match=rf"{culprit}.*repair=True"):
            cache((np.arange(9),), tmp_path, examples_per_shard=3)
        repaired = cache((np.arange(9),), tmp_path, examples_per_shard=3, repair=True)
        assert [number for (number,) in examples(repaired)] == list(range(9))


class TestRefused:
    def test_a_finished_pipeline(self, tmp_path, numbered):
        train = pipelines.training_pipeline(numbered, batch_size=2, seed=0)
        with pytest.raises(ValueError, match="Received a TrainingPipeline"):
            cache(train, tmp_path)

    @pytest.mark.parametrize(
        ("source", "options", "message"),
        [
            ((np.arange(6),), {"map": lambda x, seed: x}, "must not need a seed .* in a cache"),
            ((np.arange(6),), {"map": lambda x: tf.random.shuffle([x, x])}, "RandomShuffle"),
            (tf.data.Dataset.range(6).shuffle(6), {}, "Remove shuffles"),
            (tf.data.Dataset.range(6).repeat(), {}, "must be finite"),
            ((np.arange(6),), {"map": lambda x: tf.sparse.from_dense([x])}, "to_dense"),
            ((np.arange(6),), {"examples_per_shard": 0}, "`examples_per_shard` must be"),
            ((np.arange(6),), {"version": 2}, "`version` must be a text"),
            ((np.arange(6),), {"repair": 1}, "`repair` must be True or False"),
            ((np.arange(6),), {"progress": None}, "`progress` must be True or False"),
        ],
    )
    def test_bad_arguments_before_anything_is_written(self, tmp_path, source, options, message):
        with pytest.raises(ValueError, match=message):
            cache(source, tmp_path, **options)
        assert not list(tmp_path.iterdir())

    def test_folders_that_cannot_hold_a_cache(self, tmp_path):
        with pytest.raises(ValueError, match="must be a local folder"):
            cache((np.arange(6),), "gs://bucket/cache")
        (tmp_path / "file").touch()
        with pytest.raises(ValueError, match="Received the file"):
            cache((np.arange(6),), tmp_path / "file")


def test_progress_is_one_line_on_a_terminal_and_none_on_request(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    cache((np.arange(32),), tmp_path, progress=True)
    shown = capsys.readouterr()
    assert "preprocessing" in shown.err
    assert "16/16" in shown.err
    assert shown.out == ""
    cache((np.arange(33),), tmp_path, progress=False)
    assert capsys.readouterr().err == ""
