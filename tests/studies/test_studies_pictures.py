"""Isolation, budget, parallel coordinates, slices, importance, norms and variance."""

import math

import matplotlib
import matplotlib.colors
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from simulated import (
    DROPOUT,
    HIGHER,
    LOWER,
    MOMENTUM,
    OPTIMIZER,
    RATE,
    UNITS,
    run,
    spread,
    study,
    trial,
)

from tfplaybook import studies

NAN, INF = math.nan, math.inf


def flat_title(ax):
    return " ".join(ax.get_title(loc="left").split())


class TestUnitAxis:
    @pytest.mark.parametrize(
        ("scale", "ends", "value", "place"),
        [
            ("linear", (2.0, 6.0), 3, 0.25),
            ("log", (1e-4, 1.0), 1e-1, 0.75),
            ("log", (1e-4, 1.0), 10.0, 1.25),
            ("reverse_log", (0.01, 1.0), 0.91, 0.5),
            ("linear", (3.0, 3.0), 3.0, 0.5),
            ("reverse_log", (0.01, 1.0), 1.5, None),
            ("log", (1e-4, 1.0), 0.0, None),
            ("log", (1e-4, 1.0), -1.0, None),
            ("linear", (0.0, 1.0), "a", None),
            ("linear", (0.0, 1.0), True, None),
            ("linear", (0.0, 1.0), NAN, None),
            ("linear", (0.0, 1.0), None, None),
        ],
    )
    def test_place(self, scale, ends, value, place):
        assert studies.UnitAxis("x", scale, ends).place(value) == (place and pytest.approx(place))

    @settings(deadline=None, max_examples=50)
    @given(
        st.sampled_from(["linear", "log", "reverse_log"]),
        st.floats(1e-6, 1.0),
        st.floats(1.1, 1e6),
        st.floats(0.0, 1.0),
    )
    def test_value_inverts_place_and_ticks_are_within(self, scale, low, ratio, place):
        axis = studies.UnitAxis("x", scale, (low, low * ratio))
        assert axis.place(axis.value(place)) == pytest.approx(place, abs=1e-6)
        places = [at for at, _ in axis.ticks()]
        assert len(places) >= 2
        assert places == sorted(places)
        assert places[0] >= -1e-6
        assert places[-1] <= 1 + 1e-6

    def test_categories(self):
        axis = studies.UnitAxis("x", "categorical", (0.0, 2.0), categories=("a", "b", "c"))
        assert [axis.place(value) for value in ("a", "b", "c", "d")] == [0.0, 0.5, 1.0, None]
        assert axis.ticks() == [(0.0, "a"), (0.5, "b"), (1.0, "c")]


class TestIsolation:
    def test_a_continuous_one_is_cut_into_buckets(self):
        trials = [
            trial(0, 0.5, learning_rate=2e-4),
            trial(1, 0.3, learning_rate=2e-2),
            trial(2, 0.4, learning_rate=5e-2),
            trial(3, None, "infeasible", learning_rate=0.5),
            trial(4, 0.35, learning_rate=1.0),
            trial(5, None, "running", learning_rate=0.5),
        ]
        record = studies.isolation_record(study(*trials), "learning_rate", buckets=4)
        found = [(b.low, b.high, b.completed, b.infeasible, b.best) for b in record.buckets]
        assert found == [
            (0.0, 0.25, 1, 0, 0.5),
            (0.25, 0.5, 0, 0, None),
            (0.5, 0.75, 2, 0, 0.3),
            (0.75, 1.0, 1, 1, 0.35),
        ]
        assert record.buckets[2].values == pytest.approx((1e-2, 1e-1))
        assert record.buckets[2].trial_id == "0001"
        assert record.finding() == "best at 0.01 to 0.1: 0.3 (n=2); next 0.35 (n=1)"

    def test_few_values_are_not_cut(self):
        objectives = [0.5, 0.4, 0.2, 0.3]
        trials = [trial(i, y, units=8 * 2 ** (i % 2)) for i, y in enumerate(objectives)]
        record = studies.isolation_record(study(*trials, space=[UNITS]), "units")
        assert [(b.values, b.completed, b.best) for b in record.buckets] == [
            ((8,), 2, 0.2),
            ((16,), 2, 0.3),
        ]
        assert record.finding() == "best at 8: 0.2 (n=2); next 16: 0.3 (n=2)"

    def test_every_category_has_a_bucket(self):
        record = studies.isolation_record(
            study(trial(0, 0.7, optimizer="adam"), space=[OPTIMIZER], objective=HIGHER), "optimizer"
        )
        assert [(b.label, b.completed) for b in record.buckets] == [("sgd", 0), ("adam", 1)]

    @settings(deadline=None, max_examples=30)
    @given(st.integers(1, 12), st.lists(st.floats(1e-4, 1.0), max_size=30))
    def test_no_trial_is_lost_or_counted_twice(self, buckets, rates):
        trials = [trial(i, 1.0 + i, learning_rate=rate) for i, rate in enumerate(rates)]
        record = studies.isolation_record(study(*trials), "learning_rate", buckets=buckets)
        assert sum(bucket.completed for bucket in record.buckets) == len(trials)
        best = [bucket.best for bucket in record.buckets if bucket.best is not None]
        assert min(best, default=None) == (1.0 if trials else None)

    @pytest.mark.parametrize(
        ("objective", "marker", "end"), [(LOWER, "^", 1.0), (HIGHER, "v", 0.0)]
    )
    def test_trials_off_the_axis_are_marked_at_its_bad_end(self, objective, marker, end):
        rates = {0: 0.1, 1: 0.1, 2: 0.1, 3: 0.1, 4: 10**-3.5, 5: 0.5}
        costs = [0.1, 0.2, 0.15, 0.12, 50.0, 70.0]
        trials = [trial(i, objective.cost(y), learning_rate=rates[i]) for i, y in enumerate(costs)]
        ax = studies.plot_isolation(study(*trials, objective=objective), "learning_rate", buckets=2)
        (marks,) = (line for line in ax.get_lines() if line.get_marker() == marker)
        assert marks.get_label() == "worse than the axis shows"
        assert list(marks.get_xdata()) == [
            pytest.approx(1 + math.log10(rates[i]) / 4) for i in (4, 5)
        ]
        assert all(abs(y - end) < 0.2 for y in marks.get_ydata())
        assert flat_title(ax).endswith("2 trials worse than the axis shows")
        assert [text.get_text() for text in ax.texts] == ["1", "4", "1"]

    def test_marks_of_one_value_are_beside_each_other(self):
        trials = [trial(i, 0.1 * i, optimizer="adam") for i in range(7)]
        trials += [trial(i, 90.0 + i, optimizer="sgd") for i in range(7, 12)]
        ax = studies.plot_isolation(study(*trials, space=[OPTIMIZER]), "optimizer")
        (marks,) = (line for line in ax.get_lines() if line.get_marker() == "^")
        places = marks.get_xdata()
        assert len(set(places)) == 5
        assert sum(places) == pytest.approx(0.0)
        assert max(places) < 0.35

    def test_trials_off_the_scale_are_counted(self):
        trials = [trial(0, 0.1, learning_rate=0.01), trial(1, 0.2, learning_rate=0.0)]
        record = studies.isolation_record(study(*trials), "learning_rate")
        assert record.left_out == ("0001",)
        ax = studies.plot_isolation(study(*trials), "learning_rate")
        assert flat_title(ax).endswith("1 trial off this scale left out")

    def test_buckets_are_a_count(self):
        with pytest.raises(ValueError, match="`buckets` must be an integer of at least 1"):
            studies.plot_isolation(study(), "learning_rate", buckets=0)


class TestBudget:
    def test_closed_form(self):
        # Of two trials the better is among two draws with probability 3/4.
        record = studies.budget_record(study(trial(0, 2.0), trial(1, 1.0)), budgets=[1, 2, 5])
        assert record.quantiles == (
            (1.0, 1.0, 1.0, 2.0, 2.0),
            (1.0, 1.0, 1.0, 1.0, 2.0),
            (1.0, 1.0, 1.0, 1.0, 1.0),
        )

    def test_trials_without_an_objective_find_nothing(self):
        trials = [trial(0, 0.9), trial(1, None, "infeasible"), trial(2, None, "failed")]
        record = studies.budget_record(
            study(*trials, trial(3, None, "running"), objective=HIGHER), budgets=[1, 20]
        )
        assert (record.trials, record.infeasible) == (3, 2)
        assert record.quantiles == ((0.9, 0.9, None, None, None), (0.9,) * 5)

    def test_it_agrees_with_the_bootstrap(self):
        values = np.random.default_rng(0).normal(size=25)
        rng = np.random.default_rng(1)
        found = rng.choice(values, size=(20_000, 7)).min(axis=1)
        trials = [trial(i, float(value)) for i, value in enumerate(values)]
        (quantiles,) = studies.budget_record(study(*trials), budgets=[7]).quantiles
        for share, value in zip((0.05, 0.25, 0.5, 0.75, 0.95), quantiles, strict=True):
            assert np.mean(found < value) - 0.02 <= share <= np.mean(found <= value) + 0.02

    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20))
    def test_more_trials_and_more_luck_are_never_worse(self, values):
        trials = [trial(i, value) for i, value in enumerate(values)]
        table = np.array(studies.budget_record(study(*trials)).quantiles, dtype=float)
        assert (np.diff(table, axis=0) <= 0).all()
        assert (np.diff(table, axis=1) >= 0).all()

    def test_finding(self):
        trials = [trial(i, 1.0 + i) for i in range(4)]
        assert studies.budget_record(study(*trials)).finding() == (
            "best of 2 trials: median 2 (1 to 2); best of 4 trials: median 1 (1 to 2)"
        )
        lost = [trial(i, None, "infeasible") for i in range(3)]
        found = studies.budget_record(study(trial(9, 0.5), *lost)).finding()
        assert found.startswith("best of 2 trials: median none (often none); best of 4 trials")
        assert studies.budget_record(study(*lost)).finding() == "no completed trial"

    def test_budgets_are_counts(self):
        with pytest.raises(ValueError, match=r"`budgets\[0\]` must be an integer"):
            studies.plot_budget(study(), budgets=[0])


class TestParallel:
    def test_every_trial_that_ended_is_a_line(self):
        trials = [
            trial(0, 0.2, learning_rate=1e-2, optimizer="adam", dropout=0.5),
            trial(1, 0.4, learning_rate=1.0, optimizer="sgd"),
            trial(2, None, "infeasible", learning_rate=0.0, optimizer="sgd"),
            trial(3, None, "running", learning_rate=1.0, optimizer="sgd"),
        ]
        record = studies.parallel_record(study(*trials, space=[RATE, OPTIMIZER, DROPOUT]))
        assert [axis.name for axis in record.axes] == ["learning_rate", "optimizer", "dropout"]
        assert record.lines[0] == studies.ParallelLine("0000", "completed", 1, (0.5, 1.0, 0.5), 0.0)
        assert record.lines[1].places == (1.0, 0.0, None)
        assert record.lines[1].end == 1.0
        assert record.lines[2].places == (None, 0.0, None)
        assert record.lines[2].end > 1.0
        assert len(record.lines) == 3

    def test_if_higher_is_better_the_bad_end_is_below(self):
        trials = [trial(0, 0.9, learning_rate=0.1), trial(1, None, "failed", learning_rate=0.1)]
        record = studies.parallel_record(study(*trials, objective=HIGHER))
        assert [line.end for line in record.lines] == [0.5, pytest.approx(-0.07)]

    def test_finding(self):
        space = [RATE, DROPOUT]
        near = [
            trial(i, 0.1 + i, learning_rate=0.1, dropout=d) for i, d in enumerate((0.1, 0.5, 0.9))
        ]
        finding = studies.parallel_record(study(*near, space=space)).finding()
        assert finding == "best 3 within a quarter of the range in learning_rate (0%)"
        apart = studies.parallel_record(study(*near, space=[DROPOUT])).finding()
        assert apart.startswith("best 3 are apart")
        assert studies.parallel_record(study(near[0])).finding() == "1 completed trial"

    def test_a_line_is_broken_where_its_trial_has_no_value(self):
        record = studies.parallel_record(study(trial(0, 0.2, dropout=0.5), space=[RATE, DROPOUT]))
        ax = studies.draw_parallel(record, Figure().add_subplot())
        (line,) = [line for line in ax.get_lines() if line.get_label() == "best: trial 0000"]
        assert np.isnan(line.get_ydata()).tolist() == [True, False, False]


class TestSlice:
    def test_every_trial_with_both_has_its_place(self):
        objectives = (0.1, 0.2, 0.12, 9.0)
        trials = [trial(i, y, learning_rate=1e-2, dropout=0.5) for i, y in enumerate(objectives)]
        trials += [
            trial(4, None, "infeasible", learning_rate=1.0, dropout=0.0),
            trial(5, None, "failed", learning_rate=1.0, dropout=0.0),
            trial(6, 0.3, learning_rate=1.0),
            trial(7, None, "running", learning_rate=1.0, dropout=0.0),
        ]
        record = studies.slice_record(
            study(*trials, space=[RATE, DROPOUT]), "learning_rate", "dropout"
        )
        assert record.points[0] == studies.SlicePoint("0000", 0.5, 0.5, 0.1, 1, "inside")
        assert [p.place for p in record.points] == [
            "inside", "inside", "inside", "beyond", "infeasible", "failed"
        ]  # fmt: skip
        assert record.finding() == (
            "best at learning_rate 0.01, dropout 0.5; 2 of 6 without an objective"
        )

    @pytest.mark.parametrize("objective", [LOWER, HIGHER])
    def test_dark_is_good(self, objective):
        trials = [trial(i, 0.1 + i, learning_rate=0.1, dropout=0.1 * i) for i in range(3)]
        made = study(*trials, space=[RATE, DROPOUT], objective=objective)
        ax = studies.plot_slice(made, "learning_rate", "dropout")
        marks = [m for m in ax.get_lines() if (m.get_marker(), m.get_markersize()) == ("o", 6)]
        by_height = {m.get_ydata()[0]: sum(m.get_markerfacecolor()[:3]) for m in marks}
        darkest = min(by_height, key=by_height.get)
        assert darkest == pytest.approx(0.0 if objective is LOWER else 0.2)

    def test_an_unknown_name_is_refused(self):
        with pytest.raises(ValueError, match="Did you mean 'learning_rate'"):
            studies.slice_record(study(), "learning_rat", "learning_rate")


class TestImportance:
    def test_bars_are_sorted_and_unclear_ones_grey(self):
        bars = studies.importance_bars(
            ["a", "b", "c"], [0.1, 0.7, 0.0], [-0.1, 0.5, 0], [0.3, 1, 0]
        )
        assert [(bar.name, bar.is_clear) for bar in bars] == [
            ("b", True),
            ("a", False),
            ("c", False),
        ]
        ax = studies.draw_importance(bars, Figure().add_subplot())
        colors = [matplotlib.colors.to_hex(patch.get_facecolor()) for patch in ax.patches]
        assert colors == ["#0072b2", "#8c96a3", "#8c96a3"]
        assert flat_title(ax) == "b explains 70% of the variance; 2 of 3 not told from 0"

    @pytest.mark.parametrize(
        ("values", "title"),
        [
            ([], ""),
            ([0.0, 0.0], "no hyperparameter matters beyond the uncertainty"),
            ([0.4], "a explains 40% of the variance"),
        ],
    )
    def test_titles(self, values, title):
        ax = studies.plot_importance(["a", "b"][: len(values)], values)
        assert flat_title(ax) == title
        assert len(ax.patches) == len(values)

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match=r"of one length\. Received lengths: \[1, 2\]"):
            studies.plot_importance(["a", "b"], [0.1])
        with pytest.raises(ValueError, match="must both be given, or neither"):
            studies.plot_importance(["a"], [0.1], low=[0.0])
        with pytest.raises(ValueError, match=r"`values\[0\]` must be a finite number"):
            studies.plot_importance(["a"], [NAN])


class TestNorms:
    @staticmethod
    def clipped():
        return run(gradient_norm=[1.0, 3.0, INF, 2.0], clip_threshold=[2.0] * 4)

    def test_record(self):
        record = studies.norms_record(study(trial(0, 0.5), trial(1, 0.9, runs=[self.clipped()])))
        assert record.trial_id == "0001"
        assert record.norms.tolist() == [1.0, 3.0, INF, 2.0]
        assert (record.median, record.percentile_90) == (2.0, pytest.approx(2.8))
        assert (record.above_fraction, record.non_finite) == (0.25, 1)
        assert record.finding() == (
            "trial 0001: norms 2 (median), 2.8 (90%), 25% of 4 above the threshold, 1 not finite"
        )

    def test_without_thresholds_none_is_exceeded(self):
        made = study(trial(0, None, "infeasible", [run(gradient_norm=[1.0, NAN])]))
        record = studies.norms_record(made)
        assert np.isinf(record.thresholds).all()
        assert record.finding() == "trial 0000: norms 1 (median), 1 (90%), 1 not finite"

    def test_the_trial_may_be_named(self):
        made = study(*(trial(i, 0.5, runs=[run(gradient_norm=[i + 1.0])]) for i in range(3)))
        assert studies.norms_record(made, "0002").median == 3.0
        with pytest.raises(ValueError, match="`trial_id` must be one of"):
            studies.norms_record(made, "3")

    def test_a_study_without_norms_says_how_to_get_them(self):
        with pytest.raises(ValueError, match=r"No trial of 'round1' .*monitor_only=True"):
            studies.plot_norms(study(trial(0, 0.5)))
        with pytest.raises(ValueError, match=r"The trial '0000' of 'round1' has not recorded"):
            studies.plot_norms(study(trial(0, 0.5)), "0000")

    def test_drawing(self):
        ax = studies.plot_norms(study(trial(0, 0.5, runs=[self.clipped()])))
        labels = ax.get_legend_handles_labels()[1]
        assert labels == [
            "norm",
            "above the threshold: 25.0% of the updates",
            "threshold",
            "not finite: 1",
        ]
        assert len(ax.child_axes) == 1


class TestVariance:
    def test_executions_and_equal_trials_are_repeats(self):
        trials = [
            trial(0, 1.5, runs=[run(val_loss=[9.0, 1.0]), run(val_loss=[2.0, NAN])], units=8),
            trial(1, 2.0, units=16),
            trial(2, 4.0, units=16),
            trial(3, 9.0, units=32),
            trial(4, None, "infeasible", units=32),
        ]
        record = studies.variance_record(study(*trials, space=[UNITS]))
        assert record.strips == (
            studies.VarianceStrip(("0000",), (1.0, 2.0)),
            studies.VarianceStrip(("0001", "0002"), (2.0, 4.0)),
        )
        # (0.5 + 2.0) over 2 degrees of freedom; the means are 1.5, 3 and 9.
        assert record.within == pytest.approx(math.sqrt(2.5 / 2))
        assert record.between == pytest.approx(np.std([1.5, 3.0, 9.0], ddof=1))
        assert record.finding() == (
            "retraining changes it by 1.1 (sd of 4 trainings); 3 configurations differ by 4"
        )

    def test_no_repeats(self):
        record = studies.variance_record(study(trial(0, 1.0, units=1), trial(1, 1.0, units=True)))
        assert (record.strips, record.within) == ((), None)
        assert record.configurations == 2
        assert studies.variance_record(study()).between is None

    def test_if_higher_is_better_the_highest_mean_is_first(self):
        pairs = [(0, 0.1), (1, 0.2), (0, 0.3), (1, 0.9)]
        trials = [trial(i, y, units=u) for i, (u, y) in enumerate(pairs)]
        record = studies.variance_record(study(*trials, objective=HIGHER))
        assert [strip.label for strip in record.strips] == ["0001 +1", "0000 +1"]

    def test_at_most_so_many_are_drawn(self):
        trials = [trial(i, float(i), units=i // 2) for i in range(12)]
        ax = studies.plot_variance(study(*trials), most=4)
        assert len(ax.get_yticklabels()) == 4
        assert flat_title(ax).endswith("best 4 of 6 shown")
        with pytest.raises(ValueError, match="`most` must be an integer"):
            studies.plot_variance(study(), most=0)


PLOTS = {
    "isolation": lambda s, ax: studies.plot_isolation(s, "learning_rate", ax=ax),
    "isolation of categories": lambda s, ax: studies.plot_isolation(s, "optimizer", ax=ax),
    "budget": lambda s, ax: studies.plot_budget(s, ax=ax),
    "parallel": lambda s, ax: studies.plot_parallel(s, ax=ax),
    "slice": lambda s, ax: studies.plot_slice(s, "learning_rate", "momentum", ax=ax),
    "slice of categories": lambda s, ax: studies.plot_slice(s, "units", "optimizer", ax=ax),
    "norms": lambda s, ax: studies.plot_norms(s, ax=ax),
    "variance": lambda s, ax: studies.plot_variance(s, ax=ax),
}
STUDIES = {
    "no trial": lambda: spread(0),
    "one trial": lambda: spread(1),
    "two": lambda: spread(2, HIGHER),
    "many": lambda: spread(60),
    "running": lambda: study(trial(0, None, "running", learning_rate=0.1), space=spread(0).space),
    "infeasible": lambda: study(
        *(trial(i, None, "infeasible", learning_rate=0.1, units=8) for i in range(3)),
        space=spread(0).space,
    ),
    "equal": lambda: study(
        *(trial(i, 0.5, learning_rate=0.1, optimizer="sgd") for i in range(4)),
        space=spread(0).space,
    ),
}


@pytest.mark.parametrize("case", STUDIES)
@pytest.mark.parametrize("plot", PLOTS)
def test_every_picture_of_every_study_is_drawn_on_the_axes_given(plot, case):
    made = STUDIES[case]()
    before = dict(matplotlib.rcParams)
    ax = Figure(layout="constrained").add_subplot()
    if plot == "norms" and case not in ("one trial", "two", "many"):
        with pytest.raises(ValueError, match="recorded the curve 'gradient_norm'"):
            PLOTS[plot](made, ax)
        return
    assert PLOTS[plot](made, ax) is ax
    assert flat_title(ax)
    figure = ax.get_figure()
    figure.draw_without_rendering()
    assert figure.legends == []
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("plot", PLOTS)
def test_without_axes_there_is_a_figure_with_title_and_legend(plot):
    figure = PLOTS[plot](spread(30), None).get_figure()
    assert figure.get_suptitle().startswith("round1: val_loss (lower is better)\n30 trials")
    assert len(figure.legends) == (plot != "variance")


def test_momentum_is_on_its_own_scale():
    axis = studies.slice_record(spread(8), "momentum", "units").x
    assert (axis.scale, axis.range) == ("reverse_log", (MOMENTUM.min_value, MOMENTUM.max_value))
