"""Frozen records of a study: what was searched, and what came of every trial."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from tfplaybook._arguments import check_choice, check_count
from tfplaybook.runs import Curve, Run
from tfplaybook.search import Roles

if TYPE_CHECKING:
    import rich.table

    from tfplaybook.studies._diagnoses._checklist import Diagnosis
    from tfplaybook.studies._figures import SavedPlots
    from tfplaybook.studies._refine import Refinement
    from tfplaybook.studies._tensorboard import TensorBoardLog

Value = bool | int | float | str
Direction = Literal["min", "max"]
Kind = Literal["float", "int", "choice", "boolean", "fixed"]
Sampling = Literal["linear", "log", "reverse_log"]
Status = Literal["completed", "running", "failed", "infeasible"]


@dataclasses.dataclass(frozen=True)
class Objective:
    """The quantity by which trials are compared.

    Args:
        name: Name of the metric, such as `"val_loss"`.
        direction: `"min"` if lower is better, `"max"` if higher is better.

    Raises:
        ValueError: If `direction` is neither.
    """

    name: str
    direction: Direction

    def __post_init__(self) -> None:
        check_choice("direction", self.direction, get_args(Direction))

    def cost(self, value: float) -> float:
        """Return `value` with the sign that makes lower better.

        >>> Objective("val_accuracy", "max").cost(0.9)
        -0.9
        """
        return value if self.direction == "min" else -value


@dataclasses.dataclass(frozen=True)
class Hyperparameter:
    """One dimension of a search space.

    Args:
        name: A name that no other one in its study has: the one given to it in the model-building
            function, or `"learning_rate (optimizer=adam)"` if several share that (C4).
        kind: `"float"`, `"int"`, `"choice"`, `"boolean"` or `"fixed"`.
        sampling: How a `"float"` or `"int"` was sampled: `"linear"`, `"log"` or `"reverse_log"`.
        min_value: Lower end of the range of a `"float"` or `"int"`, inclusive.
        max_value: Upper end of that range, inclusive.
        step: Distance (or ratio, when sampled in log) between values; None for a continuous one.
        values: The possible values of a `"choice"`, `"boolean"` or `"fixed"`.
        conditions: Pairs of a parent's name and the parent's values under which this one exists;
            all of them must hold (C4).
        declared_name: Name given to it in the model-building function; None if it is `name`.
        is_inferred: Whether nobody declared it: its range is that of the trials' values, and its
            sampling was told from them. Such a range says nothing about where the search ended.
    """

    name: str
    kind: Kind
    sampling: Sampling | None = None
    min_value: float | None = None
    max_value: float | None = None
    step: float | None = None
    values: tuple[Value, ...] = ()
    conditions: tuple[tuple[str, tuple[Value, ...]], ...] = ()
    declared_name: str | None = None
    is_inferred: bool = False

    @property
    def is_varied(self) -> bool:
        """Whether it can take more than one value."""
        if self.min_value is None:
            return len(self.values) > 1
        return self.min_value != self.max_value

    def is_active(self, values: Mapping[str, Value]) -> bool:
        """Whether it exists in a trial with these values, by the names that were declared."""
        return all(name in values and values[name] in among for name, among in self.conditions)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One point of the search space and what came of training there.

    Args:
        trial_id: Identifier within the study, such as `"0007"`.
        values: Value of every hyperparameter that was active, by name.
        status: `"completed"` with a finite objective; `"infeasible"` when training diverged;
            `"failed"` when it did not run to the end; `"running"` when its end is not on disk.
        objective: Best value of the objective over training (D11), None while there is none.
            NaN or infinite only if the trial is infeasible.
        best_step: Where that value was, as KerasTuner counts: the epoch, from 0. `Study.table`
            counts from 1, as Keras prints epochs.
        message: Why the trial is infeasible or failed, and which of its files are damaged; else
            empty.
        runs: Its training runs, one per execution.
        enqueued: Whether its values were given by the user (`QuasiRandomSearch.enqueue`), and not
            by the search.
        declared_values: The same values by the names that the model-building function uses.
    """

    trial_id: str
    values: Mapping[str, Value]
    status: Status
    objective: float | None = None
    best_step: int | None = None
    message: str = ""
    runs: tuple[Run, ...] = dataclasses.field(default=(), repr=False)
    enqueued: bool = False
    declared_values: Mapping[str, Value] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )

    def curves(self, name: str) -> tuple[Curve, ...]:
        """Return the curve `name` of every run that recorded it; empty if none did."""
        return tuple(run.curves[name] for run in self.runs if name in run.curves)


@dataclasses.dataclass(frozen=True, repr=False)
class Study:
    """The trials of one search, with the space and the objective they share.

    `load` reads one from disk, `from_records` makes one of rows; nothing here writes to it.

    Args:
        path: The study's directory or file; its last part is the study's name.
        objective: What trials are compared by.
        trials: All trials, in the order of their ids, or of the rows that they were read from.
        space: The hyperparameters in the order in which they were declared.
        seed: Seed of the search; None if it is not known.
        goal: The question that the study was to answer (B2).
        note: Free text.
        roles: What each hyperparameter is for, and the caveat of the fixed ones (C1); None if the
            search was not told.
    """

    path: Path
    objective: Objective
    trials: tuple[Trial, ...] = ()
    space: tuple[Hyperparameter, ...] = ()
    seed: int | None = None
    goal: str = ""
    note: str = ""
    roles: Roles | None = None

    @property
    def name(self) -> str:
        """Name of the study: the last part of its path."""
        return self.path.name

    @property
    def completed(self) -> tuple[Trial, ...]:
        """Trials that ended with a finite objective."""
        return self._having("completed")

    @property
    def infeasible(self) -> tuple[Trial, ...]:
        """Trials whose training diverged (D3)."""
        return self._having("infeasible")

    @property
    def failed(self) -> tuple[Trial, ...]:
        """Trials that did not run to the end for another reason."""
        return self._having("failed")

    @property
    def running(self) -> tuple[Trial, ...]:
        """Trials whose end is not on disk."""
        return self._having("running")

    @property
    def varied(self) -> tuple[Hyperparameter, ...]:
        """Hyperparameters with more than one possible value, one per name."""
        varied: dict[str, Hyperparameter] = {}
        for h in self.space:
            if h.is_varied:
                varied.setdefault(h.name, h)
        return tuple(varied.values())

    def best(self, n: int = 1) -> tuple[Trial, ...]:
        """Return the `n` best completed trials, best first; fewer if fewer are completed.

        Of equal objectives the lower id comes first.

        Raises:
            ValueError: If `n` is not a positive integer.
        """
        count = check_count("n", n, minimum=1)
        return self.ranked()[:count]

    def ranked(self) -> tuple[Trial, ...]:
        """Return every completed trial, best first."""
        costs = [
            (self.objective.cost(trial.objective), trial)
            for trial in self.completed
            if trial.objective is not None
        ]
        return tuple(trial for _, trial in sorted(costs, key=lambda pair: pair[0]))

    def hyperparameter(self, name: str) -> Hyperparameter:
        """Return the hyperparameter of this name.

        Raises:
            ValueError: If the space has none; the message names the closest.
        """
        by_name = {h.name: h for h in reversed(self.space)}
        return by_name[check_choice("name", name, [h.name for h in self.space])]

    def summary(self) -> str:
        """Return the number of trials by status, such as `"3 trials: 2 completed, 1 running"`."""
        count = len(self.trials)
        total = f"{count} trial{'' if count == 1 else 's'}"
        by_status = collections.Counter(trial.status for trial in self.trials)
        # The order in which a reader asks: what is there, what was lost, what is still to come.
        order: tuple[Status, ...] = ("completed", "infeasible", "failed", "running")
        parts = ", ".join(f"{by_status[status]} {status}" for status in order if by_status[status])
        return f"{total}: {parts}" if parts else total

    def table(self) -> "rich.table.Table":
        """Return the results as a table for the terminal: best first, infeasible trials last.

        Print it with `rich.print(study.table())`. Epochs count from 1 there, as Keras prints them;
        below it stand the first reasons of trials that failed or are infeasible.
        """
        from tfplaybook.studies._table import study_table

        return study_table(self)

    def to_markdown(self) -> str:
        """Return what `table` shows as Markdown."""
        from tfplaybook.studies._table import study_markdown

        return study_markdown(self)

    def to_csv(self, path: str | Path) -> Path:
        """Write the trials as CSV, one line each in the order of their ids; return the path.

        The columns are those of `to_pandas`. `load` reads it back, given the same objective; the
        space, the curves and the note are not in it.
        """
        from tfplaybook.studies._table import study_csv

        path = Path(path)
        path.write_text(study_csv(self), encoding="utf-8", newline="")
        return path

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` with one row per trial, in the order of their ids.

        Its columns are `trial_id`, `status`, `objective`, `best_step`, one per hyperparameter
        and `message`.

        Raises:
            ImportError: If pandas is not installed.
        """
        from tfplaybook.studies._table import study_frame

        return study_frame(self)

    def save_plots(self, directory: str | Path) -> "SavedPlots":
        """Write every picture that the study has something for (E1 to E5, F1).

        | file | picture |
        |---|---|
        | `axis_plots.png` | `plot_axis` of every varied hyperparameter |
        | `training_curves.png` | `plot_curves` |
        | `isolation_plots.png` | `plot_isolation` of every varied hyperparameter |
        | `budget.png` | `plot_budget` |
        | `parallel_coordinates.png` | `plot_parallel` |
        | `slices.png` | `plot_slice` of the best trial's learning rate, or else the first varied hyperparameter, against each that varies with it |
        | `importance.png` | `plot_importance` of what `importance` finds |
        | `gradient_norms.png` | `plot_norms` of the best trials, and of infeasible ones |
        | `trial_variance.png` | `plot_variance` |

        The directory is made if it is missing. A picture of these names in it is replaced, or
        removed if it does not apply any more.

        Returns:
            The paths of the files as a sequence; its `skipped` says why others were not written.

        Raises:
            ValueError: If `directory` is a file.
        """  # noqa: E501
        from tfplaybook.studies._figures import save_plots

        return save_plots(self, Path(directory))

    def report(
        self,
        path: str | Path,
        *,
        scientific: Sequence[str] = (),
        baseline: str | Sequence[float] | None = None,
    ) -> Path:
        """Write the study as one HTML file, and return its path (E1 to E3, J1).

        The file needs nothing but a browser: it loads nothing, and forbids itself to. On top is
        what `diagnose` says; below are pictures in which trials can be selected, their curves, a
        table, and what was run, with the commands. An existing file is replaced, whole or not at
        all. Long curves are thinned, so that a hundred trials stay below 400 kB.

        Args:
            path: The file to write, in a directory that exists.
            scientific: As of `diagnose`; there is an isolation plot of each.
            baseline: As of `diagnose`.

        Raises:
            ValueError: If `path` is a directory, or in one that does not exist; or as `diagnose`.
        """
        from tfplaybook.studies._report._page import write_report

        return write_report(self, Path(path), scientific=scientific, baseline=baseline)

    def to_tensorboard(self, logdir: str | Path, *, most_runs: int | None = 40) -> "TensorBoardLog":
        """Write the study for TensorBoard: one run per execution of a trial, and one for the study.

        A trial's run has its scalars against the step, histograms of its gradient norms if those
        were recorded (M2), and its values for the tab HPARAMS, where the domain of every
        hyperparameter is declared. The run `study` has the pictures of `save_plots`.

        The directory is written anew and replaces what an earlier call wrote there. Look at it
        with `tensorboard --logdir LOGDIR`.

        Args:
            logdir: A new or empty directory, or one that this wrote.
            most_runs: Most runs to write, the study's included, at least 2: the best trials, then
                those that did not complete. With more than 40, TensorBoard's tabs SCALARS,
                HISTOGRAMS and IMAGES come up blank, until runs are chosen. None for all.

        Raises:
            ValueError: If `logdir` holds something else, or `most_runs` is out of range.
        """
        from tfplaybook.studies._tensorboard import to_tensorboard

        return to_tensorboard(self, Path(logdir), most_runs=most_runs)

    def with_objective(self, objective: str | Objective) -> "Study":
        """Return this study with its trials compared by another metric that the runs recorded.

        Quasi-random points do not depend on the objective, so it can be changed afterwards (G1). A
        trial's objective is the best value over training (D11), averaged over its executions.
        Completed trials whose runs did not record it count as failed, and those in which it was
        not always finite as infeasible.

        Args:
            objective: Name of the metric, such as `"val_accuracy"`, or an `Objective` if the name
                does not say which values are better.

        Raises:
            ValueError: If no run has recorded it, or if its direction is not certain.
        """
        from tfplaybook.studies._change_objective import with_objective

        return with_objective(self, objective)

    def diagnose(
        self,
        *,
        scientific: Sequence[str] = (),
        baseline: str | Sequence[float] | None = None,
    ) -> "Diagnosis":
        """Ask the playbook's questions and say what to do next (D1 to D10, F3, H2, I7, N5).

        Print the result for the checklist, in the order in which one should act. It holds the
        findings of the functions of this room, with their default options; call those for others.
        It works for a study of any size, also while it runs: what cannot be told is `"unknown"`,
        with the reason. `importance` is left `"unknown"` where scikit-learn or SciPy is missing.

        Args:
            scientific: Names of the hyperparameters whose effect the study is to measure (C1);
                by default those of the study's `roles`. They add `scientific_comparison`.
            baseline: Id of the trial, or the objectives of re-trainings, with which the best trial
                is compared; adds `adoption`.

        Raises:
            ValueError: If a hyperparameter or a trial that is named does not exist.
        """
        from tfplaybook.studies._diagnoses._checklist import diagnose

        return diagnose(self, scientific=scientific, baseline=baseline)

    def refine(
        self, *, good_fraction: float = 0.25, min_good: int = 5, margin_fraction: float = 0.1
    ) -> "Refinement":
        """Return a box around the good region, and the trials inside, to search next (G3).

        In every dimension the box spans the values of the best completed trials, widened on both
        sides, within what was searched. Of categories it has those of the best trials.

        Args:
            good_fraction: Which share of the completed trials is good, above 0, up to 1.
            min_good: How many are good at least, if so many are completed; at least 1.
            margin_fraction: By which share of the searched range, on its scale, to widen the box
                on either side, from 0 to 1.

        Raises:
            ValueError: If no trial is completed, or an option is out of range.
        """
        from tfplaybook.studies._refine import refine

        return refine(
            self, good_fraction=good_fraction, min_good=min_good, margin_fraction=margin_fraction
        )

    def __repr__(self) -> str:
        return f"<Study {str(self.path)!r}: {self.summary()}>"

    def _having(self, status: Status) -> tuple[Trial, ...]:
        return tuple(trial for trial in self.trials if trial.status == status)
