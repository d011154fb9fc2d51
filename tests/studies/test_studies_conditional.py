"""Hyperparameters that exist under a condition (C4): in the table, the pictures, the diagnoses."""

import dataclasses
import io
import math

import numpy as np
import pytest
import rich.console
from matplotlib.figure import Figure
from simulated import LOWER, OPTIMIZER, study

from tfplaybook import studies
from tfplaybook.search import halton
from tfplaybook.studies._diagnoses._importance import _settled
from tfplaybook.studies._figures import _slice_axis, _vary_together

PARENT = studies.Hyperparameter("optimizer", "choice", values=("sgd", "adam"))
SGD, ADAM = (
    studies.Hyperparameter(
        f"learning_rate (optimizer={name})",
        "float",
        "log",
        low,
        high,
        conditions=(("optimizer", (name,)),),
        declared_name="learning_rate",
    )
    for name, low, high in (("sgd", 1e-3, 1.0), ("adam", 1e-4, 1e-1))
)
WIDTH = studies.Hyperparameter("width", "int", "linear", 16, 128)


def conditional(count, cost):
    """Return a study whose optimizers alternate; `cost` is of (name, place of rate and width)."""
    trials = []
    for i in range(count):
        rate, width = halton(np.arange(i // 2, i // 2 + 1), 2, seed=0)[0]
        name, h = (("sgd", SGD), ("adam", ADAM))[i % 2]
        values = {
            "optimizer": name,
            h.name: h.min_value * (h.max_value / h.min_value) ** float(rate),
            "width": round(16 + 112 * float(width)),
        }
        objective = float(cost(name, rate, width))
        trials.append(studies.Trial(f"{i:04d}", values, "completed", objective))
    return study(*trials, space=(PARENT, SGD, ADAM, WIDTH), objective=LOWER)


STUDY = conditional(16, lambda name, rate, width: (name == "sgd") + (rate - 0.5) ** 2)


def test_in_the_table_they_share_the_column_of_their_declared_name():
    console = rich.console.Console(file=io.StringIO(), width=80)
    console.print(STUDY.table())
    lines = console.file.getvalue().splitlines()
    best = STUDY.best()[0]
    (row,) = [line for line in lines if line.startswith(best.trial_id) or best.trial_id in line]
    assert row.split() == [
        best.trial_id,
        f"{best.objective:.4g}",
        "–",  # noqa: RUF001
        "adam",
        f"{best.values[ADAM.name]:.4g}",
        str(best.values["width"]),
        "completed",
    ]
    assert len(lines) == 2 + 3 + 1 + 16 + 1  # no value is folded
    header = STUDY.to_markdown().splitlines()[4]
    assert header == (
        r"| trial | val\_loss | best epoch | optimizer | learning\_rate | width | status |"
    )


def test_in_a_file_each_has_a_column(tmp_path):
    header = STUDY.to_csv(tmp_path / "trials.csv").read_text().splitlines()[0]
    assert [name for name in header.split(",") if "rate" in name] == [SGD.name, ADAM.name]


def test_an_axis_plot_says_that_the_best_are_those_that_have_it():
    assert studies.axis_plot_record(STUDY, ADAM.name).finding().startswith("best 3 at ")
    finding = studies.axis_plot_record(STUDY, SGD.name).finding()
    assert finding.startswith("best 3 of those that have it at ")


def test_slices_show_what_varies_together_with_the_best_trials_rate():
    names = [h.name for h in STUDY.varied]
    assert _slice_axis(STUDY, names) == ADAM.name
    together = [name for name in names if _vary_together(STUDY, ADAM.name, name)]
    assert together == [ADAM.name, "width"]


def test_a_line_bridges_the_axes_that_its_trial_does_not_have():
    ax = studies.draw_parallel(studies.parallel_record(STUDY), Figure().add_subplot())
    (whole,) = [line for line in ax.get_lines() if str(line.get_label()).startswith("best: ")]
    assert np.isnan(whole.get_ydata()).tolist() == [False, True, False, False, False]
    bridges = [
        line
        for line in ax.get_lines()
        if line.get_color() == whole.get_color() and line is not whole
    ]
    assert [list(line.get_xdata()) for line in bridges] == [[0, 2]]
    assert list(bridges[0].get_ydata()) == list(whole.get_ydata()[[0, 2]])


@pytest.mark.parametrize(("better", "h"), [("adam", ADAM), ("adam", SGD), ("sgd", SGD)])
def test_the_end_of_a_range_is_judged_by_the_trials_that_have_it(better, h):
    outside = h.name.partition("=")[2].rstrip(")")
    made = conditional(
        40,
        lambda name, rate, width: (
            (0 if name == better else 9) + (rate - (1.3 if name == outside else 0.5)) ** 2
        ),
    )
    finding = studies.search_space_boundary(made)
    (expansion,) = finding.expansions
    assert (expansion.name, expansion.end) == (h.name, "upper")
    assert all(h.name in made.trials[int(i)].values for i in expansion.trials)
    assert finding.evidence.startswith(
        "The best 3 trials are" if better == outside else f"Of those that have {h.name} the best 3"
    )


def test_one_trial_at_an_end_is_no_cluster():
    def cost(name, rate, width):
        return (rate - 0.5) ** 2 + 0.1 * (name == "sgd")

    made = conditional(40, cost)
    # The best of all has SGD, near the end of its range; the other SGD trials say otherwise.
    lucky = max((t for t in made.trials if SGD.name in t.values), key=lambda t: t.values[SGD.name])
    trials = tuple(dataclasses.replace(t, objective=-0.1) if t is lucky else t for t in made.trials)
    assert studies.search_space_boundary(dataclasses.replace(made, trials=trials)).verdict == "ok"


def test_importance_counts_only_where_it_exists():
    made = conditional(48, lambda name, rate, width: (name == "adam") * 4 * (rate - 0.5))
    finding = studies.importance(made, seed=0)
    totals = {entry.name: entry.total for entry in finding.importances}
    # f = I g with a fair coin I and g uniform on [-2, 2]: E[Var(f | I)] = Var f, and given g
    # the variance g^2 / 4 is half of Var f = E[g^2] / 2 on average.
    assert totals[ADAM.name] == pytest.approx(1.0, abs=0.1)
    assert totals["optimizer"] == pytest.approx(0.5, abs=0.1)
    assert totals[SGD.name] == pytest.approx(0.0, abs=0.02)
    assert totals["width"] == pytest.approx(0.0, abs=0.02)


def test_where_it_does_not_exist_its_place_has_no_effect():
    points = np.array([[0.1, 0.9, 0.3, 0.2], [0.7, 0.9, 0.3, 0.2]])
    settled = _settled(points, (PARENT, SGD, ADAM, WIDTH))
    assert settled.tolist() == [[0.25, 0.9, 0.5, 0.2], [0.75, 0.5, 0.3, 0.2]]
    assert math.isclose(points[0, 0], 0.1)  # a copy
    nested = dataclasses.replace(ADAM, conditions=(("fixed", (3,)), ("optimizer", ("adam",))))
    assert _settled(points, (OPTIMIZER, SGD, nested, WIDTH))[1, 2] == 0.3
