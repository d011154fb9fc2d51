"""What a model says about each example of an evaluation set."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from tfplaybook import _keras_evaluation
from tfplaybook.callbacks._evaluation_data import EvaluationData
from tfplaybook.runs._predicted_class import classes_of
from tfplaybook.runs._predictions import Predictions


def predict_examples(
    model: keras.Model, data: EvaluationData, ids: str | np.ndarray | None, step: int
) -> Predictions:
    """Return outputs, targets and ids of all examples, padding left out, in one pass."""
    outputs, targets, names = [], [], []
    for rows in data.rows():
        # Each replica of a strategy answers for the whole batch; the first is enough.
        found = tree.map_structure(np.asarray, model.predict_on_batch(rows.x))
        outputs.append(_by_name(tree.map_structure(lambda o, r=rows: o[r.examples], found)))
        targets.append(_by_name(rows.y))
        names.append(_ids_of(ids, rows.x, rows.examples, rows.places))
    return Predictions(
        step=step,
        ids=np.concatenate(names),
        predictions=_joined(outputs),
        targets=_joined(targets),
        class_threshold=_keras_evaluation.class_threshold(model),
    )


def _ids_of(
    ids: str | np.ndarray | None, x: Any, examples: np.ndarray, places: np.ndarray
) -> np.ndarray:
    if ids is None:
        return places
    if isinstance(ids, str):
        if not isinstance(x, Mapping) or ids not in x:
            known = sorted(x) if isinstance(x, Mapping) else type(x).__name__
            raise ValueError(f"`ids` must be a feature of x. Received: {ids!r}, and x is {known}.")
        return _as_ids(np.asarray(x[ids])[examples])
    if len(places) and places[-1] >= len(ids):
        raise ValueError(
            "`ids` must name every example of `validation_data`. Received: "
            f"{len(ids):,} ids for at least {places[-1] + 1:,} examples."
        )
    return ids[places]


def check_ids(ids: Any, count: int | None) -> str | np.ndarray | None:
    """Return `ids` as a name or an array, one for each of `count` examples where that is known."""
    if ids is None or isinstance(ids, str):
        return ids
    found = _as_ids(np.asarray(ids))
    if count is not None and len(found) != count:
        raise ValueError(
            "`ids` must name every example of `validation_data`. Received: "
            f"{len(found):,} ids for {count:,} examples."
        )
    return found


def _as_ids(ids: np.ndarray) -> np.ndarray:
    """Return ids as int64 or strings of shape (n,); TensorFlow's strings are UTF-8 bytes."""
    ids = ids.reshape(len(ids)) if ids.ndim and ids.size == len(ids) else ids
    if ids.ndim == 1 and ids.dtype.kind in "iuU":
        return ids if ids.dtype.kind == "U" else ids.astype("int64")
    if ids.ndim == 1 and ids.dtype.kind in "SO":
        texts = [text.decode() if isinstance(text, bytes) else text for text in ids.tolist()]
        if all(isinstance(text, str) for text in texts):
            return np.array(texts, dtype=str)
    raise ValueError(
        "`ids` must be integers or strings, one for each example. Received: "
        f"{ids.dtype} of shape {ids.shape}."
    )


def _by_name(arrays: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a structure by name: `""` for one alone, else keys or places."""
    if isinstance(arrays, Mapping):
        return {str(name): np.asarray(array) for name, array in arrays.items()}
    if isinstance(arrays, list | tuple):
        return {str(index): np.asarray(array) for index, array in enumerate(arrays)}
    return {"": np.asarray(arrays)}


def _joined(batches: list[dict[str, np.ndarray]]) -> np.ndarray | dict[str, np.ndarray]:
    joined = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    return joined.get("", joined)


def count_correct(kept: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Return correct examples and examples of each class, int64 (classes,)."""
    outputs, targets = kept.predictions, kept.targets
    classes = None
    if isinstance(outputs, np.ndarray) and isinstance(targets, np.ndarray):
        classes = classes_of(outputs, targets, kept.class_threshold)
    if classes is None:
        shapes = [
            {name: array.shape for name, array in arrays.items()}
            if isinstance(arrays, dict)
            else getattr(arrays, "shape", None)
            for arrays in (outputs, targets)
        ]
        raise ValueError(
            "count_correct=True needs a classifier with one output: outputs (n, classes) and "
            "integer or one-hot targets, or outputs (n, 1) and targets 0 and 1. Received outputs "
            f"{shapes[0]}, targets {shapes[1]}."
        )
    predicted, true, count = classes
    return (
        np.bincount(true[predicted == true], minlength=count),
        np.bincount(true, minlength=count),
    )
