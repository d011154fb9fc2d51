"""The TFDS builder. Copy it as the start of your own."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

_DESCRIPTION = """
1,797 handwritten digits of 8 x 8 pixels, 10 classes: the test part of the UCI set "Optical
Recognition of Handwritten Digits", as bundled with scikit-learn. The 17 grey levels 0 to 16 are
stretched to 0 to 255, so that `image / 255` lies in [0, 1], as for MNIST.
"""

_CITATION = """
@misc{alpaydin1998digits,
  author = {Alpaydin, E. and Kaynak, C.},
  title  = {Optical Recognition of Handwritten Digits},
  year   = {1998},
  doi    = {10.24432/C50P49},
  note   = {UCI Machine Learning Repository}
}
"""

_HELD_OUT_EXAMPLES = 600
_GREY_LEVELS = 16


class Digits(tfds.core.GeneratorBasedBuilder):
    """Handwritten digits: 1,197 training, 300 validation and 300 test examples."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        # A set on the web would be fetched here: `dl_manager.download_and_extract(url)`.
        from sklearn.datasets import load_digits

        levels, labels = load_digits(return_X_y=True)
        images = np.rint(levels.reshape(-1, 8, 8, 1) * (255 / _GREY_LEVELS)).astype(np.uint8)
        split = assign_splits(labels)
        return {
            name: self._generate_examples(images, labels, np.flatnonzero(split == name))
            for name in ("train", "validation", "test")
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray, indices: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in indices.tolist():
            yield index, {"image": images[index], "label": int(labels[index])}


def assign_splits(labels: np.ndarray) -> np.ndarray:
    """Return the name of each example's split, of shape (num_examples,).

    The examples are lined up class by class, and every third or so, 600 at even distances, is held
    out for validation and test in turn. So each split has each class in proportion to within one
    example, and no random generator is involved whose stream another version could change.
    """
    by_class = np.argsort(labels, kind="stable")
    held_out = by_class[np.arange(_HELD_OUT_EXAMPLES) * len(labels) // _HELD_OUT_EXAMPLES]
    split = np.full(len(labels), "train", dtype="U10")
    split[held_out[0::2]] = "validation"
    split[held_out[1::2]] = "test"
    return split
