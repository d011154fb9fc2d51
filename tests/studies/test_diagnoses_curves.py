"""Diagnoses of training curves: D6 to D10, H2, I7, N5, and the noise of the objective."""

import dataclasses
import math

import numpy as np
import pytest
from trial_records import EVERY, curves_study, run, study, trial

from tfplaybook import studies

N = 40
AT = np.arange(1, N + 1) / N
LEVEL = 0.3 + np.exp(-6 * AT)
FROM_CURVES = [
    studies.overfitting,
    studies.overfitting_anywhere,
    studies.training_loss_rising,
    studies.still_improving,
    studies.saturated_early,
    studies.late_variance,
    studies.max_train_steps,
    studies.periodicity,
]


def bent(rise, turn=0.5):
    """Return a curve that falls from 1 to 0 at `turn` and then rises to `rise`."""
    return np.where(turn >= AT, 1 - AT / turn, rise * (AT - turn) / (1 - turn))


def noisy(level, deviation, seed=0):
    return level + deviation * np.random.default_rng(seed).standard_normal(len(level))


class TestRises:
    def test_a_validation_curve_that_turns_is_overfitting(self):
        finding = studies.overfitting(curves_study(bent(0.5), loss=1 - AT))
        assert finding.verdict == "act"
        assert finding.trials == ("0000", "0001", "0002")
        assert finding.source == "D6"
        # Smoothed over 4 points, the end is 1.5 points before the last: 0.5 (1 - 1.5/20).
        assert finding.numbers["rise_fraction"] == pytest.approx(0.48, abs=0.03)

    def test_if_training_turns_too_it_is_none(self):
        both = curves_study(bent(0.5), loss=bent(0.5))
        assert studies.overfitting(both).verdict == "ok"
        assert studies.training_loss_rising(both).verdict == "act"

    def test_regularization_that_is_compared_may_overfit(self):
        turning = curves_study(bent(0.5), loss=1 - AT)
        assert studies.overfitting(turning, scientific=["dropout_rate"]).verdict == "ok"
        assert studies.overfitting(turning, scientific=["optimizer"]).verdict == "act"

    def test_one_trial_that_is_not_among_the_best_is_a_warning(self):
        trials = [trial(i, runs=[run(val_loss=LEVEL + i, loss=LEVEL)]) for i in range(5)]
        trials.append(trial(5, runs=[run(val_loss=9 + bent(0.5), loss=1 - AT)]))
        finding = studies.overfitting_anywhere(study(trials))
        assert studies.overfitting(study(trials)).verdict == "ok"
        assert (finding.verdict, finding.trials) == ("act", ("0005",))

    def test_what_has_not_learned_cannot_overfit(self):
        # It diverged to the loss of a guess, where it stays.
        validation, loss = (np.append([first, 2.45], np.full(N - 2, 2.3)) for first in (2.07, 2.23))
        guessing = curves_study(validation, loss=loss)
        assert studies.overfitting_anywhere(guessing).numbers["overfitting"] == 0

    def test_fine_tuning_may_overfit_from_the_first_point_on(self):
        finding = studies.overfitting(curves_study(0.3 + 0.2 * AT, loss=0.3 - 0.2 * AT))
        assert finding.verdict == "act"

    @pytest.mark.parametrize(
        ("name", "words"), [("dropout", "see whether dropout"), ("width", "tune a")]
    )
    def test_a_regularizer_that_is_tuned_already_may_need_more_range(self, name, words):
        turning = curves_study(bent(0.5), loss=1 - AT)
        space = (studies.Hyperparameter(name, "float", "linear", 0.0, 0.5),)
        finding = studies.overfitting_anywhere(dataclasses.replace(turning, space=space))
        assert words in finding.remedy

    def test_noise_does_not_rise(self):
        level = curves_study(noisy(LEVEL, 0.05))
        assert studies.overfitting(level).verdict == "ok"

    @pytest.mark.parametrize(("rising", "verdict"), [([0], "act"), ([4], "ok"), ([3, 4], "act")])
    def test_training_may_rise_in_a_few_but_not_in_the_best(self, rising, verdict):
        trials = [
            trial(i, runs=[run(val_loss=LEVEL + i, loss=bent(0.5) if i in rising else 1 - AT)])
            for i in range(5)
        ]
        assert studies.training_loss_rising(study(trials)).verdict == verdict

    def test_a_maximized_objective_overfits_when_it_falls(self):
        trials = [
            trial(i, 1.0, runs=[run(val_accuracy=1 - bent(0.5), accuracy=AT)]) for i in range(3)
        ]
        finding = studies.overfitting(study(trials, objective=("val_accuracy", "max")))
        assert finding.verdict == "act"

    def test_without_validation_it_is_unknown(self):
        trials = [trial(0, 1.0, runs=[run(loss=bent(0.5))])]
        finding = studies.overfitting(study(trials, objective=("loss", "min")))
        assert (finding.verdict, finding.evidence) == ("unknown", "loss is no validation metric")


class TestLength:
    @pytest.mark.parametrize(("turning", "verdict"), [(2, "act"), (3, "ok")])
    def test_most_of_the_best_must_be_level_to_have_trained_too_long(self, turning, verdict):
        level = np.where(AT <= 0.2, 1 - 5 * AT, 0.0)
        curves = [bent(0.5, turn=0.2)] * turning + [level] * (5 - turning)
        trials = [trial(i, runs=[run(val_loss=curve)]) for i, curve in enumerate(curves)]
        assert studies.saturated_early(study(trials)).verdict == verdict

    @pytest.mark.parametrize(
        ("curve", "verdict", "gain"), [(1 - AT, "act", 0.25), (LEVEL, "ok", 0.01)]
    )
    def test_still_improving(self, curve, verdict, gain):
        finding = studies.still_improving(curves_study(curve))
        assert finding.verdict == verdict
        assert finding.numbers["gain_fraction"] == pytest.approx(gain, abs=0.03)

    def test_a_gain_within_the_noise_is_none(self):
        finding = studies.still_improving(curves_study(noisy(LEVEL - 0.05 * AT, 0.2)))
        assert finding.verdict == "ok"

    @pytest.mark.parametrize(("rate", "verdict"), [(20, "act"), (5, "ok")])
    def test_saturated_early(self, rate, verdict):
        finding = studies.saturated_early(curves_study(np.exp(-rate * AT)))
        assert finding.verdict == verdict
        # Within 2% of the drop from the first twentieth on.
        used = 0.05 + math.log(50) / rate
        assert finding.numbers["used_fraction"] == pytest.approx(used, abs=0.07)

    def test_a_curve_that_rises_again_is_not_saturated(self):
        assert studies.saturated_early(curves_study(bent(0.5, turn=0.2))).verdict == "ok"

    @pytest.mark.parametrize(
        ("turn", "words"),
        [(0.05, "far fewer steps"), (0.5, ""), (0.9, "Train longer")],
    )
    def test_max_train_steps_follows_the_best_step(self, turn, words):
        finding = studies.max_train_steps(curves_study(bent(0.9, turn=turn)))
        assert finding.verdict == ("act" if words else "ok")
        assert words in finding.remedy
        assert finding.numbers["median_fraction"] == pytest.approx(turn, abs=0.03)
        assert finding.numbers["steps"] == N * EVERY

    def test_always_and_consistently_are_shares_of_the_better_half(self):
        def mixed(late):
            turns = [0.9] * late + [0.5] * (10 - late)
            return study(
                [trial(i, 0.1 * i, runs=[run(val_loss=bent(0.9, t))]) for i, t in enumerate(turns)]
                + [trial(10 + i, 9.0, runs=[run(val_loss=bent(0.9, 0.5))]) for i in range(10)]
            )

        assert studies.max_train_steps(mixed(7)).verdict == "act"
        assert studies.max_train_steps(mixed(6)).verdict == "ok"


class TestNoise:
    @pytest.mark.parametrize(("deviation", "verdict"), [(0.2, "act"), (0.01, "ok")])
    def test_late_variance(self, deviation, verdict):
        trials = [trial(i, runs=[run(val_loss=noisy(LEVEL, deviation, i))]) for i in range(5)]
        finding = studies.late_variance(study(trials))
        assert finding.verdict == verdict
        # Of a drop of about 0.74 - 0.002.
        assert finding.numbers["noise_fraction"] == pytest.approx(deviation / 0.74, rel=0.5)

    def test_repeated_executions_tell_the_noise(self):
        # Each pair has the variance 2 * 0.1^2, the mean of two half of that.
        trials = [
            trial(i, runs=[run(val_loss=[level - 0.1]), run(val_loss=[level + 0.1])])
            for i, level in enumerate([1.0, 1.1, 1.2, 5.0, 6.0, 7.0])
        ]
        finding = studies.objective_noise(study(trials))
        assert finding.numbers["noise"] == pytest.approx(0.1)
        assert finding.numbers["limit"] == pytest.approx(2.5 * math.sqrt(2) * 0.1)
        assert finding.trials == ("0000", "0001", "0002")
        assert finding.verdict == "ok"
        assert studies.objective_noise(study(trials), max_ties=1).verdict == "act"

    def test_curves_tell_the_noise_of_single_executions(self):
        trials = [trial(i, runs=[run(val_loss=noisy(LEVEL, 0.1, i))]) for i in range(6)]
        finding = studies.objective_noise(study(trials))
        assert finding.numbers["noise"] == pytest.approx(0.1, rel=0.4)
        assert "from the end of the curves" in finding.evidence


class TestPeriodicity:
    def test_a_wave_is_found_with_its_period(self):
        wave = 0.05 * np.sin(2 * np.pi * np.arange(60) / 5)
        level = 0.3 + np.exp(-np.arange(60) / 10)
        finding = studies.periodicity(curves_study(noisy(level + wave, 0.02), count=4))
        assert finding.verdict == "act"
        assert finding.numbers["period_steps"] == pytest.approx(5 * EVERY, rel=0.03)
        assert "5.1 epochs" in finding.evidence

    def test_the_shuffle_buffer_is_named(self):
        wave = 0.05 * np.sin(2 * np.pi * np.arange(60) / 5)
        finding = studies.periodicity(curves_study(noisy(wave, 0.02)), shuffle_steps=5 * EVERY)
        assert "1.0 buffers" in finding.evidence

    @pytest.mark.parametrize("correlation", [0.0, 0.6])
    def test_noise_has_no_period(self, correlation):
        false_alarms = 0
        for seed in range(50):
            white = np.random.default_rng(seed).standard_normal((3, 60))
            curves = np.zeros_like(white)
            for i in range(1, 60):
                curves[:, i] = correlation * curves[:, i - 1] + white[:, i]
            trials = [trial(i, runs=[run(val_loss=curve)]) for i, curve in enumerate(curves)]
            false_alarms += studies.periodicity(study(trials), max_chance=1e-3).verdict == "act"
        assert false_alarms <= 1

    def test_a_smooth_trend_has_no_period(self):
        assert studies.periodicity(curves_study(np.exp(-np.arange(60) / 10))).verdict == "ok"


@pytest.mark.parametrize("diagnosis", FROM_CURVES, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "trials",
    [
        [],
        [trial(0, math.nan, status="infeasible", runs=[run(val_loss=[math.nan] * 30)])],
        [trial(i, 1.0) for i in range(9)],
        [trial(i, 1.0, runs=[run(val_loss=[1.0, 0.9], loss=[1.0, 0.9])]) for i in range(9)],
    ],
    ids=["none", "infeasible", "no curves", "two points"],
)
def test_without_curves_it_is_unknown_and_says_why(diagnosis, trials):
    finding = diagnosis(study(trials))
    assert finding.verdict == "unknown"
    assert finding.evidence


@pytest.mark.parametrize("diagnosis", FROM_CURVES, ids=lambda f: f.__name__)
def test_constant_curves_are_well(diagnosis):
    finding = diagnosis(curves_study(np.ones(N)))
    assert finding.verdict in ("ok", "unknown") or diagnosis in (
        studies.saturated_early,
        studies.max_train_steps,
    )


@pytest.mark.parametrize("diagnosis", FROM_CURVES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("curve", [bent(0.5), LEVEL, 1 - AT], ids=["bent", "level", "falling"])
def test_units_of_the_metric_do_not_matter(diagnosis, curve):
    curve = noisy(curve, 0.01)
    verdicts = {diagnosis(scaled(curve, factor, offset)).verdict for factor, offset in SCALES}
    assert len(verdicts) == 1


SCALES = [(1.0, 0.0), (1e-3, 0.0), (100.0, -7.0)]


def scaled(curve, factor, offset):
    return study(
        trial(
            i,
            runs=[
                run(val_loss=factor * (curve + 0.01 * i) + offset, loss=factor * (1 - AT) + offset)
            ],
        )
        for i in range(5)
    )
