"""The README and the examples, run as a user runs them: new processes in an empty folder."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tfplaybook as pb

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"


def run(*arguments, cwd):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo as `make demo` runs it, and its folder."""
    folder = tmp_path_factory.mktemp("demo")
    return run(EXAMPLES / "tune_digits.py", cwd=folder), folder


def test_the_demo_classifies_the_test_split_and_counts(demo):
    output = demo[0].stdout
    correct, total = map(int, re.search(r"network: +(\d+) of (\d+) test", output).groups())
    assert total == 300
    assert correct >= 0.985 * total
    assert re.search(r"scikit-learn's SVC: +\d+ of 300 test examples correct", output)


def test_the_demo_is_quiet(demo):
    assert demo[0].stderr == ""


def test_the_demo_profiles_its_input(demo):
    assert re.search(r"[\d,.]+ elements/s over", demo[0].stdout)
    assert "\nbottleneck: " in demo[0].stdout


def test_the_demo_leaves_a_study_with_pictures_and_runs(demo):
    done, folder = demo
    study = pb.studies.load(folder / "studies" / "digits")
    assert len(study.trials) == 16
    assert study.best()[0].curves("learning_rate")
    for name in ("axis_plots.png", "training_curves.png"):
        assert (study.path / "plots" / name).read_bytes().startswith(b"\x89PNG")
        assert name in done.stdout
    assert str(study.path / "report.html") in done.stdout
    assert (study.path / "report.html").stat().st_size < 400_000
    long = pb.runs.load_run(folder / "studies" / "digits_long")
    rates = long.curves["learning_rate"].values
    assert len(rates) == long.info["fit"]["epochs"] * long.info["fit"]["steps"]


def test_the_same_seed_gives_the_same_trials(demo, tmp_path):
    run(EXAMPLES / "tune_digits.py", "--trials", 2, cwd=tmp_path)
    again = pb.studies.load(tmp_path / "studies" / "digits").trials
    first = pb.studies.load(demo[1] / "studies" / "digits").trials[:2]
    assert [trial.values for trial in again] == [trial.values for trial in first]
    assert [trial.objective for trial in again] == [trial.objective for trial in first]


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_tpu_example_runs_here(replicas, tmp_path):
    done = run(EXAMPLES / "train_tpu.py", "--epochs", 3, "--replicas", replicas, cwd=tmp_path)
    assert f"replicas: {replicas}" in done.stdout
    assert float(re.search(r"accuracy ([\d.]+)%", done.stdout).group(1)) > 50
    assert done.stderr == ""
    curve = pb.runs.load_run(tmp_path / "runs" / "tpu").curves["learning_rate"]
    assert len(curve.steps) == 3


def test_the_unstable_training_is_rescued_by_warmup_and_by_clipping(tmp_path):
    done = run(EXAMPLES / "unstable_training.py", "--epochs", 10, cwd=tmp_path)
    assert done.stderr == ""
    runs = tmp_path / "runs" / "unstable"
    losses = {
        name: pb.runs.load_run(runs / name).curves["batch_loss"].values
        for name in ("plain", "warmup", "clipped")
    }
    assert not np.isfinite(losses["plain"][-1])
    assert "gradient norms were not finite, the first at step" in done.stdout
    for name in ("warmup", "clipped"):
        assert losses[name][:5].mean() > 5.0
        assert losses[name][-20:].mean() < 1.0
    for name in ("losses.png", "gradient_norms.png"):
        assert (runs / name).read_bytes().startswith(b"\x89PNG")


def test_optimizers_are_compared_at_their_own_learning_rates(tmp_path):
    done = run(EXAMPLES / "compare_optimizers.py", "--trials", 5, "--epochs", 2, cwd=tmp_path)
    assert done.stderr == ""
    study = pb.studies.load(tmp_path / "studies" / "optimizers")
    assert [trial.values["optimizer"] for trial in study.trials] == ["nesterov", "adam"] * 2
    for trial in study.trials:
        assert f"learning_rate (optimizer={trial.values['optimizer']})" in trial.values
    for pair in (study.trials[:2], study.trials[2:]):
        assert len({trial.values["dropout"] for trial in pair}) == 1
    assert "2 for each configuration" in done.stdout
    for name in ("nesterov", "adam"):
        assert re.search(rf"{name}: 2 trials, 0 infeasible, best val_loss [\d.]+ at", done.stdout)
    assert "Every conclusion holds for width=128 only (C1)." in done.stdout
    assert (study.path / "isolation_optimizer.png").read_bytes().startswith(b"\x89PNG")


def test_two_hosts_read_a_set_once(tmp_path):
    done = run(EXAMPLES / "shard_over_hosts.py", cwd=tmp_path)
    counts = re.findall(
        r"hosts read (\d+) and (\d+) records, (\d+) different ones of 210", done.stdout
    )
    assert counts == [("104", "104", "208")] * 2
    assert "below file level: 105 records in 4 files, host 0 of 2" in done.stderr


def test_the_planted_bottleneck_is_found_and_repaired(tmp_path):
    done = run(EXAMPLES / "profile_input.py", "--seconds", 0.5, "--steps", 30, cwd=tmp_path)
    assert done.stderr == ""
    before, after = re.findall(r"training waits (\d+)% of its time", done.stdout)
    assert int(after) < int(before)
    assert "bottleneck: map read (profile_input.py:" in done.stdout
    assert re.search(r"in all ([\d.]+) times the rate", done.stdout)
    picture = tmp_path / "runs" / "profile" / "profile.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_readme_runs_as_written(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    assert len(blocks) == 3
    for block in blocks:
        run("-c", block, cwd=tmp_path)
    assert pb.runs.CheckpointReader(tmp_path / "runs" / "first" / "checkpoints").entries()
    assert len(pb.studies.load(tmp_path / "studies" / "round1").completed) == 8


def test_an_unknown_data_set_is_refused_with_the_embedded_one_named(tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "tune_digits.py", "--dataset", "nonsense"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "'nonsense'" in done.stderr
