"""`study.json`: what it holds, and which study may go on with it."""

import dataclasses
import json

import pytest

from tfplaybook.search._study_file import StudyFile, read_study_file

STUDY = StudyFile(
    objective={"name": "val_loss", "direction": "min"},
    seed=0,
    start_index=0,
    max_trials=8,
    executions_per_trial=1,
    space=[
        {"class_name": "Float", "config": {"name": "x", "min_value": 0.0, "max_value": 1.0}},
        {"class_name": "Boolean", "config": {"name": "flag", "default": False}},
    ],
    primes={"x": 2, "flag": 3},
    goal="which x",
    note="",
)


def test_writing_and_reading_give_the_same_back(tmp_path):
    assert read_study_file(tmp_path) is None
    STUDY.write(tmp_path)
    assert read_study_file(tmp_path) == STUDY
    assert json.loads((tmp_path / "study.json").read_text())["format"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]


def test_entries_of_others_survive(tmp_path):
    STUDY.write(tmp_path)
    content = json.loads((tmp_path / "study.json").read_text())
    (tmp_path / "study.json").write_text(json.dumps({**content, "adopted": {"x": 0.5}}))
    STUDY.write(tmp_path)
    assert json.loads((tmp_path / "study.json").read_text())["adopted"] == {"x": 0.5}
    assert read_study_file(tmp_path) == STUDY


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 4}', "has format 4; this version of tfplaybook reads up to 3. Upgrade"),
        ('{"format": 1, "seed"', "is damaged: it is no JSON"),
        ("null", "is damaged: it must be a JSON object. Received: None. Restore it"),
        ("[]", "is damaged: it must be a JSON object"),
        ('{"format": "1"}', "is damaged: `format` must be a positive integer. Received: '1'"),
        ('{"format": 1, "seed": 0}', "is damaged: `objective` must be dict. Received: None"),
    ],
)
def test_files_it_cannot_read(tmp_path, text, message):
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_study_file(tmp_path)


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("objective", "val_loss", "`objective` must be dict. Received: 'val_loss'"),
        ("objective", {"name": "val_loss"}, "must have a `name` and a `direction`"),
        ("objective", {"name": 1, "direction": "min"}, "must have a `name` and a `direction`"),
        ("objective", {"name": "val_loss", "direction": []}, "must have a `name`"),
        ("seed", None, "`seed` must be int"),
        ("seed", True, "`seed` must be int"),
        ("max_trials", "8", "`max_trials` must be int"),
        ("note", 3, "`note` must be"),
        ("space", [{}], r"an entry of `space` must have .* Received: {}"),
        ("space", [[]], "an entry of `space` must have"),
        ("space", [{"class_name": "Float", "config": {"name": "x"}}], "`min_value` of the .*'x'"),
        ("space", [{"class_name": "Fixed", "config": {"name": "x"}}], "`value` of the hyperparam"),
        ("space", [{"config": {"name": "x"}}], "`class_name` of the hyperparameter 'x'"),
        (
            "space",
            [{"class_name": "Boolean", "config": {"name": "x", "conditions": [{}]}}],
            "a condition of the hyperparameter 'x'",
        ),
        ("primes", {"x": 2}, r"must name a prime for each of \['flag', 'x'\]"),
        ("primes", {"x": 2, "flag": "3"}, "must name a prime"),
        ("roles", ["x"], "`roles` must be"),
        ("roles", {"scientific": "x"}, "`scientific` of `roles` must be list"),
        ("roles", {"scientific": [], "fixed": {}}, "`configuration` of `roles` must be dict"),
        ("enqueued", {"first": {}}, "`enqueued` must have the values of a trial by its number"),
        ("enqueued", {"0000": 3}, "`enqueued` must have the values"),
    ],
)
def test_damaged_entries(tmp_path, entry, value, message):
    STUDY.write(tmp_path)
    content = json.loads((tmp_path / "study.json").read_text())
    (tmp_path / "study.json").write_text(json.dumps({**content, entry: value}))
    with pytest.raises(ValueError, match=rf"study\.json is damaged: .*{message}"):
        read_study_file(tmp_path)


def test_format_1_has_neither_roles_nor_enqueued_trials(tmp_path):
    content = dataclasses.asdict(STUDY)
    del content["roles"], content["enqueued"]
    (tmp_path / "study.json").write_text(json.dumps({"format": 1, **content}))
    assert read_study_file(tmp_path) == STUDY


FLOAT, FLAG = STUDY.space
WIDER = {"class_name": "Float", "config": {**FLOAT["config"], "max_value": 2.0}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed is 0 there, 1 here"),
        ({"start_index": 5}, "start_index is 0 there, 5 here"),
        ({"executions_per_trial": 3}, "executions_per_trial is 1 there, 3 here"),
        (
            {"objective": {"name": "val_mae", "direction": "min"}},
            "objective is min val_loss there, min val_mae here",
        ),
        ({"space": [FLOAT]}, "hyperparameter 'flag' is only there"),
        (
            {"space": [*STUDY.space, {"class_name": "Boolean", "config": {"name": "new"}}]},
            "hyperparameter 'new' is only here",
        ),
        (
            {"space": [WIDER, FLAG]},
            r"'x' is Float\(min_value=0.0, max_value=1.0\) there, "
            r"Float\(min_value=0.0, max_value=2.0\) here",
        ),
    ],
)
def test_another_study_is_refused_with_the_difference(change, message):
    with pytest.raises(ValueError, match=message) as error:
        dataclasses.replace(STUDY, **change).continued(STUDY)
    assert "Give a new `project_name`, or `overwrite=True`" in str(error.value)


ROLES = {"scientific": ["x"], "nuisance": ["flag"], "fixed": {}, "configuration": {}}


@pytest.mark.parametrize(
    ("stored", "here", "message"),
    [
        (ROLES, None, "roles are given there"),
        (None, ROLES, "roles are not given there"),
        (ROLES, {**ROLES, "scientific": []}, r"scientific is \['x'\] there, \[\] here"),
        (ROLES, {**ROLES, "fixed": {"x": 1.0}}, r"fixed is {} there, {'x': 1.0} here"),
    ],
)
def test_other_roles_are_another_study(stored, here, message):
    stored, here = (dataclasses.replace(STUDY, roles=roles) for roles in (stored, here))
    with pytest.raises(ValueError, match=message):
        here.continued(stored)


def test_the_order_of_names_in_a_role_says_nothing():
    stored, here = (
        dataclasses.replace(STUDY, roles={**ROLES, "nuisance": names})
        for names in (["flag", "y"], ["y", "flag"])
    )
    assert here.continued(stored).roles == stored.roles


def test_more_trials_and_new_words_are_welcome():
    asked = dataclasses.replace(STUDY, max_trials=16, goal="", note="second day")
    continued = asked.continued(STUDY)
    assert (continued.max_trials, continued.goal, continued.note) == (16, "which x", "second day")


def test_primes_stay_with_their_names_whatever_the_order():
    asked = dataclasses.replace(STUDY, space=STUDY.space[::-1], primes={"flag": 2, "x": 3})
    assert asked.continued(STUDY) == STUDY
