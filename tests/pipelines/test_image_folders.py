"""Image files in class folders, and decoding no more than what is kept."""

import numpy as np
import pytest
import tensorflow as tf

import pipelines


def picture(number, height=40, width=50):
    """A smooth image, uint8 of shape (height, width, 3), different for each number."""
    rows, columns = np.mgrid[:height, :width]
    channels = [rows * 3, columns * 2, (rows + columns + 7 * number) % 256]
    return np.stack(channels, axis=-1).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    for label, name in enumerate(["cat", "dog"]):
        (tmp_path / name).mkdir()
        for number in range(3):
            image = picture(3 * label + number)
            jpeg = number != 1
            data = tf.io.encode_jpeg(image) if jpeg else tf.io.encode_png(image)
            suffix = "JPG" if jpeg else "png"
            (tmp_path / name / f"{number}.{suffix}").write_bytes(data.numpy())
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "cat" / ".hidden.jpg").write_text("no image")
    (tmp_path / "cat" / "folder.jpg").mkdir()
    return tmp_path


def small(image, label):
    return tf.image.resize(image, [4, 4]), label


def crop(encoded, label, *, seed):
    return pipelines.decode_and_random_crop(encoded, (16, 20), seed=seed), label


class TestImageFolders:
    def test_labels_follow_the_folders(self, folder):
        source = pipelines.ImageFolders(folder)
        assert source.class_names == ["cat", "dog"]
        valid = pipelines.evaluation_pipeline(source, batch_size=6, map=small)
        images, labels, _ = next(iter(valid))
        np.testing.assert_array_equal(labels, [0, 0, 0, 1, 1, 1])
        assert images.shape == (6, 4, 4, 3)
        expected = tf.image.resize(picture(4), [4, 4])  # a PNG, which loses nothing
        np.testing.assert_array_equal(images[4], expected)

    def test_any_step_is_reached_at_once(self, folder):
        train = pipelines.training_pipeline(
            pipelines.ImageFolders(folder, decode=False), batch_size=2, seed=0, map=crop
        )
        assert train.element_spec[0].shape == (2, 16, 20, 3)
        whole = list(train.take(5))
        for sought, expected in zip(train.starting_at(3).take(2), whole[3:], strict=True):
            np.testing.assert_array_equal(sought[0], expected[0])
        far = [batch[1].numpy() for batch in train.starting_at(3 * 10**9).take(3)]
        assert sorted(np.concatenate(far)) == [0, 0, 0, 1, 1, 1]

    def test_grey(self, folder):
        source = pipelines.ImageFolders(folder, channels=1)
        valid = pipelines.evaluation_pipeline(source, batch_size=2, map=small)
        assert valid.element_spec[0].shape == (2, 4, 4, 1)

    @pytest.mark.parametrize("name", ["0.JPG", "1.png"])
    @pytest.mark.parametrize("decode", [True, False])
    def test_an_image_cut_off_is_named(self, folder, name, decode):
        path = folder / "dog" / name
        path.write_bytes(path.read_bytes()[:-40])
        source = pipelines.ImageFolders(folder, decode=decode)
        function = small if decode else lambda encoded, label: (tf.strings.length(encoded), label)
        valid = pipelines.evaluation_pipeline(source, batch_size=6, map=function)
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=f"The image file {path}, of .* cannot be decoded"
        ):
            list(valid)

    @pytest.mark.parametrize("data", [b"", b"no image"])
    def test_a_file_that_is_no_image_is_named(self, folder, data):
        path = folder / "cat" / "0.JPG"
        path.write_bytes(data)
        valid = pipelines.evaluation_pipeline(
            pipelines.ImageFolders(folder), batch_size=6, map=small
        )
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"The image file {path}"):
            list(valid)

    def test_bytes_behind_the_image_do_not_matter(self, folder):
        path = folder / "cat" / "0.JPG"
        path.write_bytes(path.read_bytes() + bytes(10))
        valid = pipelines.evaluation_pipeline(
            pipelines.ImageFolders(folder), batch_size=6, map=small
        )
        assert len(list(valid)) == 1

    def test_what_is_not_there_is_refused(self, folder, tmp_path):
        empty = tmp_path / "empty"
        empty.mkdir()
        for directory, message in [
            (folder / "none", "which is no folder"),
            (empty, "holds no folder"),
            (tmp_path, None),
        ]:
            source = pipelines.ImageFolders(directory)
            if message is not None:
                with pytest.raises(ValueError, match=message):
                    pipelines.training_pipeline(source, batch_size=1, seed=0)
        (empty / "class").mkdir()
        with pytest.raises(ValueError, match=r"no \.jpg, \.jpeg, \.png file lies"):
            pipelines.training_pipeline(pipelines.ImageFolders(empty), batch_size=1, seed=0)

    @pytest.mark.parametrize(
        ("options", "message"),
        [({"channels": 2}, "`channels` must be 1 or 3"), ({"decode": 1}, "`decode` must be True")],
    )
    def test_options_are_checked(self, folder, options, message):
        with pytest.raises(ValueError, match=message):
            pipelines.training_pipeline(
                pipelines.ImageFolders(folder, **options), batch_size=1, seed=0
            )

    def test_images_of_any_size_need_a_map(self, folder):
        with pytest.raises(ValueError, match="same known shape"):
            pipelines.training_pipeline(pipelines.ImageFolders(folder), batch_size=1, seed=0)


class TestCrops:
    @pytest.mark.parametrize("encode", [tf.io.encode_jpeg, tf.io.encode_png])
    def test_a_crop_is_a_part_of_the_image(self, encode):
        encoded = encode(picture(1))
        whole = tf.io.decode_image(encoded).numpy()
        center = pipelines.decode_and_center_crop(encoded, (10, 20))
        np.testing.assert_array_equal(center[:, :-1], whole[15:25, 15:34])
        assert np.abs(center[:, -1].numpy().astype(int) - whole[15:25, 34]).max() <= 16
        places = set()
        for number in range(20):
            part = pipelines.decode_and_random_crop(encoded, (38, 49), seed=(0, number)).numpy()
            fits = [
                (row, column)
                for row in range(3)
                for column in range(2)
                if np.array_equal(part[:, :48], whole[row : row + 38, column : column + 48])
            ]
            assert len(fits) == 1
            places.add(fits[0])
        assert len(places) == 6

    def test_the_seed_decides(self):
        encoded = tf.io.encode_jpeg(picture(1))
        for function in (
            pipelines.decode_and_random_crop,
            pipelines.decode_and_random_resized_crop,
        ):
            first, again, other = (
                function(encoded, (16, 16), seed=seed).numpy() for seed in [(1, 2), (1, 2), (1, 3)]
            )
            np.testing.assert_array_equal(first, again)
            assert not np.array_equal(first, other)

    def test_the_whole_image_resized(self):
        encoded = tf.io.encode_png(picture(1))
        resized = pipelines.decode_and_random_resized_crop(
            encoded, (20, 25), seed=(0, 0), area_fraction=(1.0, 1.0), aspect_ratio=(1.25, 1.25)
        )
        np.testing.assert_allclose(resized, tf.image.resize(picture(1), [20, 25]), atol=1e-3)

    def test_an_image_too_small_is_refused(self):
        encoded = tf.io.encode_jpeg(picture(1))
        for crop_it in (
            lambda: pipelines.decode_and_random_crop(encoded, (41, 20), seed=(0, 0)),
            lambda: pipelines.decode_and_center_crop(encoded, (41, 20)),
        ):
            with pytest.raises(
                tf.errors.InvalidArgumentError,
                match=r"(?s)must be at least .* the crop, \(41, 20\).*40,? 50",
            ):
                crop_it()

    @pytest.mark.parametrize("size", [16, (16,), (0, 16), (16, 2.5)])
    def test_the_size_is_checked(self, size):
        with pytest.raises(ValueError, match=r"`size` must be|must be an integer of at least 1"):
            pipelines.decode_and_center_crop(b"", size)
