"""Predictions on disk: what was written is read, damage is named, changes are found."""

import numpy as np
import pytest

from tfplaybook.runs import Predictions, compare_predictions, load_predictions
from tfplaybook.runs._predictions import save_predictions


def save(directory, step, predictions, **options):
    count = len(predictions["a"] if isinstance(predictions, dict) else predictions)
    options = {"ids": np.arange(count), **options}
    return save_predictions(directory, Predictions(step, predictions=predictions, **options))


@pytest.mark.parametrize(
    "ids",
    [
        np.array([3, 1, 2]),
        np.array(["x", "", "é/ü"]),
        np.array(["same length", "for all ids", "ok"]),
    ],
)
def test_what_was_written_is_read(tmp_path, ids):
    outputs = np.array([[0.1, np.nan], [1.0, -np.inf], [2.0, 3.0]], "float32")
    save(tmp_path, 7, outputs, ids=ids, targets=np.array([0, 1, 1]), class_threshold=0.0)
    found = load_predictions(str(tmp_path), 7)
    np.testing.assert_array_equal(found.predictions, outputs)
    assert found.predictions.dtype == np.float32
    assert found.ids.tolist() == ids.tolist()
    assert found.targets.tolist() == [0, 1, 1]
    assert (found.step, found.class_threshold) == (7, 0.0)


def test_several_outputs_keep_their_names(tmp_path):
    outputs = {"a": np.ones((2, 3)), "b/c": np.zeros((2, 1), "float16")}
    save(tmp_path, 7, outputs)
    found = load_predictions(tmp_path, 7)
    assert found.predictions.keys() == outputs.keys()
    assert found.predictions["b/c"].dtype == np.float16
    assert found.targets is None


def test_any_reader_of_the_format_opens_the_file(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    path = save(tmp_path, 7, np.ones((2, 3), "float32"), targets=np.arange(2, dtype="int8"))
    arrays = safetensors.load_file(path)
    assert {n: (a.dtype.name, a.shape) for n, a in arrays.items()} == {
        "predictions": ("float32", (2, 3)),
        "targets": ("int8", (2,)),
        "ids": ("int64", (2,)),
    }


def test_every_damaged_byte_of_the_data_and_every_cut_is_found(tmp_path):
    path = save(tmp_path, 7, np.ones((2, 2), "float32"))
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    damaged = [
        whole[:i] + bytes([whole[i] ^ 16]) + whole[i + 1 :] for i in range(header, len(whole))
    ]
    for content in [*damaged, b"", whole[:4], whole[:100], whole[:-1], whole + b"x", b"\xff" * 64]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"step_0000000007\.safetensors is damaged.*Move it"):
            load_predictions(tmp_path, 7)


def test_refuses_a_newer_format_and_steps_without_predictions(tmp_path):
    path = save(tmp_path, 7, np.ones(2))
    path.write_bytes(path.read_bytes().replace(b'"format":"1"', b'"format":"9"'))
    with pytest.raises(ValueError, match="has format 9; this version of tfplaybook reads up to 1"):
        load_predictions(tmp_path, 7)
    save(tmp_path, 12, np.ones(2))
    with pytest.raises(ValueError, match=r"`step` must be one of .*\[7, 12\]\. Received: 8"):
        load_predictions(tmp_path, 8)


def test_refuses_ids_that_name_two_examples_and_arrays_of_another_length(tmp_path):
    with pytest.raises(ValueError, match=r"must name each example once\. Received: 'a' 2 times"):
        save(tmp_path, 7, np.ones(3), ids=np.array(["a", "b", "a"]))
    with pytest.raises(ValueError, match=r"for each of the 3 ids\. Received: 2 in 'targets'"):
        save(tmp_path, 7, np.ones(3), targets=np.ones(2))
    assert list(tmp_path.iterdir()) == []


def test_what_changed_between_two_steps(tmp_path):
    targets = np.array([0, 1, 1, 0])
    a = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.6, 0.4]], "float32")
    b = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.7, 0.3]], "float32")
    save(tmp_path, 1, a, targets=targets)
    back = np.array([2, 0, 3, 1])
    save(tmp_path, 2, b[back], targets=targets[back], ids=back)
    change = compare_predictions(tmp_path, 1, 2)
    assert change.ids.tolist() == [0, 1, 2, 3]
    assert change.changed.tolist() == [False, True, True, False]
    assert change.became_right.tolist() == [False, True, False, False]
    assert change.became_wrong.tolist() == [False, False, True, False]
    np.testing.assert_allclose(change.difference, [0.0, 0.5, 0.5, 0.1], atol=1e-6)
    assert str(change) == (
        "From step 1 to 2, 2 of 4 predictions changed: 1 became right, 1 became wrong."
    )


def test_a_binary_class_is_told_by_the_kept_threshold(tmp_path):
    targets = np.array([1, 0])
    for threshold, right in [(0.5, [True, False]), (0.0, [False, False])]:
        save(tmp_path, 1, np.array([0.3, -1.0]), targets=targets, class_threshold=threshold)
        save(tmp_path, 2, np.array([0.7, -1.0]), targets=targets, class_threshold=threshold)
        assert compare_predictions(tmp_path, 1, 2).became_right.tolist() == right


def test_outputs_without_classes_change_by_their_values(tmp_path):
    a = np.array([[1.0, np.nan], [np.inf, 2.0], [3.0, 4.0]])
    b = np.array([[1.0, np.nan], [np.inf, 2.5], [np.nan, 4.0]])
    save(tmp_path, 1, a, targets=np.full((3, 2), 0.5))
    save(tmp_path, 2, b, targets=np.full((3, 2), 0.5))
    change = compare_predictions(tmp_path, 1, 2)
    assert change.difference.tolist() == [0.0, 0.5, np.inf]
    assert change.changed.tolist() == [False, True, True]
    assert change.became_right is None
    assert str(change) == "From step 1 to 2, 2 of 3 predictions changed, by up to inf."


def test_refuses_to_compare_other_examples_or_targets(tmp_path):
    save(tmp_path, 1, np.ones(3), targets=np.array([0, 1, 0]))
    save(tmp_path, 2, np.ones(3), targets=np.array([1, 0, 0]))
    with pytest.raises(ValueError, match="must come in the same order every time"):
        compare_predictions(tmp_path, 1, 2)
    save(tmp_path, 3, np.ones(3), ids=np.array([0, 1, 5]))
    with pytest.raises(ValueError, match="3 at step 3, 2 of them with the same id"):
        compare_predictions(tmp_path, 1, 3)
    save(tmp_path, 4, np.ones((3, 2)), targets=np.array([0, 1, 0]))
    with pytest.raises(ValueError, match="the model has changed"):
        compare_predictions(tmp_path, 1, 4)
