"""The index of the studies below a directory."""

import io
import json

import pytest
import rich.console
import study_factory as factory

from tfplaybook import studies

VALUES = {"learning_rate": 0.1, "units": 32, "optimizer": "adam"}
COMMAND = ["python", "train.py", "--name", "a b"]


def trials(*scores):
    return [{"values": VALUES, "score": score, "runs": [{"loss": [1.0]}]} for score in scores]


def record(path, trial, **info):
    """Write the `run.json` of a trial's first execution."""
    factory.write_json(path / f"trial_{trial:04d}/execution_0/run.json", {"format": 1, **info})


@pytest.fixture
def found(tmp_path):
    first = factory.write_study(tmp_path / "a/round1", trials(0.5, 0.25), goal="why", note="so")
    git = {"commit": "0123456789abcdef", "diff": "", "untracked": ["new.py"]}
    record(first, 0, command=["worse"], git=None)
    record(first, 1, command=COMMAND, working_directory="/home/me", git=git)
    factory.write_study(tmp_path / "b/plain", trials(0.5), header=False)
    factory.write_study(tmp_path / "empty")
    broken = factory.write_study(tmp_path / "broken", trials(0.5, 0.6))
    (broken / "study.json").write_text("{")
    factory.write_study(tmp_path / ".hidden", trials(0.5))
    (tmp_path / "b/notes.txt").touch()
    return studies.index(tmp_path)


def test_every_study_has_its_line(found, tmp_path):
    root = tmp_path.resolve()
    assert found.directory == root
    assert [str(e.path.relative_to(root)) for e in found.entries] == [
        "a/round1", "b/plain", "broken", "empty"
    ]  # fmt: skip
    first = found.entries[0]
    assert first == studies.IndexEntry(
        path=root / "a/round1",
        objective=studies.Objective("val_loss", "min"),
        trials=2,
        completed=2,
        best=0.25,
        best_trial="0001",
        goal="why",
        note="so",
        config=root / "a/round1/study.json",
        command=tuple(COMMAND),
        working_directory="/home/me",
        commit="0123456789abcdef",
        has_changes=True,
    )
    assert first.name == "round1"
    assert first.reproduction == "cd /home/me && python train.py --name 'a b'"


def test_a_plain_project_links_to_its_run(found, tmp_path):
    plain = found.entries[1]
    path = tmp_path.resolve() / "b/plain/trial_0000/execution_0/run.json"
    assert (plain.config, plain.command, plain.commit, plain.has_changes) == (path, (), None, None)
    assert plain.reproduction == ""


def test_a_damaged_study_is_told(found):
    broken = found.entries[2]
    assert (broken.trials, broken.objective) == (2, None)
    assert "study.json is damaged" in broken.problem
    assert found.entries[3].problem == ""


def test_a_damaged_run_is_told(tmp_path):
    path = factory.write_study(tmp_path / "round1", trials(0.5))
    (path / "trial_0000/execution_0/run.json").write_text("{")
    (entry,) = studies.index(tmp_path).entries
    assert (entry.best, entry.command) == (0.5, ())
    assert "run.json is damaged" in entry.problem


@pytest.mark.parametrize(
    ("git", "expected"),
    [
        ({"commit": "abc", "diff": "", "untracked": []}, ("abc", False)),
        ({"commit": "abc", "diff": "-a\n+b\n", "untracked": []}, ("abc", True)),
        ({"commit": None, "diff": "", "untracked": ["a"]}, (None, True)),
        (None, (None, None)),
        ("odd", (None, None)),
    ],
)
def test_changes_since_the_commit(tmp_path, git, expected):
    path = factory.write_study(tmp_path / "round1", trials(0.5))
    record(path, 0, command="odd", working_directory=3, git=git)
    (entry,) = studies.index(tmp_path).entries
    assert (entry.commit, entry.has_changes) == expected
    assert (entry.command, entry.reproduction) == ((), "")


def test_curves_are_not_read(tmp_path):
    path = factory.write_study(tmp_path / "round1", trials(0.5))
    (path / "trial_0000/execution_0/curves.jsonl").unlink()
    (path / "trial_0000/execution_0/curves.jsonl").mkdir()
    assert studies.index(tmp_path).entries[0].best == 0.5


def test_table_and_markdown(found):
    console = rich.console.Console(file=io.StringIO(), width=80)
    console.print(found.table())
    text = console.file.getvalue()
    assert "a/round1" in text
    assert "val_loss 0.25 (0001)" in text
    assert found.reproductions() == [
        "a/round1: 0123456789 with changes, a/round1/study.json",
        "  cd /home/me && python train.py --name 'a b'",
        "b/plain: b/plain/trial_0000/execution_0/run.json",
        "broken: broken/study.json",
        "empty: empty/study.json",
    ]
    lines = found.to_markdown().splitlines()
    assert lines[0] == "| study | trials | best | note | reproduce | code | config |"
    assert lines[2] == (
        "| a/round1 | 2/2 | val\\_loss 0.25 (0001) | why so | cd /home/me && python train.py "
        "--name 'a b' | 0123456789 with changes | a/round1/study.json |"
    )
    assert len(lines) == 6


def test_a_study_itself_is_its_own_index(tmp_path):
    factory.write_study(tmp_path / "round1", trials(0.5))
    found = studies.index(tmp_path / "round1")
    assert [entry.name for entry in found.entries] == ["round1"]
    assert "| round1 | 1/1 |" in found.to_markdown()


def test_a_directory_without_studies_has_an_empty_index(tmp_path):
    assert studies.index(tmp_path).entries == ()
    assert studies.index(tmp_path).table().row_count == 0


@pytest.mark.parametrize(("name", "what"), [("a.txt", "is a file"), ("none", "does not exist")])
def test_what_is_no_directory_is_refused(tmp_path, name, what):
    (tmp_path / "a.txt").write_text(json.dumps({}))
    with pytest.raises(ValueError, match=f"must be a directory that holds studies.*which {what}"):
        studies.index(tmp_path / name)
