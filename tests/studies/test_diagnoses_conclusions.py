"""Diagnoses of conclusions: importance, scientific comparison (C1, E4) and adoption (F1 to F3)."""

import builtins
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from trial_records import OPTIMIZER, RATE, UNITS, run, study, trial

from tfplaybook import studies
from tfplaybook.search import halton
from tfplaybook.studies import Hyperparameter
from tfplaybook.studies._diagnoses._budget import best_of
from tfplaybook.studies._diagnoses._student import t_cdf, t_quantile

DEPTH = Hyperparameter("depth", "choice", values=(1, 2, 3))


@pytest.mark.parametrize("freedom", [1, 2.5, 8, 400])
def test_students_t_is_that_of_scipy(freedom):
    for t in (-3.0, -0.1, 0.0, 0.7, 4.0, math.inf):
        assert t_cdf(t, freedom) == pytest.approx(scipy.stats.t.cdf(t, freedom), abs=1e-9)
    for probability in (0.5, 0.9, 0.975, 0.9995):
        expected = scipy.stats.t.ppf(probability, freedom)
        assert t_quantile(probability, freedom) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    costs=st.lists(st.integers(0, 5), min_size=1, max_size=6),
    others=st.lists(st.integers(0, 5), min_size=1, max_size=6),
    k=st.integers(1, 8),
)
def test_the_best_of_k_adds_up(costs, others, k):
    one, other = best_of(np.array(costs, float), k), best_of(np.array(others, float), k)
    assert one.weights.sum() == pytest.approx(1)
    assert one.beats(other) + other.beats(one) == pytest.approx(1)
    assert one.beats(one) == pytest.approx(0.5)


def test_the_best_of_two_by_enumeration():
    one, other = best_of(np.array([0.0, 2.0]), 2), best_of(np.array([1.0]), 2)
    # 0 is drawn at least once in three of four pairs.
    assert one.beats(other) == pytest.approx(0.75)
    assert one.deviation() == pytest.approx(2 * math.sqrt(0.75 * 0.25))


class TestAdoption:
    NEW = (0.90, 0.92, 0.91, 0.89, 0.93)
    OLD = (1.00, 1.05, 0.95, 1.02, 0.99)

    def test_agrees_with_welch_and_with_the_t_interval(self):
        finding = studies.adoption(study([]), self.OLD, candidate=self.NEW)
        expected = scipy.stats.ttest_ind(self.OLD, self.NEW, equal_var=False, alternative="greater")
        both = scipy.stats.ttest_ind(self.OLD, self.NEW, equal_var=False)
        assert finding.probability == pytest.approx(expected.pvalue, abs=1e-9)
        assert finding.interval == pytest.approx(tuple(both.confidence_interval(0.95)), abs=1e-7)
        assert finding.gain == pytest.approx(0.092)
        assert finding.trial_deviation == pytest.approx(
            (np.std(self.NEW, ddof=1), np.std(self.OLD, ddof=1))
        )
        assert finding.verdict == "act"
        assert finding.remedy.startswith("Adopt it")

    def test_a_gain_that_is_not_worth_it_keeps_the_baseline(self):
        finding = studies.adoption(study([]), self.OLD, candidate=self.NEW, min_gain=0.08)
        assert (finding.verdict, finding.remedy) == ("ok", "Keep the baseline.")

    def test_a_worse_candidate_keeps_the_baseline(self):
        finding = studies.adoption(study([]), self.NEW, candidate=self.OLD)
        assert finding.verdict == "ok"
        assert finding.gain == pytest.approx(-0.092)

    def test_maximized_objectives_gain_upwards(self):
        maximized = study([], objective=("val_accuracy", "max"))
        assert studies.adoption(maximized, self.NEW, candidate=self.OLD).verdict == "act"

    def test_takes_repeats_from_the_executions_of_trials(self):
        def executed(index, values):
            return trial(index, runs=[run(val_loss=[value + 1, value]) for value in values])

        finding = studies.adoption(study([executed(0, self.OLD), executed(1, self.NEW)]), "0000")
        assert finding.gain == pytest.approx(0.092)
        assert finding.trials == ("0001", "0000")
        # Each of two trials is the best of two with probabilities 3/4 and 1/4.
        means = np.mean(self.OLD) - np.mean(self.NEW)
        assert finding.study_deviation == pytest.approx(means * math.sqrt(3 / 16))

    def test_without_variance_any_gain_is_certain(self):
        same = studies.adoption(study([]), [1.0] * 3, candidate=[1.0] * 3)
        better = studies.adoption(study([]), [1.0] * 3, candidate=[0.9] * 3)
        assert (same.verdict, better.verdict) == ("ok", "act")

    @pytest.mark.parametrize(
        ("trials", "baseline", "words"),
        [
            ([], None, "No trial is completed"),
            ([trial(0, 1.0)], None, "No baseline is named"),
            ([trial(0, 1.0)], "0000", "trained 0 times"),
        ],
    )
    def test_too_little_is_unknown(self, trials, baseline, words):
        finding = studies.adoption(study(trials), baseline)
        assert finding.verdict == "unknown"
        assert words in finding.evidence

    def test_refuses_a_trial_that_is_not_there(self):
        with pytest.raises(ValueError, match=r"`baseline` must be one of \['0000'\]"):
            studies.adoption(study([trial(0, 1.0)]), "0001")


def compared(sgd, adam, *, rates=None, space=(RATE, OPTIMIZER)):
    """Return a study with these objectives of two optimizers at the same learning rates."""
    trials = []
    for name, objectives in (("sgd", sgd), ("adam", adam)):
        for i, objective in enumerate(objectives):
            values = {"learning_rate": 10.0 ** -(1 + i % 4), "optimizer": name}
            trials.append(trial(len(trials), objective, values=values))
    return study(trials, space)


class TestComparison:
    @pytest.mark.parametrize(("count", "verdict"), [(9, "unknown"), (10, "act")])
    def test_a_value_without_a_trial_is_unfair(self, count, verdict):
        finding = studies.scientific_comparison(
            compared(np.linspace(1, 2, count), []), ["optimizer"]
        )
        assert finding.verdict == verdict
        said = f"optimizer=adam has 0 completed trials and optimizer=sgd has {count}"
        assert finding.problems == ((said,) if verdict == "act" else ())

    def test_so_is_a_third_value_without_one(self):
        three = Hyperparameter("optimizer", "choice", values=("sgd", "adam", "lion"))
        made = compared(np.linspace(1, 2, 8), np.linspace(1, 2, 8), space=(RATE, three))
        finding = studies.scientific_comparison(made, ["optimizer"])
        assert finding.verdict == "act"
        assert finding.problems[0].startswith("optimizer=lion has 0 completed trials")

    def test_a_clear_winner(self):
        finding = studies.scientific_comparison(
            compared(np.linspace(1, 2, 8), np.linspace(0.5, 0.9, 8)), ["optimizer"]
        )
        assert finding.verdict == "ok"
        assert finding.winner == "optimizer=adam"
        assert finding.numbers["lead_probability"] == 1
        assert finding.numbers["difference"] == pytest.approx(0.5)
        assert [(v.label, v.trials, v.best) for v in finding.values] == [
            ("optimizer=adam", 8, 0.5),
            ("optimizer=sgd", 8, 1.0),
        ]

    def test_the_same_objectives_have_no_winner(self):
        finding = studies.scientific_comparison(
            compared(np.linspace(1, 2, 8), np.linspace(1, 2, 8)), ["optimizer"]
        )
        assert finding.winner is None
        assert finding.numbers["lead_probability"] == pytest.approx(0.5)

    def test_one_lucky_trial_is_no_clear_winner(self):
        same = np.linspace(1, 2, 8)
        finding = studies.scientific_comparison(compared(same, [0.9, *same[1:]]), ["optimizer"])
        assert finding.values[0].label == "optimizer=adam"
        assert finding.winner is None
        assert finding.evidence.startswith("optimizer=adam leads, but not clearly")

    @pytest.mark.parametrize(("spread", "winner"), [(0.001, "optimizer=adam"), (0.1, None)])
    def test_a_lead_within_the_noise_of_retraining_is_none(self, spread, winner):
        trials = [
            trial(
                i,
                values={"optimizer": name},
                runs=[run(val_loss=[2.0, level + sign * spread]) for sign in (-1, 1)],
            )
            for i, (name, level) in enumerate([("sgd", 1.0), ("adam", 0.99)] * 8)
        ]
        finding = studies.scientific_comparison(study(trials, [OPTIMIZER]), ["optimizer"])
        assert finding.numbers["lead_probability"] == 1.0
        assert finding.winner == winner

    def test_unequal_tuning_is_no_contest(self):
        finding = studies.scientific_comparison(compared([1.0, 2.0], [0.5] * 8), ["optimizer"])
        assert finding.verdict == "act"
        assert finding.problems == (
            "optimizer=sgd has 2 completed trials and optimizer=adam has 8",
        )

    def test_caveats_name_fixed_values_and_the_points(self):
        batch = Hyperparameter("batch_size", "fixed", values=(256,))
        same = compared([1.0] * 4, [2.0] * 4, space=(RATE, OPTIMIZER, batch))
        finding = studies.scientific_comparison(same, ["optimizer"])
        assert finding.caveats == (
            "It holds for batch_size=256.",
            "All values were tried at the same points.",
        )
        other = studies.scientific_comparison(compared([1.0] * 4, [2.0] * 3), ["optimizer"])
        assert other.caveats == ("Each value was tried at points of its own.",)

    def test_continuous_values_are_compared_in_slices(self):
        rates = [10.0**-e for e in (3.5, 2.5, 1.5, 0.5)]
        trials = [trial(i, float(i), values={"learning_rate": r}) for i, r in enumerate(rates)]
        finding = studies.scientific_comparison(study(trials, [RATE]), ["learning_rate"])
        assert [v.label for v in finding.values] == [
            "learning_rate 0.0001 to 0.001",
            "learning_rate 0.001 to 0.01",
            "learning_rate 0.01 to 0.1",
            "learning_rate 0.1 to 1",
        ]

    def test_a_nuisance_at_its_end_is_a_problem(self):
        at = np.linspace(0, 1, 9)
        trials = []
        for name, optimum in (("sgd", 1.3), ("adam", 0.5)):
            for u in at:
                values = {"learning_rate": float(1e-4 * 1e4**u), "optimizer": name}
                trials.append(trial(len(trials), 1 + (u - optimum) ** 2, values=values))
        finding = studies.scientific_comparison(study(trials, [RATE, OPTIMIZER]), ["optimizer"])
        assert finding.problems == ("with optimizer=sgd, learning_rate is best at its upper end",)

    @pytest.mark.parametrize("scientific", [[], ["optimizer"]])
    def test_nothing_to_compare_is_unknown(self, scientific):
        one = compared([1.0] * 4, [])
        assert studies.scientific_comparison(one, scientific).verdict == "unknown"

    def test_refuses_names_that_do_not_exist(self):
        with pytest.raises(ValueError, match="Did you mean 'optimizer'"):
            studies.scientific_comparison(compared([1.0], [2.0]), ["optimiser"])
        with pytest.raises(TypeError, match="sequence of names"):
            studies.scientific_comparison(compared([1.0], [2.0]), "optimizer")


def surface(count, function, space=(RATE, UNITS, DEPTH)):
    """Return a study of quasi-random points in three dimensions, the last of three categories."""
    trials = []
    for i, (u, v, w) in enumerate(halton(np.arange(count), 3, seed=1)):
        depth = 1 + int(3 * w)
        values = {
            "learning_rate": float(1e-4 * 1e4**u),
            "units": round(16 + 496 * v),
            "depth": depth,
        }
        y = float(function(u, v, depth))
        status = "completed" if math.isfinite(y) else "infeasible"
        trials.append(trial(i, y, status=status, values=values))
    return study(trials, space)


class TestImportance:
    def test_additive_effects_have_their_shares_of_the_variance(self):
        # Var(u) = 1/12; a category that adds 0 or 0.5 with odds 2:1 has 1/18: shares 3/5, 2/5.
        finding = studies.importance(surface(40, lambda u, v, d: u + 0.5 * (d == 2)))
        totals = {entry.name: entry.total for entry in finding.importances}
        assert totals["learning_rate"] == pytest.approx(0.6, abs=0.1)
        assert totals["depth"] == pytest.approx(0.4, abs=0.1)
        assert totals["units"] < 0.03
        assert finding.importances[0].name == "learning_rate"
        assert "what hardly does: units" in finding.evidence
        assert all(entry.deviation < 0.1 for entry in finding.importances)

    def test_infeasible_trials_count_as_the_worst(self):
        finding = studies.importance(
            surface(40, lambda u, v, d: math.nan if u > 0.6 else 1 + 0.1 * v)
        )
        totals = {entry.name: entry.total for entry in finding.importances}
        assert totals["learning_rate"] > 0.5

    def test_noise_has_no_importance(self):
        rng = np.random.default_rng(0)
        finding = studies.importance(surface(40, lambda u, v, d: rng.normal()))
        assert (finding.verdict, finding.importances) == ("unknown", ())
        assert "explain 0% of the variance" in finding.evidence

    @pytest.mark.parametrize(
        ("made", "words"),
        [
            (study([]), "No hyperparameter is varied"),
            (study([], [RATE]), "No trial is completed"),
            (surface(11, lambda u, v, d: u), "at least 12 are needed"),
            (surface(12, lambda u, v, d: 1.0), "the same val_loss"),
            (surface(12, lambda u, v, d: math.nan), "No trial is completed"),
        ],
    )
    def test_too_little_is_unknown(self, made, words):
        finding = studies.importance(made)
        assert finding.verdict == "unknown"
        assert words in finding.evidence

    def test_names_the_extra_that_is_missing(self, monkeypatch):
        real = builtins.__import__

        def without_sklearn(name, *args):
            if name.startswith("sklearn"):
                raise ImportError(name)
            return real(name, *args)

        monkeypatch.setattr(builtins, "__import__", without_sklearn)
        made = surface(12, lambda u, v, d: u)
        with pytest.raises(ImportError, match=r'pip install "tfplaybook\[analysis\]"'):
            studies.importance(made)
        assert "tfplaybook[analysis]" in made.diagnose()["importance"].evidence
