"""Image files in class folders as a source, read by index."""

import dataclasses
import os
from collections.abc import Sequence

import tensorflow as tf

from pipelines._checks import check_flag
from pipelines._dataset import readable_size
from pipelines._fingerprint import files_fingerprint
from pipelines._sources import IndexedSource

_SUFFIXES = (".jpg", ".jpeg", ".png")
_ENDS = (b"\xff\xd9", b"IEND\xaeB`\x82")  # of a JPEG and of a PNG


@dataclasses.dataclass(frozen=True)
class ImageFolders:
    """JPEG and PNG files in one folder per class, as the `source` of a pipeline.

    The folders `directory/<class>/` are the classes in alphabetical order; files whose names begin
    with a dot, and files of other kinds, are passed over. Examples are (image, label) with an
    int64 label. Files are read by index when they are needed: any step is reached at once, and
    nothing is held.

    Args:
        directory: The folder of the class folders.
        channels: 1 for grey, 3 for colour.
        decode: Whether images are decoded: to uint8 of shape (height, width, channels), any size,
            which `map` brings to one. Otherwise `map` is given the file's bytes, a scalar string,
            for `decode_and_random_crop`. Either way a file that is cut off, or that is no image, is
            an error that names it. One that is damaged inside and ends as it should is decoded as
            far as the decoder can, or is the decoder's own error, which does not name the file.

    Examples:
        >>> import os, tempfile
        >>> import pipelines
        >>> import tensorflow as tf
        >>> directory = tempfile.mkdtemp()
        >>> for name in ("cat", "dog"):
        ...     os.mkdir(os.path.join(directory, name))
        ...     image = tf.io.encode_png(tf.zeros([8, 8, 3], tf.uint8))
        ...     tf.io.write_file(os.path.join(directory, name, "1.png"), image)
        >>> folders = pipelines.ImageFolders(directory)
        >>> folders.class_names
        ['cat', 'dog']
        >>> train = pipelines.training_pipeline(
        ...     folders,
        ...     batch_size=2,
        ...     seed=0,
        ...     map=lambda image, label: (tf.image.resize(image, [4, 4]), label),
        ... )
        >>> next(iter(train))[0].shape.as_list()
        [2, 4, 4, 3]
    """

    directory: str | os.PathLike[str]
    channels: int = 3
    decode: bool = True

    @property
    def class_names(self) -> list[str]:
        """The names of the classes; label k is the name at place k."""
        directory = os.fspath(self.directory)
        if not os.path.isdir(directory):
            raise ValueError(
                "`directory` must be a folder that holds one folder per class. Received "
                f"{directory!r}, which is no folder: {os.path.abspath(directory)!r}."
            )
        with os.scandir(directory) as entries:
            names = sorted(e.name for e in entries if e.is_dir() and e.name[0] != ".")
        if not names:
            raise ValueError(
                f"`directory` must hold one folder per class, and {directory!r} holds no folder. "
                "Put the images of each class into one."
            )
        return names

    def open(self, keep: Sequence[str] | None) -> IndexedSource:
        """Find the files; used by the pipelines.

        Raises:
            ValueError: If there is no such folder, no image, or an argument is not as described.
        """
        check_flag("decode", self.decode)
        if self.channels not in (1, 3):
            raise ValueError(f"`channels` must be 1 or 3. Received: {self.channels!r}.")
        if keep is not None:
            raise ValueError(
                "`keep` selects features by name, and the examples of `ImageFolders` are (image, "
                f"label). Received keep={keep!r}: remove it."
            )
        names = self.class_names
        found = [
            (entry.path, label, entry.stat().st_size)
            for label, name in enumerate(names)
            for entry in _image_files(os.path.join(os.fspath(self.directory), name))
        ]
        if not found:
            raise ValueError(
                f"`directory` must hold images, and no {', '.join(_SUFFIXES)} file lies in the "
                f"class folders {names!r:.200} of {os.fspath(self.directory)!r}."
            )
        with tf.device("CPU:0"):
            paths = tf.constant([path for path, _, _ in found])
            labels = tf.constant([label for _, label, _ in found], tf.int64)
        size = readable_size(sum(size for _, _, size in found))
        return IndexedSource(
            num_examples=len(found),
            fetch=lambda indices: (tf.gather(paths, indices), tf.gather(labels, indices)),
            raw_spec=(tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64)),
            where=f"{len(found):,} image files ({size}) of {len(names):,} classes",
            contents=lambda: files_fingerprint(path for path, _, _ in found),
            parse=self._read,
        )

    def _read(self, raw: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        path, label = raw
        encoded = tf.io.read_file(path)
        with tf.control_dependencies([_check_image(encoded, path)]):
            encoded = tf.identity(encoded)
        if not self.decode:
            return encoded, label
        image = tf.io.decode_image(encoded, self.channels, expand_animations=False)
        return tf.ensure_shape(image, [None, None, self.channels]), label


def _image_files(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        files = [
            e
            for e in entries
            if e.name[0] != "." and e.name.lower().endswith(_SUFFIXES) and e.is_file()
        ]
    return sorted(files, key=lambda entry: entry.name)


def _check_image(encoded: tf.Tensor, path: tf.Tensor) -> tf.Tensor:
    """Fail with the name of the file if it cannot be decoded.

    A whole file ends as its format says, which costs nothing to see. Only one that does not is
    tried: some writers append bytes.
    """
    longest = max(map(len, _ENDS))

    def ends_well() -> tf.Tensor:
        return tf.reduce_any([tf.strings.substr(encoded, -len(e), len(e)) == e for e in _ENDS])

    def decodes() -> tf.Tensor:
        tried = tf.data.Dataset.from_tensors(encoded).map(
            lambda data: tf.size(tf.io.decode_image(data, expand_animations=False)) > 0
        )
        failed = tf.data.Dataset.from_tensors(tf.constant(False))
        fine = tried.ignore_errors().concatenate(failed).take(1).get_single_element()
        parts = ["The image file ", path, ", of ", tf.strings.as_string(length)]
        parts += [" bytes, cannot be decoded: it is cut off, corrupt or no image. "]
        parts += ["Replace or remove it."]
        with tf.control_dependencies([tf.debugging.Assert(fine, [tf.strings.join(parts)])]):
            return tf.identity(fine)

    length = tf.strings.length(encoded)
    complete = tf.cond(length >= longest, ends_well, lambda: tf.constant(False))
    return tf.cond(complete, lambda: tf.constant(True), decodes)
