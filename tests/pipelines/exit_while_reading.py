"""Take one batch of an ArrayRecord file and end, with the iterator alive and reading ahead."""

import sys

import pipelines

train = pipelines.training_pipeline(
    pipelines.ArrayRecordFiles(sys.argv[1]), batch_size=64, seed=0, cache_bytes=0, map=lambda x: x
)
iterator = iter(train)
next(iterator)
