"""Which class a classifier predicts, and which one is right."""

import numpy as np


def classes_of(
    outputs: np.ndarray, targets: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray, int] | None:
    """Return predicted and true class of each example, and the number of classes.

    | kind | outputs | targets |
    |---|---|---|
    | sparse categorical | (n, classes) | integers (n,) or (n, 1) in [0, classes) |
    | categorical | (n, classes) | one-hot (n, classes) |
    | binary | (n,) or (n, 1) | 0 and 1, (n,) or (n, 1) |

    Args:
        outputs: Scores, probabilities or logits.
        targets: What they should be.
        threshold: The output above which the class of a binary classifier is 1.

    Returns:
        Two int64 arrays of shape (n,) and a number, or None if this is no classification.
    """
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if outputs.ndim == 2 and outputs.shape[1] == 1:
        outputs = outputs[:, 0]
    if not len(targets) or targets.dtype.kind not in "biuf" or len(outputs) != len(targets):
        return None
    if outputs.ndim == 2 and targets.ndim == 1:
        count = outputs.shape[1]
        whole = targets.astype("int64")
        if not (np.array_equal(whole, targets) and whole.min() >= 0 and whole.max() < count):
            return None
        return outputs.argmax(axis=1), whole, count
    if outputs.ndim == 2 and outputs.shape == targets.shape:
        if not (np.all(targets.sum(axis=1) == 1) and np.all((targets == 0) | (targets == 1))):
            return None
        return outputs.argmax(axis=1), targets.argmax(axis=1), outputs.shape[1]
    if outputs.ndim == 1 and targets.ndim == 1 and np.all((targets == 0) | (targets == 1)):
        return (outputs > threshold).astype("int64"), targets.astype("int64"), 2
    return None
