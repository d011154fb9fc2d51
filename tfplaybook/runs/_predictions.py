"""What a model predicted for each example of the evaluation set, kept on disk (I4)."""

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfplaybook._arguments import check_count
from tfplaybook.runs._array_file import read_arrays, replace_arrays
from tfplaybook.runs._predicted_class import classes_of
from tfplaybook.runs._run import Run

FORMAT = 1
FOLDER = "predictions"

_OUTPUTS, _TARGETS = "predictions", "targets"
_NAME = re.compile(r"step_(\d{10})\.safetensors")

Arrays = np.ndarray | dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The outputs of a model for each example of an evaluation set.

    Attributes:
        step: Optimizer updates made before.
        ids: What names each example, int64 or strings of shape (n,), each once.
        predictions: The outputs, of shape (n, ...); a dict of them for a model with several.
        targets: The targets in the same way; None if they were not kept.
        class_threshold: The output above which a binary classifier says 1.
    """

    step: int
    ids: np.ndarray
    predictions: Arrays
    targets: Arrays | None = None
    class_threshold: float = 0.5


@dataclasses.dataclass(frozen=True)
class PredictionChange:
    """How two sets of predictions for the same examples differ; entries are in the order of `ids`.

    Attributes:
        step_a: Updates made before the first predictions.
        step_b: Updates made before the second predictions.
        ids: The examples, sorted, shape (n,).
        difference: Largest absolute difference of an output of the example, float64 (n,).
        changed: Whether the predicted class is another one; for anything but classification,
            whether any output is. Bool (n,).
        became_right: Whether only the second prediction is right; None without classes.
        became_wrong: Whether only the first prediction is right; None without classes.
    """

    step_a: int
    step_b: int
    ids: np.ndarray
    difference: np.ndarray
    changed: np.ndarray
    became_right: np.ndarray | None
    became_wrong: np.ndarray | None

    def __str__(self) -> str:
        text = (
            f"From step {self.step_a:,} to {self.step_b:,}, {np.sum(self.changed):,} of "
            f"{len(self.ids):,} predictions changed"
        )
        if self.became_right is None or self.became_wrong is None:
            return f"{text}, by up to {np.max(self.difference, initial=0.0):.3g}."
        return (
            f"{text}: {np.sum(self.became_right):,} became right, "
            f"{np.sum(self.became_wrong):,} became wrong."
        )


def save_predictions(directory: Path, found: Predictions) -> Path:
    """Write predictions into a run directory; the file is there whole or not at all.

    Raises:
        ValueError: Two examples have the same id, or the arrays differ in length.
    """
    arrays = {**_named(_OUTPUTS, found.predictions), **_ids_as_arrays(found.ids)}
    if found.targets is not None:
        arrays |= _named(_TARGETS, found.targets)
    _check_lengths(found, arrays)
    path = _path(directory, found.step)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        "format": str(FORMAT),
        "step": str(found.step),
        "class_threshold": repr(found.class_threshold),
    }
    replace_arrays(path, arrays, metadata)
    return path


def load_predictions(run: Run | str | os.PathLike[str], step: int) -> Predictions:
    """Read the predictions that `PeriodicEvaluation(predictions=True)` made at a step.

    Args:
        run: A run, or its directory.
        step: Optimizer updates made before them.

    Raises:
        ValueError: There are none of this step (the message lists those there are), the file is
            damaged, or a newer version of tfplaybook wrote it.

    Source: playbook I4.
    """
    directory = run.path if isinstance(run, Run) else Path(run)
    step = check_count("step", step, minimum=0)
    path = _path(directory, step)
    if not path.exists():
        raise ValueError(
            f"`step` must be one of those with predictions in {directory}: "
            f"{_steps(directory)}. Received: {step}."
        )
    arrays, metadata = read_arrays(path)
    number = metadata.get("format", "")
    if not number.isdecimal():
        raise ValueError(f"{path} was not written by tfplaybook: it has no format number.")
    if int(number) > FORMAT:
        raise ValueError(
            f"{path} has format {number}; this version of tfplaybook reads up to {FORMAT}. "
            "Upgrade tfplaybook."
        )
    outputs = _taken(_OUTPUTS, arrays)
    assert outputs is not None
    return Predictions(
        step=int(metadata["step"]),
        ids=_ids_from_arrays(arrays),
        predictions=outputs,
        targets=_taken(_TARGETS, arrays),
        class_threshold=float(metadata["class_threshold"]),
    )


def compare_predictions(
    run: Run | str | os.PathLike[str], step_a: int, step_b: int
) -> PredictionChange:
    """Compare what a run predicted at two steps, example by example.

    With classes (see `PeriodicEvaluation`) it says which examples became right and which became
    wrong; two checkpoints of the same accuracy can differ in many.

    Args:
        run: A run, or its directory.
        step_a: The step of the first predictions.
        step_b: The step of the second predictions.

    Raises:
        ValueError: There are no predictions of a step, or they are of other examples or targets.

    Source: playbook I4.
    """
    a, b = load_predictions(run, step_a), load_predictions(run, step_b)
    order_a, order_b = np.argsort(a.ids, kind="stable"), np.argsort(b.ids, kind="stable")
    ids = a.ids[order_a]
    if not np.array_equal(ids, b.ids[order_b]):
        shared = len(np.intersect1d(a.ids, b.ids))
        raise ValueError(
            "The predictions must be of the same examples. Received: "
            f"{len(a.ids):,} examples at step {step_a:,} and {len(b.ids):,} at step {step_b:,}, "
            f"{shared:,} of them with the same id."
        )
    outputs = _ordered(a.predictions, order_a), _ordered(b.predictions, order_b)
    if [(n, o.shape) for n, o in outputs[0].items()] != [
        (n, o.shape) for n, o in outputs[1].items()
    ]:
        raise ValueError("The predictions must have the same outputs: the model has changed.")
    targets = _ordered(a.targets, order_a), _ordered(b.targets, order_b)
    if any(not _same(targets[0].get(name), value) for name, value in targets[1].items()):
        raise ValueError(
            f"The targets of the same ids differ between step {step_a:,} and {step_b:,}. Without "
            "`ids` an example is named by its place, so the evaluation data must come in the same "
            "order every time: leave out the shuffling, or pass `ids`."
        )
    difference = np.max(
        [_largest_difference(one, outputs[1][name]) for name, one in outputs[0].items()], axis=0
    )
    changed, right = difference > 0.0, None
    if len(outputs[0]) == len(targets[0]) == 1:
        [one], [other], [target] = (list(d.values()) for d in (*outputs, targets[0]))
        first = classes_of(one, target, a.class_threshold)
        second = classes_of(other, target, b.class_threshold)
        if first is not None and second is not None:
            changed = first[0] != second[0]
            right = first[0] == first[1], second[0] == second[1]
    return PredictionChange(
        step_a=a.step,
        step_b=b.step,
        ids=ids,
        difference=difference,
        changed=changed,
        became_right=None if right is None else ~right[0] & right[1],
        became_wrong=None if right is None else right[0] & ~right[1],
    )


def _path(directory: Path, step: int) -> Path:
    return directory / FOLDER / f"step_{step:010d}.safetensors"


def _steps(directory: Path) -> list[int]:
    names = sorted(path.name for path in (directory / FOLDER).glob("*.safetensors"))
    return [int(match[1]) for name in names if (match := _NAME.fullmatch(name))]


def _named(kind: str, arrays: Any) -> dict[str, np.ndarray]:
    if isinstance(arrays, Mapping):
        return {f"{kind}/{name}": np.asarray(array) for name, array in arrays.items()}
    return {kind: np.asarray(arrays)}


def _taken(kind: str, arrays: Mapping[str, np.ndarray]) -> Arrays | None:
    if kind in arrays:
        return arrays[kind]
    named = {
        name.removeprefix(f"{kind}/"): array
        for name, array in arrays.items()
        if name.startswith(f"{kind}/")
    }
    return named or None


def _ids_as_arrays(ids: np.ndarray) -> dict[str, np.ndarray]:
    """Return integers as they are, and strings as UTF-8 with the offset at which each ends."""
    if ids.dtype.kind in "iu":
        return {"ids": ids.astype("int64")}
    encoded = [str(text).encode() for text in ids]
    return {
        "id_text": np.frombuffer(b"".join(encoded), "uint8"),
        "id_ends": np.cumsum([len(text) for text in encoded], dtype="int64"),
    }


def _ids_from_arrays(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    if "ids" in arrays:
        return arrays["ids"]
    text, ends = arrays["id_text"].tobytes(), arrays["id_ends"].tolist()
    starts = [0, *ends[:-1]]
    return np.array([text[s:e].decode() for s, e in zip(starts, ends, strict=True)], dtype=str)


def _check_lengths(found: Predictions, arrays: Mapping[str, np.ndarray]) -> None:
    count = len(found.ids)
    values, counts = np.unique(found.ids, return_counts=True)
    if len(values) < count:
        raise ValueError(
            "`ids` must name each example once. Received: "
            f"{values[counts > 1][0].item()!r} {counts[counts > 1][0]} times."
        )
    for name, array in arrays.items():
        if name.startswith((_OUTPUTS, _TARGETS)) and len(array) != count:
            raise ValueError(
                f"There must be one entry for each of the {count:,} ids. Received: {len(array):,} "
                f"in {name!r}."
            )


def _ordered(arrays: Arrays | None, order: np.ndarray) -> dict[str, np.ndarray]:
    if arrays is None:
        return {}
    named = arrays if isinstance(arrays, dict) else {"": arrays}
    return {name: array[order] for name, array in sorted(named.items())}


def _same(one: np.ndarray | None, other: np.ndarray) -> bool:
    return one is not None and one.shape == other.shape and bool(np.all(one == other))


def _largest_difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the largest absolute difference of each row, float64 (n,); NaN equals NaN."""
    one, other = one.astype("float64"), other.astype("float64")
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(one - other))
    difference = np.where(np.isnan(difference), np.inf, difference)
    return difference.reshape(len(one), -1).max(axis=1, initial=0.0)
