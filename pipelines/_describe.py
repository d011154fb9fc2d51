"""A pipeline in words."""

import tensorflow as tf

from pipelines._dataset import Pipeline


def describe(dataset: Pipeline) -> str:
    """Return the stages of a pipeline in order, with sizes and why each stands where it does.

    Args:
        dataset: What `training_pipeline` or `evaluation_pipeline` returned.

    Raises:
        TypeError: If `dataset` is anything else; other datasets do not know their stages.

    Examples:
        >>> import numpy as np
        >>> import pipelines
        >>> x, y = np.zeros((10, 2)), np.zeros(10)
        >>> print(pipelines.describe(pipelines.evaluation_pipeline((x, y), batch_size=4)))
        EvaluationPipeline
        1. read      10 examples in memory (0.2 KiB)
                     in the set's own order, so that predictions line up with examples
        2. batch     4 examples, 3 steps
                     after the map, which sees single examples
        3. pad       2 of 12 rows, of weight 0; the others weigh 1.2
                     for the last batch only, so that all have one static shape
        4. prefetch  as many batches as the runtime finds useful
                     last, so that the next batch is made while the model works on this one
    """
    if not isinstance(dataset, Pipeline):
        plain = isinstance(dataset, tf.data.Dataset)
        raise TypeError(
            "`dataset` must be what `training_pipeline` or `evaluation_pipeline` returned. "
            f"Received an object of type {type(dataset).__name__}."
            + (" Methods such as `take` and `map` return plain datasets." if plain else "")
        )
    width = max(len(stage.name) for stage in dataset.stages)
    lines = [type(dataset).__name__]
    for number, stage in enumerate(dataset.stages, start=1):
        label = f"{number}. {stage.name:<{width}}  "
        lines += [label + stage.size, " " * len(label) + stage.reason]
    return "\n".join(lines)
