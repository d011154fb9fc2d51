"""TFRecord and ArrayRecord files: read once each, repeatable, and bad ones named."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import pipelines

FEATURES = {
    "number": tf.io.FixedLenFeature([], tf.int64),
    "name": tf.io.FixedLenFeature([], tf.string),
}
# One payload byte flipped, at this distance from the record's first byte.
_IN_LENGTH, _IN_DATA = 0, 14


def serialised(number):
    features = {
        "number": tf.train.Feature(int64_list=tf.train.Int64List(value=[number])),
        "name": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"%d" % number])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write(folder, lengths, compression=""):
    """Write records 0, 1, 2, ... to files of `lengths`; return their glob."""
    number = 0
    for place, length in enumerate(lengths):
        path = folder / f"part-{place:02d}.tfrecord"
        with tf.io.TFRecordWriter(str(path), compression) as writer:
            for _ in range(length):
                writer.write(serialised(number))
                number += 1
    return str(folder / "part-*.tfrecord")


def record_start(path, number):
    data, byte = path.read_bytes(), 0
    for _ in range(number):
        byte += int.from_bytes(data[byte : byte + 8], "little") + 16
    return byte


def flip(path, byte):
    data = bytearray(path.read_bytes())
    data[byte] ^= 1
    path.write_bytes(data)


def numbers(pipeline, steps):
    return np.concatenate([batch["number"] for batch in pipeline.take(steps)])


def training(source, **options):
    arguments = {"batch_size": 4, "seed": 0, "keep": ["number"], "cache_bytes": 0} | options
    return pipelines.training_pipeline(source, **arguments)


@pytest.fixture
def files(tmp_path):
    return write(tmp_path, [5, 0, 7, 3, 9])


@pytest.fixture
def one_file(tmp_path):
    write(tmp_path, [8])
    return tmp_path / "part-00.tfrecord"


class TestTFRecordFiles:
    def test_an_epoch_has_every_record_once_and_epochs_differ(self, files):
        train = training(pipelines.TFRecordFiles(files, FEATURES))
        assert (train.num_examples, train.steps_per_epoch) == (24, 6)
        epochs = numbers(train, 12).reshape(2, 24)
        for epoch in epochs:
            assert sorted(epoch) == list(range(24))
        assert not np.array_equal(*epochs)

    @pytest.mark.parametrize("shuffle", [True, False])
    @pytest.mark.parametrize("step", [1, 6, 8])
    def test_seeking_equals_reading_on(self, files, shuffle, step):
        train = training(
            pipelines.TFRecordFiles(files, FEATURES), shuffle=shuffle, shuffle_buffer_size=6
        )
        whole = numbers(train, 12)
        np.testing.assert_array_equal(
            numbers(train.starting_at(step), 12 - step), whole[4 * step :]
        )

    def test_without_shuffle_the_order_is_that_of_the_files(self, files):
        train = training(pipelines.TFRecordFiles(files, FEATURES), shuffle=False)
        np.testing.assert_array_equal(numbers(train, 6), np.arange(24))

    @pytest.mark.parametrize("keep", [["number"], ["name", "number"]])
    def test_small_sets_are_held_in_memory_parsed_or_as_records(self, files, keep):
        source = pipelines.TFRecordFiles(files, FEATURES)
        train = training(source, keep=keep, cache_bytes=2**20)
        assert "in memory" in pipelines.describe(train)
        assert sorted(numbers(train, 6)) == list(range(24))
        two = numbers(train.starting_at(10**9), 2)
        np.testing.assert_array_equal(two[4:], numbers(train.starting_at(10**9 + 1), 1))

    def test_evaluation_reads_in_order(self, files):
        valid = pipelines.evaluation_pipeline(
            pipelines.TFRecordFiles(files, FEATURES),
            batch_size=7,
            cache_bytes=0,
            map=lambda example: (example["name"], example["number"]),
        )
        labels = np.concatenate([y for _, y, _ in valid])
        np.testing.assert_array_equal(labels[:24], np.arange(24))

    def test_without_features_records_are_strings(self, files):
        train = pipelines.training_pipeline(
            pipelines.TFRecordFiles(files), batch_size=4, seed=0, shuffle=False, cache_bytes=0
        )
        assert next(iter(train))[0] == serialised(0)

    def test_compressed_files_are_counted_by_reading(self, tmp_path):
        files = write(tmp_path, [5, 3], "GZIP")
        train = training(pipelines.TFRecordFiles(files, FEATURES, compression="GZIP"))
        assert sorted(numbers(train, 2)) == list(range(8))

    def test_stated_lengths_are_believed(self, files):
        source = pipelines.TFRecordFiles(files, FEATURES, lengths=[5, 0, 7, 3, 9])
        np.testing.assert_array_equal(
            numbers(training(source), 6),
            numbers(training(pipelines.TFRecordFiles(files, FEATURES)), 6),
        )

    def test_out_of_order_reading_still_reads_each_once(self, files):
        train = training(pipelines.TFRecordFiles(files, FEATURES), deterministic=False)
        assert sorted(numbers(train, 6)) == list(range(24))
        text = pipelines.describe(train)
        assert "free order" in text
        assert "may repeat or miss" in text

    def test_describe_says_how_files_are_read(self, files):
        text = pipelines.describe(training(pipelines.TFRecordFiles(files, FEATURES)))
        assert "24 records of 4 files" in text
        assert "4 at a time, permuted per epoch" in text
        assert "up to 24 read ahead" in text
        assert "buffer of 24 examples (about " in text


class TestCorruptFiles:
    def test_corrupt_data_is_named_when_it_is_read(self, one_file):
        byte = record_start(one_file, 5)
        flip(one_file, byte + _IN_DATA)
        train = training(pipelines.TFRecordFiles(one_file, FEATURES), shuffle=False)
        with pytest.raises(
            tf.errors.InvalidArgumentError,
            match=rf"Record 5 of {one_file}, at byte {byte}, cannot be read",
        ):
            numbers(train, 2)

    def test_a_corrupt_length_is_named_at_once(self, one_file):
        byte = record_start(one_file, 5)
        flip(one_file, byte + _IN_LENGTH)
        with pytest.raises(ValueError, match=rf"Record 5 of '{one_file}', at byte {byte}, is corr"):
            training(pipelines.TFRecordFiles(one_file, FEATURES))

    def test_a_file_cut_off_is_named_at_once(self, one_file):
        one_file.write_bytes(one_file.read_bytes()[:-3])
        with pytest.raises(ValueError, match=rf"Record 7 of '{one_file}'.*cut off"):
            training(pipelines.TFRecordFiles(one_file, FEATURES))

    @pytest.mark.parametrize(
        ("written", "stated"), [("GZIP", "GZIP"), ("", "GZIP"), ("GZIP", "ZLIB")]
    )
    def test_a_compressed_file_that_cannot_be_read_is_named_at_once(
        self, tmp_path, written, stated
    ):
        write(tmp_path, [8], written)
        (path,) = tmp_path.iterdir()
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(
            ValueError, match=rf"Record \d of '{path}' cannot be read with .*{stated}"
        ):
            training(pipelines.TFRecordFiles(path, FEATURES, compression=stated))

    @pytest.mark.parametrize(
        ("place", "left"),
        [(_IN_DATA, [0, 1, 2, 3, 4, 6, 7]), (_IN_LENGTH, [0, 1, 2, 3, 4])],
    )
    def test_corrupt_records_are_skipped_and_counted_when_asked(self, one_file, place, left):
        flip(one_file, record_start(one_file, 5) + place)
        source = pipelines.TFRecordFiles(one_file, FEATURES, skip_corrupt=True)
        train = training(source, batch_size=len(left), shuffle=False)
        np.testing.assert_array_equal(numbers(train, 1), left)
        assert "1 corrupt left out" in pipelines.describe(train)

    def test_a_file_that_goes_away_is_named(self, files, tmp_path):
        train = training(pipelines.TFRecordFiles(files, FEATURES), shuffle=False)
        (tmp_path / "part-02.tfrecord").unlink()
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"part-02.*not there any more"):
            numbers(train, 6)

    def test_a_file_shorter_than_stated_is_named(self, one_file):
        train = training(pipelines.TFRecordFiles(one_file, FEATURES, lengths=[9]), batch_size=9)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"Record 8 of .*`lengths` states"):
            numbers(train, 1)


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"features": {"label": FEATURES["number"]}}, r"has the features \['name', 'number'\]"),
            ({"features": {"name": FEATURES["number"]}}, "`features` does not fit the first rec"),
            ({"features": []}, "`features` must be a dictionary"),
            ({"compression": "gzip"}, "`compression` must be '', 'GZIP' or 'ZLIB'.*'gzip'"),
            ({"lengths": [1, 2]}, "2 numbers.* for 5 files"),
            ({"lengths": ["5", 0, 7, 3, 9]}, r"`lengths\[0\]` must be an integer .*'5'"),
            ({"lengths": [5, 0, 7, -3, 9]}, r"`lengths\[3\]` must be an integer .*-3"),
            ({"lengths": [1] * 5, "skip_corrupt": True}, "`skip_corrupt` finds and counts"),
        ],
    )
    def test_what_does_not_fit_the_files(self, files, options, message):
        source = pipelines.TFRecordFiles(files, **({"features": FEATURES} | options))
        with pytest.raises(ValueError, match=message):
            training(source, keep=None)

    def test_a_later_record_is_named_where_the_set_is_held_in_memory(self, files, tmp_path):
        other = tf.train.Example().SerializeToString()
        with tf.io.TFRecordWriter(str(tmp_path / "part-02.tfrecord")) as writer:
            for record in [serialised(0), serialised(1), other]:
                writer.write(record)
        message = (
            r"cannot be parsed at record 2 of '.*part-02\.tfrecord': Feature: number .* found\. "
        )
        with pytest.raises(ValueError, match=message):
            training(pipelines.TFRecordFiles(files, FEATURES), cache_bytes=2**20)
        train = training(pipelines.TFRecordFiles(files, FEATURES))
        with pytest.raises(tf.errors.InvalidArgumentError, match="Feature: number"):
            numbers(train, 5)

    def test_messages_hold_nothing_of_tensorflows_own(self, files, tmp_path):
        with pytest.raises(ValueError, match="does not fit the first record") as found:
            training(pipelines.TFRecordFiles(files, {"label": FEATURES["number"]}), keep=None)
        assert not re.search(r"function_node|\[Op:", str(found.value))
        write(tmp_path, [8], "GZIP")
        path = tmp_path / "part-00.tfrecord"
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(ValueError, match="cannot be read with") as found:
            training(pipelines.TFRecordFiles(path, FEATURES, compression="GZIP"))
        assert not re.search(r"function_node|\[Op:|\.\.", str(found.value))

    def test_features_that_are_not_there(self, files):
        with pytest.raises(ValueError, match=r"\['image'\]. It has \['name', 'number'\]"):
            training(pipelines.TFRecordFiles(files, FEATURES), keep=["image"])
        with pytest.raises(ValueError, match="without `features` the records"):
            training(pipelines.TFRecordFiles(files), keep=["image"])

    def test_records_that_are_no_examples(self, tmp_path):
        path = tmp_path / "x.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(b"\xff\xff\xff")
        with pytest.raises(ValueError, match=r"must be serialised tf\.train\.Examples"):
            training(pipelines.TFRecordFiles(path, FEATURES))

    def test_files_that_are_not_there(self, tmp_path):
        with pytest.raises(ValueError, match=r"Nothing matches .*none-\*"):
            training(pipelines.TFRecordFiles(str(tmp_path / "none-*")))
        with pytest.raises(ValueError, match=r"is a folder. Pass a glob"):
            training(pipelines.TFRecordFiles(tmp_path))
        with pytest.raises(ValueError, match=r"at least one file. Received an empty"):
            training(pipelines.TFRecordFiles([]))

    def test_a_file_named_twice(self, files, tmp_path):
        with pytest.raises(ValueError, match=r"Named twice: .*part-00"):
            training(pipelines.TFRecordFiles([files, tmp_path / "part-00.tfrecord"]))

    def test_files_without_records(self, tmp_path):
        with pytest.raises(ValueError, match="`source` is empty"):
            training(pipelines.TFRecordFiles(write(tmp_path, [0, 0]), FEATURES))


class TestArrayRecordFiles:
    @pytest.fixture
    def array_files(self, tmp_path):
        module = pytest.importorskip("array_record.python.array_record_module")
        number = 0
        for place, length in enumerate([5, 12, 7]):
            path = tmp_path / f"part-{place}.array_record"
            writer = module.ArrayRecordWriter(str(path), "group_size:1")
            for _ in range(length):
                writer.write(serialised(number))
                number += 1
            writer.close()
        return str(tmp_path / "part-*.array_record")

    @pytest.mark.parametrize("cache_bytes", [0, 2**20])
    def test_it_reads_the_permutation_that_arrays_have(self, array_files, cache_bytes):
        source = pipelines.ArrayRecordFiles(array_files, FEATURES)
        train = training(source, cache_bytes=cache_bytes)
        arrays = training({"number": np.arange(24)})
        np.testing.assert_array_equal(numbers(train, 9), numbers(arrays, 9))
        np.testing.assert_array_equal(
            numbers(train.starting_at(10**9), 2), numbers(arrays.starting_at(10**9), 2)
        )

    def test_corrupt_records_are_named(self, tmp_path):
        module = pytest.importorskip("array_record.python.array_record_module")
        path = tmp_path / "large.array_record"
        writer = module.ArrayRecordWriter(str(path), "group_size:1,uncompressed")
        for _ in range(40):
            writer.write(b"x" * 10_000)
        writer.close()
        flip(path, 200_000)
        train = pipelines.training_pipeline(
            pipelines.ArrayRecordFiles(path), batch_size=40, seed=0, cache_bytes=0
        )
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=rf"Record \d+ of '{path}' cannot be read: Corrupt"
        ):
            next(iter(train))

    def test_a_program_may_end_while_records_are_read_ahead(self, tmp_path):
        module = pytest.importorskip("array_record.python.array_record_module")
        path = tmp_path / "many.array_record"
        writer = module.ArrayRecordWriter(str(path), "group_size:1")
        for _ in range(20_000):
            writer.write(b"x" * 100)
        writer.close()
        script = Path(__file__).with_name("exit_while_reading.py")
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, script, path],
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stderr

    def test_files_of_another_kind_are_named(self, array_files, tmp_path):
        path = tmp_path / "part-3.array_record"
        path.write_bytes(b"no record")
        with pytest.raises(ValueError, match=f"'{path}' is cut off, corrupt at its end or no"):
            training(pipelines.ArrayRecordFiles(array_files, FEATURES))

    def test_without_the_package_it_says_what_to_install(self, array_files, monkeypatch):
        monkeypatch.setitem(sys.modules, "array_record.python", None)
        with pytest.raises(ImportError, match=r'pip install "tfplaybook\[datasets\]"'):
            training(pipelines.ArrayRecordFiles(array_files, FEATURES))
