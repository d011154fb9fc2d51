"""Two processes read one set of files as two hosts, and between them read it exactly once.

Run `python examples/shard_over_hosts.py`. It writes seven small TFRecord files, starts two
processes that each read their share of two epochs, and checks that no record came twice and none
that had to come is missing. Seven files do not divide evenly over two hosts, so that the records
are shared out below file level. In a real run each machine is given its own `--host`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

HOSTS = 2
FILES = 7
RECORDS_PER_FILE = 30
BATCH_SIZE = 8
EPOCHS = 2


def write_files(folder: Path) -> None:
    """Write the numbers 0, 1, 2, ... as the records of all files."""
    import tensorflow as tf

    numbers = iter(range(FILES * RECORDS_PER_FILE))
    for place in range(FILES):
        with tf.io.TFRecordWriter(str(folder / f"part-{place}.tfrecord")) as writer:
            for _ in range(RECORDS_PER_FILE):
                writer.write(str(next(numbers)).encode())


def read_share(folder: Path, index: int) -> None:
    """Read the share of host `index` and print the numbers, a line per epoch."""
    import tensorflow as tf

    import pipelines

    train = pipelines.training_pipeline(
        pipelines.TFRecordFiles(str(folder / "*.tfrecord")),
        map=lambda record: tf.strings.to_number(record, tf.int64),
        batch_size=BATCH_SIZE,
        seed=0,
        host=pipelines.Host(index, HOSTS),
        cache_bytes=0,  # so small a set would be held in memory
    )
    if index == 0:
        print(pipelines.describe(train), file=sys.stderr)
    for epoch in range(EPOCHS):
        batches = train.starting_at(epoch * train.steps_per_epoch).take(train.steps_per_epoch)
        print(*(int(number) for batch in batches for number in batch))


def main() -> None:
    """Write the files, start a process per host, and check what they read."""
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder))
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, "--folder", folder, "--host", str(index)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for index in range(HOSTS)
        ]
        outputs = [process.communicate()[0] for process in processes]
        if any(process.returncode for process in processes):
            sys.exit("A host failed.")
    expected = FILES * RECORDS_PER_FILE // (HOSTS * BATCH_SIZE) * HOSTS * BATCH_SIZE
    for epoch in range(EPOCHS):
        shares = [list(map(int, output.splitlines()[epoch].split())) for output in outputs]
        read = [number for share in shares for number in share]
        if len(read) != expected or len(set(read)) != expected:
            sys.exit(f"Epoch {epoch}: {len(read)} records, {len(set(read))} different.")
        print(
            f"epoch {epoch}: hosts read {' and '.join(str(len(share)) for share in shares)} "
            f"records, {len(set(read))} different ones of {FILES * RECORDS_PER_FILE}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--host", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.host is None:
        main()
    else:
        read_share(arguments.folder, arguments.host)
