"""The report as a file: what is in it, how large it is, and that it is whole or not there."""

import base64
import hashlib
import json
import re

import numpy as np
import pytest
import simulated
from simulated import RATE, run, study, trial

from tfplaybook import studies
from tfplaybook.runs import Curve
from tfplaybook.search import Roles
from tfplaybook.studies._origin import Origin, origin_of
from tfplaybook.studies._report._content import report_content
from tfplaybook.studies._report._curves import thinned


def content_of(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*)</script>\n<script type="module">', text)[1])


def test_the_page_holds_the_content_and_names_its_own_script_and_style(tmp_path):
    path = simulated.spread(20).report(tmp_path / "report.html")
    content = content_of(path)
    assert [t["id"] for t in content["trials"]] == [f"{i:04d}" for i in range(20)]
    text = path.read_text(encoding="utf-8")
    policy = re.search('Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'; ")
    for kind, tag in (("script", '<script type="module">'), ("style", "<style>")):
        inside = text.split(tag)[1].split(f"</{kind}>")[0]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.search(r"""(src|href)=["'](?!#)""", text)


def test_a_hundred_trials_with_long_curves_stay_small(tmp_path):
    rng = np.random.default_rng(0)
    names = ("loss", "val_loss", "accuracy", "val_accuracy", "learning_rate", "gradient_norm")
    trials = [
        trial(
            i, 0.1 + i, runs=[run(**{n: rng.normal(size=2000) for n in names})], learning_rate=0.1
        )
        for i in range(100)
    ]
    path = study(*trials).report(tmp_path / "report.html")
    assert path.stat().st_size < 400_000


def test_thinned_curves_keep_their_ends_their_extremes_and_where_they_break():
    values = np.linspace(1.0, 2.0, 1000)
    values[345], values[678], values[901] = -5.0, 7.0, np.nan
    curve = thinned(Curve(np.arange(1000), values), 50)
    assert len(curve.steps) <= 51
    assert {0, 345, 678, 901, 999} <= set(curve.steps.tolist())
    short = Curve(np.arange(3), np.ones(3))
    assert thinned(short, 50) is short


def test_outcomes_of_other_objectives_are_those_of_the_study_with_that_objective():
    record = simulated.spread(14)
    outcomes = report_content(record)["outcomes"]
    for direction in ("min", "max"):
        other = record.with_objective(studies.Objective("gradient_norm", direction))
        assert [row[0] for row in outcomes["gradient_norm"][direction]] == [
            t.status for t in other.trials
        ]
        assert [
            row[1] for row in outcomes["gradient_norm"][direction] if row[0] == "completed"
        ] == [t.objective for t in other.trials if t.status == "completed"]


def test_places_are_fractions_of_the_searched_range():
    record = study(trial(0, 1.0, learning_rate=1e-2), trial(1, 2.0), space=(RATE,))
    content = report_content(record)
    assert [t["places"] for t in content["trials"]] == [[0.5], [None]]
    assert content["axes"][0]["bounds"] == [0.0, 1.0]


def test_scientific_hyperparameters_have_an_isolation_plot():
    record = simulated.spread(10)
    assert report_content(record)["isolations"] == []
    by_name = report_content(record, scientific=["optimizer"])["isolations"]
    assert [label for *_, label in by_name[0]["buckets"]] == ["sgd", "adam"]
    roles = Roles(scientific=["optimizer"], fixed={"units": 8})
    named = study(*record.trials, space=record.space)
    named = type(named)(**{**vars(named), "roles": roles})
    content = report_content(named)
    assert content["isolations"] == by_name
    assert content["caveat"] == "Every conclusion holds for units=8 only (C1)."


def test_every_command_and_its_code_is_listed_once(make_study):
    loaded = make_study([{"values": {"learning_rate": 0.1}, "score": 1.0, "runs": [{}, {}]}] * 3)
    content = report_content(loaded)
    assert len(content["origins"]) == 1
    assert [run["path"] for run in content["trials"][1]["runs"]] == [
        "trial_0001/execution_0",
        "trial_0001/execution_1",
    ]


def test_an_origin_is_read_from_whatever_run_json_holds():
    info = {
        "command": ["python", "my search.py"],
        "working_directory": "/home/me",
        "python": "3.12",
        "versions": {"keras": "3.15"},
        "git": {"commit": "abc", "diff": "+1", "untracked": ["new.py"]},
    }
    origin = origin_of(info)
    assert origin.reproduction == "cd /home/me && python 'my search.py'"
    assert (origin.commit, origin.has_changes, origin.untracked) == ("abc", True, ("new.py",))
    assert origin.versions == (("python", "3.12"), ("keras", "3.15"))
    assert origin_of({"git": 3, "command": "x", "versions": [], "host": None}) == Origin()


def test_a_failure_leaves_the_old_report(tmp_path, monkeypatch):
    path = simulated.spread(3).report(tmp_path / "report.html")
    old = path.read_bytes()
    with pytest.raises(ValueError, match="name"):
        simulated.spread(4).report(path, scientific=["nothing"])
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        simulated.spread(5).report(path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_path_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(ValueError, match="which is a directory"):
        simulated.spread(1).report(tmp_path)
    with pytest.raises(ValueError, match="in a directory that exists"):
        simulated.spread(1).report(tmp_path / "missing" / "report.html")
