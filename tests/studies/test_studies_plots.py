import math
import sys

import matplotlib
import matplotlib.image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from study_factory import OPTIMIZER, RATE, UNITS, hyperparameter

from tfplaybook import studies
from tfplaybook.studies._clipping import clip_limit
from tfplaybook.studies._format import shorten

LOWER = studies.Objective("val_loss", "min")
HIGHER = studies.Objective("val_accuracy", "max")
NAN = math.nan


def flat_title(ax):
    return " ".join(ax.get_title(loc="left").split())


def completed(score, **values):
    runs = [{"loss": [2.0, 1.0, score], "val_loss": [2.0, score, score + 0.1]}]
    return {"values": values, "score": score, "runs": runs}


def diverged(**values):
    runs = [{"loss": [2.0, 9.0, NAN], "val_loss": [2.0, NAN]}]
    return {"values": values, "status": "FAILED", "message": "infeasible: NaN", "runs": runs}


class TestClipLimit:
    @pytest.mark.parametrize(
        ("values", "objective", "expected"),
        [
            ([1.0], LOWER, None),
            ([1.0, 2.0, 4.0], LOWER, None),
            ([1.0, 2.0, 4.5], LOWER, 4.0),
            ([5.0, 1.0, 1e9, 2.0, 3.0], LOWER, 7.0),
            ([0.9, 0.8, 0.1], HIGHER, 0.6),
            ([0.5, 0.5, 0.5], LOWER, None),
            ([0.5, 0.5, 1e9], LOWER, None),
        ],
    )
    def test_closed_form(self, values, objective, expected):
        assert clip_limit(values, objective) == (expected and pytest.approx(expected))

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
    def test_properties(self, values):
        limit = clip_limit(values, LOWER)
        mirrored = clip_limit([-value for value in values], HIGHER)
        assert mirrored == (None if limit is None else -limit)
        if limit is not None:
            assert min(values) < limit < max(values)
            assert sum(value <= limit for value in values) >= len(values) / 2


class TestAxisPlotRecord:
    def test_every_trial_has_its_place(self, make_study):
        study = make_study(
            [
                completed(0.3, learning_rate=0.01),
                completed(0.1, learning_rate=0.1),
                completed(0.2, learning_rate=2.0),
                completed(50.0, learning_rate=1e-4),
                diverged(learning_rate=0.9),
                {"values": {"learning_rate": 0.5}, "status": "FAILED", "message": "boom"},
                {"values": {"learning_rate": 0.4}, "status": "RUNNING"},
                completed(0.25, units=8),
            ]
        )
        assert studies.axis_plot_record(study, "learning_rate") == studies.AxisPlotRecord(
            name="learning_rate",
            objective=LOWER,
            scale="log",
            x_range=(1e-4, 2.0),
            bounds=(1e-4, 1.0),
            y_range=(0.1, 0.3),
            points=(
                studies.AxisPoint("0000", 0.01, 0.3, 4, "inside"),
                studies.AxisPoint("0001", 0.1, 0.1, 1, "inside"),
                studies.AxisPoint("0002", 2.0, 0.2, 2, "inside"),
                studies.AxisPoint("0003", 1e-4, 50.0, 5, "beyond"),
                studies.AxisPoint("0004", 0.9, None, None, "infeasible"),
                studies.AxisPoint("0005", 0.5, None, None, "failed"),
            ),
        )

    @pytest.mark.parametrize(
        ("name", "values", "left_out"),
        [
            ("learning_rate", [0.1, 0, -1.0, "high", [0.1], None, True, NAN, math.inf], 8),
            ("units", [8, 0, -1.0, "many", [8], None, True, NAN], 5),
            ("momentum", [0.9, 0, -0.5, "0.9"], 3),
            ("optimizer", ["sgd", "lion", 3, ["sgd"], None, {}], 3),
        ],
    )
    def test_values_without_a_place_are_left_out_and_counted(
        self, make_study, tmp_path, name, values, left_out
    ):
        momentum = hyperparameter(
            "Float", "momentum", min_value=0.5, max_value=0.99, sampling="reverse_log"
        )
        trials = [completed(0.1 + i, **{name: value}) for i, value in enumerate(values)]
        study = make_study(trials, [RATE, UNITS, OPTIMIZER, momentum])
        record = studies.axis_plot_record(study, name)
        assert len(record.points) == len(values) - left_out
        assert len(record.left_out) == left_out
        ax = studies.plot_axis(study, name)
        assert f"{left_out} trials off this scale left out" in flat_title(ax)
        ax.figure.savefig(tmp_path / "axis.png")

    def test_if_higher_is_better_the_low_ones_are_beyond(self, make_study):
        scores = [0.9, 0.8, 0.85, 0.1]
        trials = [{"values": {"units": 8}, "score": score} for score in scores]
        study = make_study(trials, objective=("val_accuracy", "max"))
        record = studies.axis_plot_record(study, "units")
        assert record.scale == "linear"
        assert record.y_range == (0.9, 0.8)
        assert [point.place for point in record.points] == ["inside"] * 3 + ["beyond"]

    def test_categories_keep_their_trials_apart(self, make_study):
        names = ["sgd", "adam", "adam", "adam", "lion"]
        study = make_study([completed(0.1, optimizer=name) for name in names], [OPTIMIZER])
        record = studies.axis_plot_record(study, "optimizer")
        assert record.scale == "categorical"
        assert record.categories == ("sgd", "adam", "lion")
        assert record.x_range == (-0.5, 2.5)
        assert [p.x for p in record.points] == pytest.approx([0.0, 0.88, 1.0, 1.12, 2.0])

    def test_a_crowded_category_stays_within_its_width(self, make_study):
        study = make_study([completed(0.1, optimizer="adam")] * 40, [OPTIMIZER])
        xs = [point.x for point in studies.axis_plot_record(study, "optimizer").points]
        assert (min(xs), max(xs)) == pytest.approx((0.7, 1.3))
        assert len(set(xs)) == 40

    def test_without_a_completed_trial_there_is_no_range(self, make_study):
        record = studies.axis_plot_record(make_study([diverged(units=8)]), "units")
        assert record.y_range is None
        assert [point.place for point in record.points] == ["infeasible"]

    def test_an_unknown_name_is_refused(self, make_study):
        with pytest.raises(ValueError, match="Did you mean 'units'"):
            studies.axis_plot_record(make_study(), "unit")

    @pytest.mark.parametrize(
        ("name", "values", "finding"),
        [
            ("learning_rate", [1e-2], "best at 0.01, 50% of the range"),
            ("learning_rate", [1e-1, 1e-2, 1e-4, 1e-3], "best 3 at 0.0001 to 0.1, 0% to 75%"),
            ("learning_rate", [2.0, 2.0], "best 2 at 2, 108% of the range"),
            ("optimizer", ["sgd", "adam", "sgd"], "best 3 at sgd (2), adam (1)"),
            ("optimizer", ["sgd"] * 3, "best 3 at sgd"),
            ("optimizer", [], "no completed trial"),
        ],
    )
    def test_the_title_says_where_the_best_are(self, make_study, name, values, finding):
        study = make_study([completed(0.1 * i, **{name: v}) for i, v in enumerate(values)])
        assert studies.axis_plot_record(study, name).finding().startswith(finding)
        assert finding in flat_title(studies.plot_axis(study, name))

    def test_a_range_that_nobody_declared_has_no_ends(self):
        rows = [{"x": x, "val_loss": 1.0 + x} for x in (1.0, 2.0)]
        study = studies.from_records(rows)
        record = studies.axis_plot_record(study, "x")
        assert (record.x_range, record.bounds) == ((1.0, 2.0), None)
        assert record.finding() == "best 2 at 1 to 2"
        lines = studies.plot_axis(study, "x").get_lines()
        assert not [line for line in lines if line.get_linestyle() == ":"]


class TestCurvesRecord:
    def test_parts_ranks_and_divergences(self, make_study):
        study = make_study([completed(0.3), diverged(), completed(0.1)])
        record = studies.curves_record(study, highlight=1)
        assert record.metric == studies.Objective("loss", "min")
        assert [(line.trial_id, line.part, line.rank, line.status) for line in record.lines] == [
            ("0000", "validation", None, "completed"),
            ("0001", "validation", None, "infeasible"),
            ("0002", "validation", 1, "completed"),
            ("0002", "training", 1, "completed"),
        ]
        assert record.lines[1].curve.values.tolist() == [2.0]
        assert record.divergences == (("0001", 20),)
        assert [t.trial_id for t in record.highlighted] == ["0002"]

    @pytest.mark.parametrize(
        ("curves", "step"),
        [
            ({"val_loss": [1.0, math.inf, 1.0]}, 20),
            ({"loss": [1.0, NAN, NAN], "val_loss": [1.0]}, 30),
            ({"loss": [NAN]}, 10),
        ],
    )
    def test_where_an_infeasible_run_diverged(self, make_study, curves, step):
        study = make_study([completed(0.5), {**diverged(), "runs": [curves]}])
        assert studies.curves_record(study).divergences == (("0001", step),)

    def test_training_curves_stand_in_for_missing_validation(self, make_study):
        study = make_study([{"values": {}, "score": 0.1, "runs": [{"loss": [1.0]}]}])
        record = studies.curves_record(study)
        assert record.main_part == "training"
        assert [line.part for line in record.lines] == ["training"]

    def test_the_finding_says_where_the_best_trial_was_best(self, make_study):
        runs = [{"val_loss": [3.0, 0.5, 1.0, 1.0]}, {"val_loss": [3.0, 0.4, 0.3, 1.0]}]
        study = make_study([{"values": {}, "score": 0.4, "runs": runs}, completed(0.9)])
        finding = "best trial: validation loss 0.3 at step 30 of 40 (75%)"
        assert studies.curves_record(study).finding() == finding
        assert flat_title(studies.plot_curves(study)) == finding
        assert studies.curves_record(make_study(name="b")).finding() == ""

    def test_every_execution_has_a_line(self, make_study):
        runs = [{"val_loss": [1.0]}, {"val_loss": [2.0]}]
        study = make_study([{"values": {}, "score": 1.5, "runs": runs}])
        assert len(studies.curves_record(study).lines) == 2

    @pytest.mark.parametrize(
        ("curves", "expected"),
        [
            ([[1.0, 0.5]], (0.5, 1.0)),
            # The median of the worst values is 1.0, so the axis ends at 0.5 + 1.5 * 0.5.
            ([[1.0, 0.5], [1.0, 0.6], [9.0, 9.0]], (0.5, 1.25)),
            # A huge loss within the first 5% is cut off.
            ([[1e9, *([1.0] * 38), 0.5]], (0.5, 1.25)),
        ],
    )
    def test_range(self, make_study, curves, expected):
        trials = [{"values": {}, "score": 0.5, "runs": [{"val_loss": curve}]} for curve in curves]
        assert studies.curves_record(make_study(trials)).y_range == expected

    def test_diverged_curves_do_not_stretch_the_range(self, make_study):
        record = studies.curves_record(make_study([completed(0.5), diverged(), diverged()]))
        assert record.y_range == (0.5, 2.0)
        assert studies.curves_record(make_study([diverged()], name="b")).y_range == (2.0, 2.0)
        assert studies.curves_record(make_study(name="c")).y_range is None

    def test_the_metric_may_be_any_that_was_recorded(self, make_study):
        runs = [{"accuracy": [0.1, 0.9], "val_accuracy": [0.1, 0.8], "val_loss": [1.0, 0.5]}]
        study = make_study([{"values": {}, "score": 0.5, "runs": runs}])
        record = studies.curves_record(study, "accuracy", direction="max")
        assert record.metric == studies.Objective("accuracy", "max")
        assert record.y_range == (0.9, 0.1)
        assert studies.curves_record(study, "val_loss").metric == studies.Objective("loss", "min")
        with pytest.raises(ValueError, match=r"`direction` must be given for 'accuracy'"):
            studies.curves_record(study, "val_accuracy")
        with pytest.raises(ValueError, match="Did you mean 'accuracy'"):
            studies.curves_record(study, "acuracy", direction="max")
        with pytest.raises(ValueError, match=r"`direction` must be one of"):
            studies.curves_record(study, direction="up")

    @pytest.mark.parametrize("highlight", [-1, 6, 2.5])
    def test_highlight_has_a_range(self, make_study, highlight):
        with pytest.raises(ValueError, match="`highlight` must be"):
            studies.curves_record(make_study(), highlight=highlight)


SPACE = [
    RATE,
    hyperparameter("Float", "decay", min_value=1e-3, max_value=2e-3, sampling="log"),
    hyperparameter("Float", "narrow", min_value=3.1e-3, max_value=3.2e-3, sampling="log"),
    hyperparameter("Float", "momentum", min_value=1e-3, max_value=1.0, sampling="reverse_log"),
    UNITS,
    OPTIMIZER,
    hyperparameter("Choice", "a_rather_long_name" * 4, values=[f"a long value {i}" for i in "abc"]),
    hyperparameter("Boolean", "nesterov"),
    hyperparameter("Float", "single", min_value=0.5, max_value=0.5),
    hyperparameter("Fixed", "fixed", value=3),
]
POINT = {
    "learning_rate": 0.01,
    "decay": 1.5e-3,
    "narrow": 3.15e-3,
    "momentum": 0.99,
    "units": 16,
    "optimizer": "sgd",
    "a_rather_long_name" * 4: "a long value b",
    "nesterov": True,
    "single": 0.5,
    "fixed": 3,
}
CASES = {
    "none": [],
    "one": [completed(0.1, **POINT)],
    "equal": [completed(0.0, **POINT)] * 4,
    "infeasible": [diverged(**POINT)] * 3,
    "mixed": [
        *(completed(score, **POINT) for score in (0.1, 0.2, 0.3, 0.4, 99.0)),
        diverged(**POINT),
        {"values": POINT, "status": "FAILED", "message": "boom"},
        {"values": POINT, "status": "RUNNING"},
    ],
}


class TestDrawing:
    @pytest.mark.parametrize(
        ("case", "direction", "count"),
        [("none", "min", 1), ("one", "min", 4), ("infeasible", "max", 3), ("mixed", "max", 6)],
    )
    def test_save_plots(self, make_study, tmp_path, case, direction, count):
        study = make_study(CASES[case], [RATE, UNITS], objective=("val_loss", direction))
        before = dict(matplotlib.rcParams)
        saved = study.save_plots(tmp_path / "new" / "plots")
        assert len(saved) == count
        assert len(saved.skipped) == 9 - count
        assert saved[0].name == "axis_plots.png"
        assert ("training_curves.png" in saved.skipped) == (case == "none")
        for path in saved:
            height, width, _ = matplotlib.image.imread(path).shape
            assert min(height, width) > 300
        assert dict(matplotlib.rcParams) == before
        assert (
            "matplotlib.pyplot" not in sys.modules
            or not sys.modules["matplotlib.pyplot"].get_fignums()
        )

    def test_what_does_not_apply_is_skipped_with_the_reason(self, make_study, tmp_path):
        space = [hyperparameter("Fixed", "fixed", value=3)]
        study = make_study([completed(0.1, fixed=3)], space)
        (tmp_path / "budget.png").touch()
        saved = study.save_plots(tmp_path)
        assert [p.name for p in saved] == ["training_curves.png"]
        assert [p.name for p in tmp_path.glob("*.png")] == ["training_curves.png"]
        assert saved.skipped == {
            "axis_plots.png": "no hyperparameter is varied",
            "isolation_plots.png": "no hyperparameter is varied",
            "budget.png": "fewer than two trials are completed",
            "parallel_coordinates.png": "fewer than two hyperparameters are varied",
            "slices.png": "fewer than two hyperparameters are varied",
            "importance.png": "No hyperparameter is varied",
            "gradient_norms.png": "no run has recorded gradient norms: search with "
            "PercentileClipping",
            "trial_variance.png": "no configuration was trained more than once",
        }

    def test_pictures_need_a_folder(self, make_study, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(ValueError, match=r"must be a folder .* which is a file"):
            make_study().save_plots(tmp_path / "file")

    @pytest.mark.parametrize("name", POINT)
    def test_plot_axis_draws_on_the_axes_given(self, make_study, name):
        ax = Figure().add_subplot()
        assert studies.plot_axis(make_study(CASES["mixed"], SPACE), name, ax=ax) is ax
        assert ax.get_figure().legends == []
        labels = ax.get_legend_handles_labels()[1]
        assert labels == [
            "completed",
            "best: trial 0000",
            "2nd: trial 0001",
            "3rd: trial 0002",
            "worse than the axis shows",
            "infeasible",
            "failed",
        ]

    @pytest.mark.parametrize(("direction", "is_top"), [("min", True), ("max", False)])
    def test_crosses_are_at_the_bad_end_beyond_every_point(self, make_study, direction, is_top):
        trials = [completed(score, **POINT) for score in (0.1, 0.2, 0.3)] + [diverged(**POINT)]
        study = make_study(trials, SPACE, objective=("val_loss", direction))
        ax = studies.plot_axis(study, "units")
        lines = {line.get_label(): line for line in ax.get_lines()}
        cross = lines["infeasible"]
        assert cross.get_marker() == "x"
        to_fraction = ax.transData + ax.transAxes.inverted()
        points = [to_fraction.transform((16, score))[1] for score in (0.1, 0.2, 0.3)]
        edge = cross.get_ydata()[0]
        assert edge > max(points) if is_top else edge < min(points)
        assert 0.0 < edge < 1.0

    def test_the_range_is_marked_and_inside_the_axis(self, make_study):
        ax = studies.plot_axis(make_study(CASES["mixed"], SPACE), "learning_rate")
        ends = [line.get_xdata()[0] for line in ax.get_lines() if line.get_linestyle() == ":"]
        assert ends == [1e-4, 1.0]
        assert ax.get_xscale() == "log"
        assert ax.get_xlim()[0] < 1e-4
        assert ax.get_xlim()[1] > 1.0

    def test_plot_curves_has_one_legend(self, make_study):
        ax = studies.plot_curves(make_study(CASES["mixed"], SPACE), highlight=2)
        (legend,) = ax.get_figure().legends
        assert [text.get_text() for text in legend.get_texts()] == [
            "trial 0000: val_loss 0.1",
            "trial 0001: val_loss 0.2",
            "validation",
            "training",
            "other trials (validation)",
            "infeasible",
        ]

    def test_plot_curves_draws_on_the_axes_given(self, make_study):
        ax = Figure().add_subplot()
        assert studies.plot_curves(make_study(CASES["mixed"], SPACE), ax=ax) is ax
        assert ax.get_figure().legends == []

    def test_a_study_without_runs_says_so(self, make_study):
        ax = studies.plot_curves(make_study([{"values": POINT, "score": 0.5}], SPACE))
        assert [text.get_text() for text in ax.texts] == ["no trial has a curve of loss"]


@pytest.mark.parametrize(
    ("text", "length", "expected"),
    [("abc", 3, "abc"), ("abcd", 3, "a…d"), ("abcdef", 4, "ab…f"), ("abcdef", 5, "ab…ef")],
)
def test_shorten(text, length, expected):
    assert shorten(text, length) == expected
