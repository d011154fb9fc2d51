"""How fast `pipelines` feeds JPEGs beside its peers and the raw decode limit.

Run `python benchmarks/bench_pipelines.py` (minutes), `... --quick` (a minute), or in parts with
`... --only crop --turns 5`.

The images are random crops of scikit-learn's two sample photographs, encoded again, so that no two
are alike and nothing is folded away. They are written as TFRecord, ArrayRecord and image files and
read with a warm page cache. All methods take turns within one run, in a new order in each round;
each turn takes as many images as the set has, so it holds the end of one epoch and the start of the
next, and the first round is not counted. The reference runs right before each method: a ratio is
the median, over the rounds, of the reference's time over the method's next to it, with the interval
that holds the true one in about 95 of 100 measurements. Processor time per image, of all threads,
says the same where other programs disturb the clock. Peers that are not installed are left out.
"""

import argparse
import contextlib
import importlib.util
import io
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from _paired import Estimate, median
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_images

import pipelines

SIDE = 328
CROP = (224, 224)
BATCH_SIZE = 64
WARM_STEPS = 4
NUM_FILES = 16
FEATURES = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
}
AUTOTUNE = tf.data.AUTOTUNE

# Smallest ratio of ours over each of these.
GOALS = {
    "raw decode limit": 0.92,
    "tf.data decode and resize in memory": 0.95,
    "naive tf.data": 1.0,
    "TFDS": 1.0,
    "Keras image_dataset_from_directory": 1.0,
    "Grain": 1.4,
}

# Yields once when the time starts, and then the number of images that were timed.
Turn = Callable[[], Iterator[int]]


class Images:
    """The generated set in memory and in files below `folder`.

    Args:
        folder: An empty folder.
        count: Number of images, a multiple of the batch size.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count
        photographs = load_sample_images().images
        rng = np.random.default_rng(0)
        self.encoded = []
        for number in range(count):
            photograph = photographs[number % len(photographs)]
            height, width, _ = photograph.shape
            row, column = rng.integers(0, height - SIDE), rng.integers(0, width - SIDE)
            crop = photograph[row : row + SIDE, column : column + SIDE]
            self.encoded.append(
                tf.io.encode_jpeg(crop[:, :: rng.choice([-1, 1])], quality=90).numpy()
            )
        self.records = [self._example(number) for number in range(count)]

    def _example(self, number: int) -> bytes:
        features = {
            "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[self.encoded[number]])),
            "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 2])),
        }
        return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()

    def write(self) -> None:
        """Write the image files, the TFRecord files and, if possible, the ArrayRecord files."""
        for number, encoded in enumerate(self.encoded):
            path = self.folder / "images" / f"class_{number % 2}" / f"{number:06d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded)
        for place in range(NUM_FILES):
            name = str(self.folder / f"part-{place:02d}.tfrecord")
            with tf.io.TFRecordWriter(name) as writer:
                for record in self.records[place::NUM_FILES]:
                    writer.write(record)
        if has("array_record"):
            from array_record.python import array_record_module

            for place in range(NUM_FILES):
                name = str(self.folder / f"part-{place:02d}.array_record")
                array_writer = array_record_module.ArrayRecordWriter(name, "group_size:1")
                for record in self.records[place::NUM_FILES]:
                    array_writer.write(record)
                array_writer.close()


def has(module: str) -> bool:
    """Return whether a peer is installed."""
    return importlib.util.find_spec(module) is not None


def steady(batches: Iterable[Sequence[Any]], images: Images) -> Turn:
    """Return the turn that takes one pass' worth of batches of an endless input.

    A few batches come first, untimed: those under way when the time starts make up for those under
    way when it stops.
    """

    def turn() -> Iterator[int]:
        iterator = iter(batches)
        for _ in range(WARM_STEPS):
            next(iterator)
        yield 0
        yield sum(len(next(iterator)[1]) for _ in range(images.count // BATCH_SIZE))

    return turn


def raw_limit(images: Images, *, read: bool) -> Turn:
    """Decode in a thread per core with simplejpeg: no batches, no order, nothing else.

    Args:
        images: What is decoded.
        read: Whether each image is read from its file first, rather than held in memory.
    """
    import simplejpeg

    paths = sorted((images.folder / "images").glob("*/*.jpg"))

    def work(first: int) -> None:
        for number in range(first, images.count, os.cpu_count() or 1):
            simplejpeg.decode_jpeg(paths[number].read_bytes() if read else images.encoded[number])

    def turn() -> Iterator[int]:
        yield 0
        threads = [threading.Thread(target=work, args=(k,)) for k in range(os.cpu_count() or 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        yield images.count

    return turn


def our_crop(example: dict[str, tf.Tensor], *, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode a random crop and no more."""
    return pipelines.decode_and_random_crop(example["image"], CROP, seed=seed), example["label"]


def plain_crop(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode all, then crop, as most code does; a seed of the example's bytes varies the crop."""
    image = tf.io.decode_jpeg(example["image"], channels=3)
    seed = tf.stack([tf.strings.length(example["image"]), 0])
    return tf.image.stateless_random_crop(image, [*CROP, 3], seed), example["label"]


def resize(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode all and resize bilinearly."""
    image = tf.io.decode_jpeg(example["image"], channels=3)
    return tf.ensure_shape(tf.image.resize(image, CROP), [*CROP, 3]), example["label"]


def parse(record: tf.Tensor) -> dict[str, tf.Tensor]:
    """Parse one record."""
    return tf.io.parse_single_example(record, FEATURES)


def naive(images: Images, function: Callable[..., object]) -> tf.data.Dataset:
    """Interleave, shuffle, parse, map, batch and prefetch, as the tf.data guide has it."""
    files = tf.data.Dataset.list_files(str(images.folder / "*.tfrecord"), seed=0)
    return (
        files.interleave(tf.data.TFRecordDataset, num_parallel_calls=AUTOTUNE)
        .shuffle(1000, seed=0)
        .map(parse, AUTOTUNE)
        .map(function, AUTOTUNE)
        .repeat()
        .batch(BATCH_SIZE, drop_remainder=True)
        .prefetch(AUTOTUNE)
    )


def ours(
    images: Images, source: object, function: Callable[..., object], **options: object
) -> Turn:
    """Return the turn of a training pipeline: one epoch."""
    arguments = {"batch_size": BATCH_SIZE, "seed": 0, "map": function, "shuffle_buffer_size": 1000}
    train = pipelines.training_pipeline(source, **(arguments | options))
    return steady(train, images)


def tfds_builder(images: Images) -> object:
    """Return a prepared TFDS builder of the same set."""
    import tensorflow_datasets as tfds

    class Photographs(tfds.core.GeneratorBasedBuilder):
        """The generated images."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> tfds.core.DatasetInfo:
            features = {"image": tfds.features.Image(shape=(SIDE, SIDE, 3), encoding_format="jpeg")}
            features["label"] = tfds.features.ClassLabel(num_classes=2)
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager: object) -> dict[str, object]:
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for path in sorted((images.folder / "images").glob("*/*.jpg")):
                yield path.name, {"image": path, "label": int(path.parent.name[-1])}

    tfds.disable_progress_bar()
    builder = Photographs(data_dir=images.folder / "tfds")
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare()
    return builder


def tfds_turns(images: Images) -> tuple[Turn, Turn]:
    """Return TFDS' own reading with a crop after it, and with a resize."""
    import tensorflow_datasets as tfds

    builder = tfds_builder(images)

    def turn(function: Callable[..., object]) -> Turn:
        dataset = builder.as_dataset(
            split="train",
            shuffle_files=True,
            as_supervised=True,
            # Decoded images in memory are no reading; TFDS does it below 250 MB.
            read_config=tfds.ReadConfig(try_autocache=False),
        )
        batches = (
            dataset.shuffle(1000, seed=0)
            .map(function, AUTOTUNE)
            .repeat()
            .batch(BATCH_SIZE, drop_remainder=True)
            .prefetch(AUTOTUNE)
        )
        return steady(batches, images)

    def crop(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        seed = tf.cast(tf.stack([image[0, 0, 0], image[9, 9, 1]]), tf.int32)
        return tf.image.stateless_random_crop(image, [*CROP, 3], seed), label

    return turn(crop), turn(lambda image, label: (tf.image.resize(image, CROP), label))


def keras_turn(images: Images) -> Turn:
    """Return `image_dataset_from_directory`, which resizes."""
    batches = keras.utils.image_dataset_from_directory(
        images.folder / "images", image_size=CROP, batch_size=BATCH_SIZE, seed=0, verbose=False
    )
    return steady(batches.repeat().prefetch(AUTOTUNE), images)


def grain_turn(images: Images) -> Turn:
    """Return Grain over ArrayRecord files, decoding in threads, with a crop."""
    import grain.python as grain
    import simplejpeg

    paths = sorted(map(str, images.folder.glob("*.array_record")))

    def decode(record: bytes, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        features = tf.train.Example.FromString(record).features.feature
        image = simplejpeg.decode_jpeg(features["image"].bytes_list.value[0])
        row, column = rng.integers(0, [SIDE - CROP[0] + 1, SIDE - CROP[1] + 1])
        label = features["label"].int64_list.value[0]
        return image[row : row + CROP[0], column : column + CROP[1]], label

    dataset = (
        grain.MapDataset.source(grain.ArrayRecordDataSource(paths))
        .shuffle(seed=0)
        .repeat()
        .random_map(decode, seed=0)
        .batch(BATCH_SIZE, drop_remainder=True)
        .to_iter_dataset(grain.ReadOptions(num_threads=2 * (os.cpu_count() or 1)))
    )
    return steady(dataset, images)


def groups(images: Images) -> dict[str, dict[str, Turn]]:
    """Return the methods, each group with its reference first."""
    records = pipelines.TFRecordFiles(str(images.folder / "*.tfrecord"), FEATURES)
    folders = pipelines.ImageFolders(images.folder / "images", decode=False)
    memory = tf.data.Dataset.from_tensor_slices(
        {"image": images.encoded, "label": [number % 2 for number in range(images.count)]}
    )
    streamed = {"cache_bytes": 0}
    crop: dict[str, Turn] = {}
    if has("simplejpeg"):
        crop["raw decode limit"] = raw_limit(images, read=False)
        crop["raw limit, reading image files"] = raw_limit(images, read=True)
    crop["ours, TFRecord in memory"] = ours(images, records, our_crop)
    crop["ours, TFRecord streamed"] = ours(images, records, our_crop, **streamed)
    crop["ours, image files"] = ours(
        images,
        folders,
        lambda encoded, label, seed: our_crop({"image": encoded, "label": label}, seed=seed),
    )
    resized = {
        "tf.data decode and resize in memory": steady(
            memory.map(resize, AUTOTUNE)
            .repeat()
            .batch(BATCH_SIZE, drop_remainder=True)
            .prefetch(AUTOTUNE),
            images,
        ),
        "ours, TFRecord in memory": ours(images, records, resize),
        "ours, TFRecord streamed": ours(images, records, resize, **streamed),
        "ours, image files": ours(
            images,
            folders,
            lambda encoded, label: resize({"image": encoded, "label": label}),
        ),
    }
    if has("array_record"):
        arrays = pipelines.ArrayRecordFiles(str(images.folder / "*.array_record"), FEATURES)
        crop["ours, ArrayRecord"] = ours(images, arrays, our_crop, **streamed)
    crop["naive tf.data"] = steady(naive(images, plain_crop), images)
    resized["naive tf.data"] = steady(naive(images, resize), images)
    if has("tensorflow_datasets"):
        crop["TFDS"], resized["TFDS"] = tfds_turns(images)
    resized["Keras image_dataset_from_directory"] = keras_turn(images)
    if has("grain") and has("simplejpeg") and has("array_record"):
        crop["Grain"] = grain_turn(images)
    return {"random crop": crop, "resize": resized}


Sample = tuple[float, float]  # wall and processor seconds per image


def time_turn(turn: Turn) -> Sample:
    """Return the wall and processor seconds per image of one turn."""
    timed = turn()
    next(timed)
    wall, processor = time.perf_counter(), time.process_time()
    count = next(timed)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    timed.close()
    return wall / count, processor / count


def measure(methods: dict[str, Turn], turns: int) -> dict[str, list[tuple[Sample, Sample]]]:
    """Return per method the times (reference, its own) of each of `turns` rounds."""
    reference, order = next(iter(methods)), random.Random(0)
    pairs: dict[str, list[tuple[Sample, Sample]]] = {name: [] for name in methods}
    for number in range(turns + 1):
        for name in order.sample(list(methods), len(methods)):
            pair = time_turn(methods[reference]), time_turn(methods[name])
            if number:
                pairs[name].append(pair)
    return pairs


def ratios(pairs: Sequence[tuple[Sample, Sample]], clock: int) -> list[float]:
    """Return the reference's time over the method's in each round: 0 is wall, 1 processor."""
    return [reference[clock] / own[clock] for reference, own in pairs]


def readable(estimate: Estimate) -> str:
    """Return a ratio with its interval."""
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def rates_table(pairs: dict[str, list[tuple[Sample, Sample]]], title: str) -> Table:
    """Return the rates of a group and their ratios over its reference."""
    table = Table("method", "median/s", "ratio", "cpu us", "cpu ratio", title=title)
    for name, members in pairs.items():
        wall, processor = np.median([own for _, own in members], axis=0)
        table.add_row(
            name,
            f"{1 / wall:,.0f}",
            readable(median(ratios(members, 0))),
            f"{processor * 1e6:.0f}",
            readable(median(ratios(members, 1))),
        )
    return table


def goals_table(pairs: dict[str, list[tuple[Sample, Sample]]]) -> Table:
    """Return the ratios of ours over the peers beside their goals."""
    table = Table("ours", "over", "ratio", "goal", "verdict")
    for own in filter(lambda name: name.startswith("ours"), pairs):
        for other in filter(lambda name: name in GOALS, pairs):
            rounds = zip(ratios(pairs[own], 0), ratios(pairs[other], 0), strict=True)
            # The reference beside itself would only add noise.
            is_reference = other == next(iter(pairs))
            ratio = median([mine / (1.0 if is_reference else its) for mine, its in rounds])
            goal = GOALS[other]
            verdict = "met" if ratio.low >= goal else "missed" if ratio.high < goal else "open"
            table.add_row(own, other, readable(ratio), f"{goal:.2f}", verdict)
    return table


def main() -> None:
    """Print two tables per group: rates, and goals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds")
    parser.add_argument("--turns", type=int, help="rounds; 9 by default, 3 with --quick")
    parser.add_argument(
        "--only", default="", help="groups and methods whose name holds this, and their reference"
    )
    options = parser.parse_args()
    count = 1024 if options.quick else 4096
    turns = options.turns or (3 if options.quick else 9)
    console = Console()
    for peer in ("simplejpeg", "grain", "tensorflow_datasets", "array_record"):
        if not has(peer):
            console.print(f"{peer} is not installed, and what needs it is left out.")
    with tempfile.TemporaryDirectory() as folder:
        images = Images(Path(folder), count)
        images.write()
        for group, members in groups(images).items():
            chosen = {
                name: turn
                for place, (name, turn) in enumerate(members.items())
                if place == 0 or options.only in f"{group} {name}"
            }
            if len(chosen) == 1:
                continue
            pairs = measure(chosen, turns)
            title = (
                f"{group}: {count:,} JPEGs of {SIDE} x {SIDE}, {turns} interleaved rounds; "
                f"ratios over '{next(iter(pairs))}'"
            )
            console.print(rates_table(pairs, title))
            console.print(goals_table(pairs))


if __name__ == "__main__":
    main()
