"""The budget curve: what a study of fewer trials would have found."""

import dataclasses
import math
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tfplaybook._arguments import check_count
from tfplaybook.studies._format import format_value, shorten
from tfplaybook.studies._records import Objective, Study
from tfplaybook.studies._style import DARK, OTHER, RANKED, clean, on_axes, say, say_nothing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclasses.dataclass(frozen=True)
class BudgetRecord:
    """What a budget curve shows (E5).

    Args:
        objective: The objective.
        trials: Number of trials that are resampled.
        infeasible: How many of them have no objective.
        budgets: Numbers of trials of the smaller studies.
        quantiles: For each budget the best objective of such a study, at the quantiles 0.05, 0.25,
            0.5, 0.75 and 0.95 of luck, good luck first. None where the study would have found
            nothing but infeasible trials.
    """

    objective: Objective
    trials: int
    infeasible: int
    budgets: tuple[int, ...]
    quantiles: tuple[tuple[float | None, ...], ...]

    def finding(self) -> str:
        """Say what half of the budget and all of it find: the median and the quartiles."""
        if self.trials == self.infeasible:
            return "no completed trial"
        half = max(self.trials // 2, 1)
        shown = [budget for budget in dict.fromkeys((half, self.trials)) if budget in self.budgets]
        parts = []
        for budget in shown or self.budgets[-1:]:
            _, lower, median, upper, _ = self.quantiles[self.budgets.index(budget)]
            ends = sorted(q for q in (lower, upper) if q is not None)
            quartiles = " to ".join(map(format_value, ends)) if len(ends) == 2 else "often none"
            found = "none" if median is None else format_value(median)
            plural = "" if budget == 1 else "s"
            parts.append(f"best of {budget} trial{plural}: median {found} ({quartiles})")
        return "; ".join(parts)


def budget_record(study: Study, *, budgets: Iterable[int] | None = None) -> BudgetRecord:
    """Return what the budget curve shows (E5); arguments as in `plot_budget`.

    Raises:
        ValueError: If a budget is no positive integer.
    """
    ended = [trial for trial in study.trials if trial.status != "running"]
    costs = np.array(
        sorted(
            study.objective.cost(t.objective)
            if t.status == "completed" and t.objective is not None
            else math.inf
            for t in ended
        )
    )
    wanted = range(1, len(costs) + 1) if budgets is None else budgets
    counts = tuple(check_count(f"budgets[{i}]", k, minimum=1) for i, k in enumerate(wanted))
    return BudgetRecord(
        objective=study.objective,
        trials=len(costs),
        infeasible=int(np.isinf(costs).sum()),
        budgets=counts,
        quantiles=tuple(_quantiles(costs, k, study.objective) for k in counts),
    )


def plot_budget(
    study: Study, *, budgets: Iterable[int] | None = None, ax: "Axes | None" = None
) -> "Axes":
    r"""Plot what a study with fewer trials would have found (E5, figure 3).

    The trials that ended are resampled with replacement, which has a closed form: of n trials with
    objectives x_1, ..., x_n, the best first, the best of k is at least as good as x_i with
    probability

        1 - ((n - i) / n)^k

    The line is the median of the best, the bands are its quartiles and 5% to 95%. A trial without
    an objective counts as one that found nothing. That holds if the trials are independent of one
    another, as those of a random or a quasi-random search are (G1). Where the line is flat more
    trials of the same space would find little more; a wide band is luck.

    Args:
        study: The study.
        budgets: Numbers of trials. Default: 1 to the number of trials that ended.
        ax: Axes to draw on. Default: those of a new figure with a legend.

    Raises:
        ValueError: If a budget is no positive integer.
    """
    record = budget_record(study, budgets=budgets)
    return on_axes(partial(draw_budget, record), ax, study, inches=(5.0, 3.7))


def draw_budget(record: BudgetRecord, ax: "Axes") -> "Axes":
    """Draw the record on `ax`, with labels that `ax.legend()` shows, and return `ax`."""
    from matplotlib.ticker import MaxNLocator

    clean(ax)
    ax.set_xlabel("trials in the study", fontsize=9)
    ax.set_ylabel(shorten(f"best {record.objective.name}", 30), fontsize=9)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    say(ax, record.finding())
    if not record.budgets or record.trials == record.infeasible:
        say_nothing(ax, "no completed trial")
        return ax
    ends = (min(record.budgets), max(record.budgets))
    pad = 0.03 * (ends[1] - ends[0]) or 0.5
    ax.set_xlim(ends[0] - pad, ends[1] + pad)
    if ends[0] == ends[1]:
        ax.set_xticks(ends[:1])
    table = np.array(record.quantiles, dtype=np.float64)
    good, lower, median, upper, bad = table[np.argsort(record.budgets)].T
    xs = sorted(record.budgets)
    # Where bad luck finds nothing, a band has no other end.
    ax.fill_between(xs, good, bad, color=RANKED[4], alpha=0.22, lw=0, label="5% to 95%")
    ax.fill_between(xs, lower, upper, color=RANKED[0], alpha=0.38, lw=0, label="quartiles")
    marker = "o" if len(xs) <= 12 else None
    ax.plot(xs, median, color=DARK, lw=1.8, marker=marker, ms=4, label="median")
    _limit(ax, record.objective, good, upper, bad)
    ax.axhline(float(good[np.isfinite(good)][-1]), color=OTHER, lw=0.8, ls=":", zorder=0)
    return ax


def _limit(ax: "Axes", objective: Objective, *quantiles: np.ndarray) -> None:
    """Leave out what a study of one or two trials finds with bad luck, which flattens the rest."""
    good, upper, bad = (
        np.array([objective.cost(v) for v in row if math.isfinite(v)]) for row in quantiles
    )
    best = good.min()
    worst = max(bad[len(bad) // 4 :].max(initial=best), upper.max(initial=best))
    worst = min(worst, bad.max(initial=best))
    span = (worst - best) or abs(best) or 1.0
    ends = sorted(objective.cost(cost) for cost in (best - 0.06 * span, worst + 0.06 * span))
    ax.set_ylim(*ends)


def _quantiles(costs: np.ndarray, budget: int, objective: Objective) -> tuple[float | None, ...]:
    count = len(costs)
    if not count:
        return (None,) * len(QUANTILES)
    at_least = 1.0 - ((count - np.arange(1, count + 1)) / count) ** budget
    # The last is 1 up to rounding, and must be reached.
    at_least[-1] = 1.0
    found = costs[np.searchsorted(at_least, QUANTILES)]
    return tuple(objective.cost(float(c)) if math.isfinite(c) else None for c in found)
