"""Which checkpoint of a run was best, and what its place in the run says (H2)."""

import dataclasses

EARLY_FRACTION = 0.10
LATE_FRACTION = 0.25
# With fewer evaluations a tenth of the run is one of them.
MIN_EVALUATIONS = 10


@dataclasses.dataclass(frozen=True)
class BestCheckpoint:
    """The best evaluation of a run.

    Attributes:
        monitor: The metric.
        mode: `"min"` or `"max"`.
        value: Its best value.
        step: Optimizer updates made when it was measured; the earliest, if several are equal.
        last_step: Optimizer updates of the whole run.
        evaluations: How often the metric was measured.

    Source: playbook H2, I8.
    """

    monitor: str
    mode: str
    value: float
    step: int
    last_step: int
    evaluations: int

    @property
    def fraction(self) -> float:
        """Where in the run the best value lies, in (0, 1]."""
        return self.step / self.last_step if self.last_step else 1.0

    @property
    def is_early(self) -> bool:
        """Whether the best value lies in the first tenth of a run with enough evaluations."""
        return self.evaluations >= MIN_EVALUATIONS and self.fraction <= EARLY_FRACTION

    @property
    def is_late(self) -> bool:
        """Whether it lies in the last quarter of a run with enough evaluations."""
        return self.evaluations >= MIN_EVALUATIONS and self.fraction > 1.0 - LATE_FRACTION

    @property
    def advice(self) -> str:
        """What the place in the run suggests when other trials show the same; often nothing."""
        if self.is_early:
            return (
                f"It lies in the first {EARLY_FRACTION:.0%} of the run (H2): when the other trials "
                "show the same, train for far fewer steps, or look for a learning rate that is "
                "too high."
            )
        if self.is_late:
            return (
                f"It lies in the last {LATE_FRACTION:.0%} of the run (H2): when the other trials "
                "show the same, train longer and tune the decay again."
            )
        return ""

    def __str__(self) -> str:
        return (
            f"The best {self.monitor}, {self.value:.6g}, was measured at step {self.step:,} of "
            f"{self.last_step:,} ({self.fraction:.0%} of the run). {self.advice}"
        ).rstrip()
