"""The embedded data set, and TFDS sources read through it."""

import contextlib
import sys

import digits
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from digits.builder import assign_splits
from sklearn.datasets import load_digits

import pipelines

SPLITS = ("train", "validation", "test")


def labels_of(pipeline, steps):
    return np.concatenate([batch[1] for batch in pipeline.take(steps)])


class TestBuilder:
    def test_sizes(self, digits_builder):
        sizes = {name: digits_builder.info.splits[name].num_examples for name in SPLITS}
        assert sizes == {"train": 1197, "validation": 300, "test": 300}

    def test_splits_are_stratified_to_within_two_examples(self):
        _, labels = load_digits(return_X_y=True)
        split = assign_splits(labels)
        for name in SPLITS:
            share = np.mean(split == name)
            counts = np.bincount(labels[split == name], minlength=10)
            assert np.all(np.abs(counts - share * np.bincount(labels)) <= 2)

    def test_the_three_splits_hold_every_image_once(self, digits_builder):
        levels, labels = load_digits(return_X_y=True)
        expected = sorted((*image, label) for image, label in zip(levels, labels, strict=True))
        read = [
            (*np.rint(example["image"].ravel() / 255 * 16), example["label"])
            for name in SPLITS
            for example in tfds.as_numpy(digits_builder.as_dataset(split=name))
        ]
        assert sorted(read) == expected

    def test_images_use_the_whole_range(self, digits_builder):
        examples = digits_builder.as_dataset(split="test", batch_size=-1)
        assert examples["image"].dtype == np.uint8
        assert examples["image"].shape == (300, 8, 8, 1)
        assert (examples["image"].numpy().min(), examples["image"].numpy().max()) == (0, 255)

    def test_preparing_is_quiet_and_done_once(self, tmp_path, capfd):
        first = digits.load(data_dir=tmp_path)
        files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        assert digits.load(data_dir=tmp_path).info.full_name == first.info.full_name
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files
        assert capfd.readouterr().out == ""

    def test_an_unknown_name_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"no TFDS data set 'digitz'"):
            digits.load("digitz", data_dir=tmp_path)

    def test_a_misspelt_name_gets_the_closest(self, tmp_path):
        with pytest.raises(ValueError, match=r"Did you mean 'mnist'\?"):
            digits.load("mnits", data_dir=tmp_path)

    def test_without_a_network_the_failure_is_quick_and_clear(self, tmp_path, monkeypatch):
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
        with pytest.raises(
            ConnectionError, match=r"'mnist/.*' is not prepared in .* cannot be reached"
        ):
            digits.load("mnist", data_dir=tmp_path)
        with pytest.raises(ConnectionError, match="cannot be reached"):
            pipelines.training_pipeline(
                "mnist", split="train", batch_size=1, seed=0, data_dir=tmp_path, download=True
            )

    def test_a_missing_set_logs_nothing(self, tmp_path, caplog, capfd):
        with contextlib.suppress(ValueError):
            pipelines.training_pipeline(
                "mnist", split="train", batch_size=1, seed=0, data_dir=tmp_path
            )
        assert caplog.records == []
        assert "Variant folder" not in capfd.readouterr().err


class TestTfdsSource:
    @pytest.mark.parametrize("cache_bytes", [512 * 2**20, 0])
    def test_in_memory_and_streamed_hold_the_same_examples(self, digits_builder, cache_bytes):
        train = pipelines.training_pipeline(
            digits_builder, split="train", batch_size=399, seed=0, cache_bytes=cache_bytes
        )
        valid = pipelines.evaluation_pipeline(
            digits_builder, split="train", batch_size=399, cache_bytes=cache_bytes
        )
        assert train.num_examples == valid.num_examples == 1197
        assert sorted(labels_of(train, 3)) == sorted(labels_of(valid, 3))
        expected = digits_builder.as_dataset(split="train", batch_size=-1)["label"]
        np.testing.assert_array_equal(labels_of(valid, 3), expected)
        assert ("in memory" in pipelines.describe(valid)) == (cache_bytes > 0)

    def test_a_name_is_the_same_as_its_builder(self, digits_builder):
        by_builder, by_name = (
            pipelines.training_pipeline(source, split="train[:100]", batch_size=10, seed=0, **where)
            for source, where in [
                (digits_builder, {}),
                ("digits", {"data_dir": digits_builder.data_path.parents[1]}),
            ]
        )
        assert by_name.num_examples == 100
        np.testing.assert_array_equal(labels_of(by_name, 10), labels_of(by_builder, 10))

    def test_keep_gives_dictionaries_of_the_named_features(self, digits_builder):
        train = pipelines.training_pipeline(
            digits_builder, split="test", batch_size=10, seed=0, keep=["label"]
        )
        assert train.element_spec.keys() == {"label"}

    def test_download_prepares(self, tmp_path):
        builder = digits.Digits(data_dir=tmp_path)
        with pytest.raises(ValueError, match=r"'digits/1.0.0' is not prepared.*`download=True`"):
            pipelines.training_pipeline(builder, split="train", batch_size=10, seed=0)
        train = pipelines.training_pipeline(
            builder, split="train", batch_size=10, seed=0, download=True
        )
        assert train.num_examples == 1197

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, r"`split` must name a split .*\['test', 'train', 'validation'\].*None"),
            ({"split": "valid"}, "Received: 'valid'"),
            ({"split": "train["}, r"Received: 'train\['"),
            (
                {"split": "train", "keep": ["picture"]},
                r"\['picture'\]. It has \['image', 'label'\]",
            ),
            ({"split": "train", "data_dir": "data"}, "a builder knows its own directory"),
            ({"split": "train", "cache_bytes": -1}, "`cache_bytes` must be an integer of at least"),
        ],
    )
    def test_what_is_not_there_is_refused(self, digits_builder, options, message):
        with pytest.raises(ValueError, match=message):
            pipelines.training_pipeline(digits_builder, batch_size=10, seed=0, **options)

    def test_an_unknown_name_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"no TFDS data set 'digitz'"):
            pipelines.training_pipeline(
                "digitz", split="train", batch_size=10, seed=0, data_dir=tmp_path
            )
        with pytest.raises(
            ValueError, match=r"in the default directory of TFDS\. Did you mean 'mnist'\?"
        ):
            pipelines.training_pipeline("mnits", split="train", batch_size=10, seed=0)

    def test_without_tfds_a_name_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
        with pytest.raises(ImportError, match=r'pip install "tfplaybook\[datasets\]"'):
            pipelines.training_pipeline("digits", split="train", batch_size=10, seed=0)


class TestTfdsFormats:
    """Files of records are read directly, and say what TFDS itself would say."""

    @pytest.mark.parametrize("cache_bytes", [0, 512 * 2**20])
    def test_array_record_is_reached_by_index(self, tmp_path, cache_bytes):
        pytest.importorskip("array_record")
        builder = digits.Digits(data_dir=tmp_path, file_format="array_record")
        train = pipelines.training_pipeline(
            builder,
            split="train[:40]",
            batch_size=8,
            seed=0,
            download=True,
            cache_bytes=cache_bytes,
        )
        valid = pipelines.evaluation_pipeline(
            builder, split="train[:40]", batch_size=40, cache_bytes=cache_bytes
        )
        images, labels, _ = next(iter(valid))
        expected = builder.as_data_source(split="train[:40]")
        np.testing.assert_array_equal(labels, [example["label"] for example in expected])
        np.testing.assert_array_equal(images, [example["image"] for example in expected])
        by_index = pipelines.training_pipeline((images, labels), batch_size=8, seed=0)
        for step in (0, 10**9):
            np.testing.assert_array_equal(
                labels_of(train.starting_at(step), 3), labels_of(by_index.starting_at(step), 3)
            )

    @pytest.mark.parametrize("keep", [None, ["image"], ["image", "label"]])
    def test_encoded_images_are_handed_on(self, digits_builder, keep):
        def corner(*example):
            encoded = example[0]["image"] if keep else example[0]
            return tf.ensure_shape(tf.io.decode_png(encoded, 1)[:4, :4], [4, 4, 1])

        options = {"split": "test", "batch_size": 10, "seed": 0, "keep": keep}
        whole = next(iter(pipelines.training_pipeline(digits_builder, **options)))
        corners = pipelines.training_pipeline(
            digits_builder, encoded=["image"], map=corner, **options
        )
        expected = (whole["image"] if keep else whole[0])[:, :4, :4]
        np.testing.assert_array_equal(next(iter(corners)), expected)

    def test_hosts_share_a_split(self, digits_builder):
        shares = [
            pipelines.training_pipeline(
                digits_builder,
                split="train",
                batch_size=100,
                seed=0,
                cache_bytes=0,
                host=pipelines.Host(index, 2),
            )
            for index in range(2)
        ]
        assert [share.steps_per_epoch for share in shares] == [5, 5]
        assert "below file level: 598 records" in pipelines.describe(shares[0])
