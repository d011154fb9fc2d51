"""The installed `tfplaybook` command in a process of its own."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import tfplaybook
from tfplaybook.cli import main


def command(*arguments):
    script = Path(sysconfig.get_path("scripts")) / "tfplaybook"
    return subprocess.run([script, *arguments], capture_output=True, text=True, check=False)


def test_prints_its_version():
    assert command("--version").stdout.strip() == f"tfplaybook {tfplaybook.__version__}"


def test_says_what_a_directory_is_that_is_not_a_study(tmp_path):
    done = command("show", str(tmp_path))
    assert done.returncode == 2
    assert "tfplaybook: `path` must be a study" in done.stderr
    assert "Traceback" not in done.stderr


def test_shows_a_keras_tuner_project_and_writes_its_pictures(tmp_path):
    project = tmp_path / "round1"
    trial = project / "trial_0000"
    trial.mkdir(parents=True)
    (trial / "trial.json").write_text(TRIAL)
    done = command("show", str(project), "--plots", str(tmp_path / "plots"))
    assert done.returncode == 0, done.stderr
    assert "1 trial: 1 completed" in done.stdout
    assert "0.0625" in done.stdout
    assert (tmp_path / "plots" / "axis_plots.png").read_bytes().startswith(b"\x89PNG")
    assert "axis_plots.png" in done.stdout
    assert not (tmp_path / "plots" / "training_curves.png").exists()
    assert "left out training_curves.png" in done.stdout
    assert "left out budget.png: fewer than two trials are completed" in done.stdout
    written = command("report", str(project))
    assert written.stdout == f"wrote {project / 'report.html'}\n"
    assert (project / "report.html").read_text().startswith("<!doctype html>")
    listed = command("index", "--markdown", str(tmp_path))
    assert "| round1 | 1/1 | val\\_loss 0.0625 (0000) |" in listed.stdout


def test_profiles_a_function_of_the_current_directory(tmp_path, monkeypatch):
    (tmp_path / "my_input.py").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    done = command("profile", "my_input:train", "--seconds", "0.3", "--plot", "input.png")
    assert done.returncode == 0, done.stderr
    assert "map square" in done.stdout
    assert "my_input.py:7: shuffle: unseeded shuffle" in done.stdout
    assert (tmp_path / "input.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_input", "must name a function in a module"),
        ("nowhere:train", "There is no module 'nowhere'"),
        ("my_input:missing", "has no function 'missing'"),
        ("my_input:number", "a function that returned int"),
        ("my_input.py:train", "Leave out the '.py': my_input:train"),
        ("my_input:constant", "must be a function that returns a `tf.data.Dataset`"),
        ("my_input:needy", "Received a function that needs 'folder'"),
    ],
)
def test_says_what_cannot_be_profiled(name, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "my_input.py").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["profile", name]) == 2
    assert message in capsys.readouterr().err


def test_the_errors_of_the_users_code_keep_their_traceback(tmp_path, monkeypatch):
    (tmp_path / "my_input.py").write_text(PIPELINE)
    (tmp_path / "my_imports.py").write_text("import not_there_at_all")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(TypeError, match="unsupported operand"):
        main(["profile", "my_input:broken"])
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        main(["profile", "my_imports:train"])


def test_the_function_may_import_from_the_current_directory(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_input.py").write_text(PIPELINE)
    (tmp_path / "my_helper.py").write_text("from my_input import train")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["profile", "my_input:lazy", "--seconds", "0.2"]) == 0
    assert "map square" in capsys.readouterr().out


PIPELINE = """import tensorflow as tf

def square(x):
    return x * x

def train():
    return tf.data.Dataset.range(100).shuffle(10).map(square).batch(4)

def number():
    return 3

def needy(folder):
    return train()

constant = 3

def lazy():
    import my_helper
    return my_helper.train()

def broken():
    return 1 + "1"
"""

TRIAL = """
{"trial_id": "0000", "status": "COMPLETED", "score": 0.0625, "best_step": 2, "message": null,
 "hyperparameters": {"values": {"learning_rate": 0.01}, "space": [{"class_name": "Float", "config":
   {"name": "learning_rate", "default": 0.001, "conditions": [], "min_value": 0.001,
    "max_value": 0.1, "step": null, "sampling": "log"}}]},
 "metrics": {"metrics": {"val_loss": {"direction": "min",
   "observations": [{"value": [0.0625], "step": 2}]}}}}
"""
