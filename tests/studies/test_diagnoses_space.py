"""Diagnoses of the search space: D1, D2, D3, D4."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trial_records import RATE, rate_study, study, trial

from tfplaybook import studies
from tfplaybook.studies import Hyperparameter

AT = np.linspace(0, 1, 12)


def bowl(optimum):
    return 1 + (AT - optimum) ** 2


@pytest.mark.parametrize(("count", "edges"), [(20, 0), (24, 1)])
def test_an_edge_that_chance_could_make_at_either_end_is_none(count, edges):
    # The last 2 of n are the 2 bad ones with probability 2 / (n (n - 1)), at either end with
    # twice that: 0.0105 of 20, 0.0072 of 24.
    objectives = np.append(np.linspace(1, 2, count - 2), [math.nan, math.nan])
    finding = studies.infeasible_fraction(rate_study(objectives), max_chance=0.01)
    assert len(finding.edges) == edges


class TestSearchSpaceBoundary:
    @pytest.mark.parametrize(
        ("optimum", "end", "proposed"), [(1.3, "upper", 100.0), (-0.3, "lower", 1e-6)]
    )
    def test_an_optimum_outside_asks_for_that_end(self, optimum, end, proposed):
        finding = studies.search_space_boundary(rate_study(bowl(optimum)))
        assert finding.verdict == "act"
        (expansion,) = finding.expansions
        assert (expansion.name, expansion.end) == ("learning_rate", end)
        assert expansion.proposed == pytest.approx(proposed)
        assert expansion.cluster == pytest.approx(1 / 11)
        assert expansion.slope_score > 1e6  # the bowl is exactly quadratic
        assert finding.source == "D1"
        assert finding.trials[0] == ("0011" if end == "upper" else "0000")
        assert f"the {end} end of learning_rate from" in finding.remedy

    @pytest.mark.parametrize("optimum", [0.2, 0.3, 0.5, 0.7, 0.8])
    def test_an_optimum_inside_does_not(self, optimum):
        finding = studies.search_space_boundary(rate_study(bowl(optimum)))
        assert finding.verdict == "ok"
        assert finding.expansions == ()

    def test_best_trials_near_an_end_by_chance_are_no_reason(self):
        noise = np.random.default_rng(0).normal(size=12)
        noise[-3:] = noise.min() - [0.01, 0.03, 0.02]
        noise[-4] = noise.max()
        near = studies.search_space_boundary(rate_study(noise), min_slope_score=0.0)
        assert near.verdict == "act"
        assert studies.search_space_boundary(rate_study(noise), min_slope_score=3).verdict == "ok"

    def test_a_steep_wall_inside_does_not_bend_the_fit(self):
        objectives = bowl(0.6)
        objectives[-2:] = 1e6
        assert studies.search_space_boundary(rate_study(objectives)).verdict == "ok"

    @pytest.mark.parametrize(
        ("h", "optimum", "proposed"),
        [
            (Hyperparameter("x", "float", "linear", 0.0, 0.5), -0.3, None),
            (Hyperparameter("x", "float", "linear", 0.0, 0.5), 1.3, 0.75),
            (Hyperparameter("x", "float", "linear", 0.1, 0.5), -0.3, 0.05),
            (Hyperparameter("x", "float", "linear", 2.0, 4.0), 1.3, 5.0),
            (Hyperparameter("x", "float", "linear", -2.0, 2.0), -0.3, -4.0),
            (Hyperparameter("x", "float", "reverse_log", 0.5, 0.99), 1.3, 0.995),
            (Hyperparameter("x", "int", "linear", 16, 511), 1.3, 759.0),
            (Hyperparameter("x", "int", "linear", 1, 8), -0.3, None),
            (Hyperparameter("x", "int", "log", 16, 256), -0.3, 4.0),
        ],
    )
    def test_proposals_respect_the_limits_of_a_range(self, h, optimum, proposed):
        from tfplaybook.studies._diagnoses._positions import value_at

        trials = [
            trial(i, float(y), values={"x": value_at(h, u)})
            for i, (u, y) in enumerate(zip(AT, bowl(optimum), strict=True))
        ]
        finding = studies.search_space_boundary(study(trials, [h]))
        assert [e.proposed for e in finding.expansions] == (
            [] if proposed is None else [pytest.approx(proposed)]
        )

    def test_a_range_that_nobody_declared_has_no_ends(self):
        space = [dataclasses.replace(RATE, is_inferred=True)]
        finding = studies.search_space_boundary(rate_study(bowl(1.3), space=space))
        assert finding.verdict == "unknown"

    def test_seven_trials_are_too_few(self):
        finding = studies.search_space_boundary(rate_study(bowl(1.3)[:7]))
        assert finding.verdict == "unknown"
        assert "7 completed trials, fewer than 8" in finding.evidence

    @pytest.mark.parametrize(
        "options", [{"top": 0}, {"near_fraction": 0.6}, {"expand_fraction": 0.0}]
    )
    def test_refuses_options_out_of_range(self, options):
        with pytest.raises(ValueError, match=next(iter(options))):
            studies.search_space_boundary(rate_study(bowl(0.5)), **options)

    @settings(max_examples=25, deadline=None)
    @given(
        optimum=st.floats(-0.5, 1.5),
        factor=st.floats(0.01, 100),
        offset=st.floats(-10, 10),
        seed=st.integers(0, 100),
    )
    def test_order_names_scale_and_direction_do_not_matter(self, optimum, factor, offset, seed):
        rng = np.random.default_rng(seed)
        original = rate_study(bowl(optimum) + 0.05 * rng.normal(size=12))
        changed = dataclasses.replace(
            original,
            objective=studies.Objective("val_score", "max"),
            trials=tuple(
                dataclasses.replace(
                    original.trials[i],
                    trial_id=f"{place:04d}",
                    objective=-factor * original.trials[i].objective + offset,
                )
                for place, i in enumerate(rng.permutation(12))
            ),
        )
        one, other = map(studies.search_space_boundary, (original, changed))
        assert one.verdict == other.verdict
        assert [(e.name, e.end) for e in one.expansions] == [
            (e.name, e.end) for e in other.expansions
        ]


class TestInfeasible:
    def test_counts_infeasible_failed_and_hopeless_trials(self):
        trials = [trial(i, 1.0 + 0.1 * i) for i in range(6)]
        trials += [trial(6, math.nan, status="infeasible"), trial(7, status="failed")]
        trials += [trial(8, 1e4), trial(9, status="running")]
        finding = studies.infeasible_fraction(study(trials))
        assert finding.numbers == {"fraction": 3 / 9, "infeasible": 3, "ended": 9}
        assert finding.trials == ("0006", "0007", "0008")
        assert finding.verdict == "ok"
        assert studies.infeasible_fraction(study(trials), max_fraction=0.3).verdict == "act"

    def test_finds_the_edge_half_way_on_the_sampling_scale(self):
        objectives = 2 - AT
        objectives[7:] = math.nan
        finding = studies.infeasible_fraction(rate_study(objectives))
        assert finding.verdict == "act"
        (edge,) = finding.edges
        assert (edge.name, edge.side, edge.beyond) == ("learning_rate", "above", 5)
        assert edge.position == pytest.approx(6.5 / 11)
        assert edge.value == pytest.approx(1e-4 * 1e4 ** (6.5 / 11))
        assert finding.remedy == f"Search learning_rate only below {edge.value:.4g}."

    def test_an_edge_may_not_be_chance(self):
        objectives = 2 - AT
        objectives[-2:] = math.nan
        # The last two of 12 are the infeasible two with probability 1/66, at either end 2/66.
        at = {"max_fraction": 0.1}
        assert studies.infeasible_fraction(rate_study(objectives), **at).edges == ()
        found = studies.infeasible_fraction(rate_study(objectives), **at, max_chance=2 / 65)
        assert len(found.edges) == 1

    def test_scattered_failures_have_no_edge(self):
        objectives = np.linspace(1, 2, 12)
        objectives[::2] = math.nan
        finding = studies.infeasible_fraction(rate_study(objectives))
        assert finding.edges == ()
        assert "no single hyperparameter" in finding.remedy

    @pytest.mark.parametrize(
        ("slope", "verdict"), [(-1.0, "act"), (1.0, "ok")], ids=["falling", "rising"]
    )
    def test_the_best_at_the_edge_ask_for_stability(self, slope, verdict):
        objectives = 1 + slope * AT
        objectives[8:] = math.nan
        finding = studies.stability_edge(rate_study(objectives))
        assert finding.verdict == verdict
        assert finding.edges[0].beyond == 4
        # The positions 5, 6, 7 or 0, 1, 2 of 11, from the edge at 7.5.
        mean = 6 if slope < 0 else 1
        assert finding.numbers["distance"] == pytest.approx((7.5 - mean) / 7.5)

    def test_below_works_as_above(self):
        objectives = 1 + AT
        objectives[:4] = math.nan
        finding = studies.stability_edge(rate_study(objectives))
        assert finding.verdict == "act"
        assert finding.edges[0].side == "below"

    def test_no_edge_no_problem(self):
        assert studies.stability_edge(rate_study(bowl(0.9))).verdict == "ok"

    def test_all_infeasible(self):
        nothing = rate_study(np.full(8, math.nan))
        assert (
            studies.infeasible_fraction(nothing).remedy == "Look for a bug first: no trial works."
        )
        assert studies.stability_edge(nothing).verdict == "unknown"

    def test_four_trials_are_too_few(self):
        assert studies.infeasible_fraction(rate_study(np.ones(4))).verdict == "unknown"


class TestEnoughPoints:
    def test_counts_the_good_region(self):
        objectives = [1.0, 1.19, 1.21, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0]
        finding = studies.enough_points(rate_study(objectives))
        assert finding.numbers["limit"] == pytest.approx(1.2)
        assert finding.trials == ("0000", "0001")
        assert finding.verdict == "act"
        assert finding.remedy.startswith("Run about 5 more trials")
        assert studies.enough_points(rate_study(objectives), min_good_trials=2).verdict == "ok"

    def test_seven_trials_are_too_few(self):
        assert studies.enough_points(rate_study(np.ones(7))).verdict == "unknown"
