"""All diagnoses of a study in the order in which one should act."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfplaybook.studies._diagnoses._adoption import adoption
from tfplaybook.studies._diagnoses._boundary import search_space_boundary
from tfplaybook.studies._diagnoses._comparison import scientific_comparison
from tfplaybook.studies._diagnoses._finding import Finding, Verdict, naming
from tfplaybook.studies._diagnoses._importance import importance
from tfplaybook.studies._diagnoses._infeasible import infeasible_fraction, stability_edge
from tfplaybook.studies._diagnoses._length import max_train_steps, saturated_early, still_improving
from tfplaybook.studies._diagnoses._noise import enough_points, late_variance, objective_noise
from tfplaybook.studies._diagnoses._periodicity import periodicity
from tfplaybook.studies._diagnoses._rises import (
    overfitting,
    overfitting_anywhere,
    training_loss_rising,
)
from tfplaybook.studies._records import Study

if TYPE_CHECKING:
    import rich.table

_MARKS = {"act": "!", "unknown": "?", "ok": "+"}
_SOURCES_WIDTH = 7
_STYLES = {"act": "bold yellow", "unknown": "dim", "ok": "green"}


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The findings about a study, in the order in which one should act.

    Print it for the checklist: first what to do next, then every finding, marked `!` if there is
    something to do, `+` if not and `?` if the study cannot tell.

    Args:
        study: Name of the study and the number of its trials by status.
        findings: The findings, bugs first, then the space, the trainings and the conclusions.
        next_step: What to do next, with its numbers.
    """

    study: str
    findings: tuple[Finding, ...]
    next_step: str

    def __getitem__(self, name: str) -> Finding:
        """Return the finding of this name, such as `"search_space_boundary"`."""
        by_name = {finding.name: finding for finding in self.findings}
        if name not in by_name:
            raise KeyError(f"{name!r}: the findings are {', '.join(by_name)}")
        return by_name[name]

    @property
    def actions(self) -> tuple[Finding, ...]:
        """The findings that ask for something to be done."""
        return tuple(finding for finding in self.findings if finding.verdict == "act")

    def __str__(self) -> str:
        lines = [f"{self.study}", f"Next: {self.next_step}", ""]
        lines += [
            f"{_MARKS[verdict]} {evidence} ({sources}){f': {remedy}' if remedy else ''}"
            for verdict, sources, evidence, remedy in self._rows()
        ]
        return "\n".join(lines)

    def __rich__(self) -> "rich.table.Table":
        import rich.table
        import rich.text

        table = rich.table.Table(box=None, pad_edge=False, show_header=False)
        table.title, table.title_justify = f"{self.study}\n", "left"
        table.add_column(no_wrap=True)
        table.add_column(max_width=_SOURCES_WIDTH)
        table.add_column()
        table.add_row("", "next", rich.text.Text(f"{self.next_step}\n", style="bold"))
        for verdict, sources, evidence, remedy in self._rows():
            style = _STYLES[verdict]
            text = rich.text.Text(evidence)
            if remedy:
                text.append(f": {remedy}", style=style)
            table.add_row(rich.text.Text(_MARKS[verdict], style), sources, text)
        return table

    def _rows(self) -> list[tuple[Verdict, str, str, str]]:
        """Return verdict, sources, evidence and remedy of each line of the checklist.

        What cannot be told for one reason, such as curves that are missing, is said once.
        """
        sources: dict[tuple[Verdict, str, str], list[str]] = {}
        for finding in self.findings:
            key = (finding.verdict, finding.evidence, finding.remedy)
            sources.setdefault(key, []).append(finding.source)
        return [
            (verdict, ", ".join(lines), evidence, remedy)
            for (verdict, evidence, remedy), lines in sources.items()
        ]


def diagnose(
    study: Study, *, scientific: Sequence[str] = (), baseline: str | Sequence[float] | None = None
) -> Diagnosis:
    """Return every finding about `study`, all thresholds at their defaults.

    What needs scikit-learn is `"unknown"` when that is not installed.

    Args:
        study: The study.
        scientific: Names of its scientific hyperparameters (C1); by default those of its roles.
        baseline: What `adoption` compares the best trial with.

    Raises:
        ValueError: If a hyperparameter or a trial that is named does not exist.
    """
    scientific = scientific or _scientific(study)
    findings: list[Finding] = [
        training_loss_rising(study),
        periodicity(study),
        infeasible_fraction(study),
        stability_edge(study),
        search_space_boundary(study),
        max_train_steps(study),
        still_improving(study),
        saturated_early(study),
        overfitting(study, scientific=scientific),
        overfitting_anywhere(study),
        late_variance(study),
        enough_points(study),
        objective_noise(study),
        _importance_if_installed(study),
    ]
    if scientific:
        findings.append(scientific_comparison(study, scientific))
    if baseline is not None:
        findings.append(adoption(study, baseline))
    caveat = f". {study.roles.caveat}" if study.roles and study.roles.fixed else ""
    summary = f"{study.name}: {study.summary()}{caveat}"
    return Diagnosis(summary, tuple(findings), _next(study, findings))


def _scientific(study: Study) -> tuple[str, ...]:
    """Return the scientific hyperparameters that this study itself varies."""
    named = set() if study.roles is None else set(study.roles.scientific)
    return tuple(h.name for h in study.space if h.is_varied and named & {h.name, h.declared_name})


def _importance_if_installed(study: Study) -> Finding:
    try:
        return importance(study)
    except ImportError as error:
        return Finding("importance", "E1", "unknown", str(error).rstrip("."))


def _next(study: Study, findings: list[Finding]) -> str:
    """Return the first remedy, or where to go when nothing is wrong."""
    if not study.trials:
        return "Run the first trials."
    if not study.completed and not study.infeasible and not study.failed:
        return f"Wait: {study.summary()}."
    for finding in findings:
        if finding.verdict == "act":
            return f"{finding.remedy} {finding.evidence} ({finding.source})."
    if study.running:
        return f"Wait for {naming([trial.trial_id for trial in study.running])}."
    for finding in findings:
        # To know what matters is worth no trials of its own.
        if finding.verdict == "unknown" and finding.remedy and finding.name != "importance":
            return f"{finding.remedy} {finding.evidence} ({finding.source})."
    best = study.best()[0]
    return (
        f"The checks are passed. Train trial {best.trial_id} "
        f"({study.objective.name} {best.objective:.4g}) and the baseline 5 times each with other "
        "seeds, and adopt it if it is better (F2, F3)."
    )
