"""What reading a run directory says about files that are not as they were written."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfplaybook import runs

GOOD = '{"step": 2, "name": "loss", "value": 0.5}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "must be a JSON object. Received: []"),
        (b"null", "must be a JSON object. Received: None"),
        (b"3", "must be a JSON object. Received: 3"),
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b'{"note": "\xff"}', "is no UTF-8"),
        (b'{"format": "x"}', "`format` must be a positive integer. Received: 'x'"),
        (b'{"format": true}', "`format` must be a positive integer. Received: True"),
        (b"{}", "`format` must be a positive integer. Received: None"),
        (b'{"format": 2}', "has format 2; this version of tfplaybook reads up to 1. Upgrade"),
    ],
)
def test_run_json(tmp_path, content, message):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.json") as error:
        runs.load_run(tmp_path)
    text = str(error.value)
    assert message in text
    assert str(path) in text
    assert len(text) < 500
    assert text.endswith(("Move it away to go on without it.", "Upgrade tfplaybook."))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "3",
        "null",
        "[]",
        "{}",
        "[" * 100_000,
        '{"step": 1}',
        '{"step": 1, "name": "loss"}',
        '{"name": "loss", "value": 1.0}',
        '{"step": 1, "name": "loss", "value": null}',
        '{"step": 1, "name": "loss", "value": true}',
        '{"step": 1, "name": "loss", "value": "0.5"}',
        '{"step": 1, "name": "loss", "value": [1.0]}',
        '{"step": 1, "name": "loss", "value": 1' + "0" * 400 + "}",
        '{"step": "1", "name": "loss", "value": 1.0}',
        '{"step": [1], "name": "loss", "value": 1.0}',
        '{"step": 1.5, "name": "loss", "value": 1.0}',
        '{"step": true, "name": "loss", "value": 1.0}',
        '{"step": -1, "name": "loss", "value": 1.0}',
        '{"step": 9223372036854775808, "name": "loss", "value": 1.0}',
        '{"step": 1, "name": null, "value": 1.0}',
        '{"step": 1, "name": ["loss"], "value": 1.0}',
        '{"attempt": 2}',
        '{"attempt": 2, "step": null}',
        '{"attempt": 2, "step": "0"}',
    ],
)
def test_a_malformed_row_is_left_out_and_no_other(tmp_path, line):
    (tmp_path / "curves.jsonl").write_text("\n".join([GOOD, line, GOOD.replace("2", "4")]))
    (curve,) = runs.load_run(tmp_path).curves.values()
    assert curve.steps.tolist() == [2, 4]
    assert curve.values.tolist() == [0.5, 0.5]


def test_a_row_that_is_no_text_is_left_out_and_no_other(tmp_path):
    lost = GOOD.replace("loss", "caf\xe9").encode("latin-1")
    (tmp_path / "curves.jsonl").write_bytes(b"\n".join([lost, GOOD.encode(), b"\x00\xff"]))
    assert list(runs.load_run(tmp_path).curves) == ["loss"]


json_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(st.sampled_from(["step", "name", "value", "attempt", "more"]), json_data)
    | json_data
)
def test_any_json_is_a_row_or_none(tmp_path_factory, row):
    directory = tmp_path_factory.getbasetemp()
    (directory / "curves.jsonl").write_text(json.dumps(row))
    for curve in runs.load_run(directory).curves.values():
        assert curve.steps.tolist() == [row["step"]]
