"""What a profile says: the record, its table and its picture."""

import dataclasses
from typing import TYPE_CHECKING, Literal

from pipelines._dataset import readable_size
from pipelines._limits import CONSUMER, PROCESSOR
from pipelines._remedies import Remedy
from pipelines._stage_chain import Link
from pipelines._step_cost import StepComparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclasses.dataclass(frozen=True)
class StageProfile:
    """One stage of a pipeline, measured.

    Args:
        name: As it was written, such as "map decode"; "each: ..." for a stage of the datasets that
            an `interleave` or `flat_map` reads.
        kind: tf.data's name of what ran, such as "ParallelMapV2".
        source: Line of code, such as "train.py:12"; None where it is not known.
        elements: Elements made while it was measured.
        seconds_per_element: Time in the stage itself for each of its own elements.
        seconds_per_output: The same for each element of the whole pipeline.
        bytes_per_element: Size of its elements.
        parallelism: Calls that may run at once.
        tuned: Whether tf.data chose that number.
        added: Whether the stage was not written: tf.data adds a prefetch, and the profile a repeat.
    """

    name: str
    kind: str
    source: str | None
    elements: int
    seconds_per_element: float
    seconds_per_output: float
    bytes_per_element: float
    parallelism: float
    tuned: bool
    added: bool
    link: Link | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def label(self) -> str:
        """The name with the line of code: "map decode (train.py:12)"."""
        return self.name if self.source is None else f"{self.name} ({self.source})"


@dataclasses.dataclass(frozen=True)
class Bottleneck:
    """What limits a pipeline.

    Args:
        stage: The stage with most of the work; None if it is the program that takes the elements.
        kind: "serial stage", "parallelism limit", "thread pool", "CPU saturated",
            "waiting on I/O" or "consumer".
        waiting_fraction: Share of the stage's time that certainly passed without a processor, a
            lower bound.
        remedy: What to do.
    """

    stage: StageProfile | None
    kind: str
    waiting_fraction: float
    remedy: str

    def __str__(self) -> str:
        if self.kind == CONSUMER or self.stage is None:
            return "the program that takes the elements"
        if self.kind == PROCESSOR:
            return f"{PROCESSOR}, most of all by {self.stage.label}"
        waits = f", waits {self.waiting_fraction:.0%} of its time" if self.waiting_fraction else ""
        return f"{self.stage.label}: {self.kind}{waits}"


@dataclasses.dataclass(frozen=True)
class PipelineProfile:
    """Where the time of a pipeline goes; `pipelines.profile` makes it.

    Args:
        rate: Elements of the whole pipeline per second, as observed.
        elements: Elements that were taken.
        seconds: Time in which they were.
        model_rate: The rate that the stages' times predict.
        stages: The stages in order, first to last.
        bottleneck: What limits the rate; None where the profile does not know.
        remedies: Changes that would help, each with the gain that it predicts, best first.
        confidence: "high", "low" or "none".
        reason: Why the confidence is "none"; otherwise empty.
        processor_use: Share of the cores that this process kept busy.
        others_use: Share that other programs did, where the system tells.
        pool_size: Threads that run the functions of stages.
        reading_fraction: Share of the time that went into reading tf.data's model.
        training: Whether training waits for the input, with `step_fn`.
    """

    rate: float
    elements: int
    seconds: float
    model_rate: float
    stages: tuple[StageProfile, ...]
    bottleneck: Bottleneck | None
    remedies: tuple[Remedy, ...]
    confidence: Literal["high", "low", "none"]
    reason: str
    processor_use: float
    others_use: float
    pool_size: int
    reading_fraction: float
    training: StepComparison | None = None

    @property
    def predicted_gain(self) -> float:
        """Rate after the best remedy over the rate now; 1.0 where none is known."""
        return self.remedies[0].predicted_gain if self.remedies else 1.0

    def __str__(self) -> str:
        rows = [("stage", "per output", "per element", "elements", "size", "calls", "line")]
        for stage in self.stages:
            rows.append(
                (
                    stage.name,
                    _duration(stage.seconds_per_output),
                    _duration(stage.seconds_per_element),
                    f"{stage.elements:,}",
                    readable_size(round(stage.bytes_per_element)),
                    f"{stage.parallelism:.0f}" + (" tuned" if stage.tuned else ""),
                    stage.source or ("(added)" if stage.added else ""),
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            f"{self.rate:,.1f} elements/s over {self.seconds:.1f} s; this process kept "
            f"{self.processor_use:.0%} of the cores busy, others {self.others_use:.0%}",
            "",
            *(
                "  ".join(
                    text.ljust(width) if column in (0, 6) else text.rjust(width)
                    for column, (text, width) in enumerate(zip(row, widths, strict=True))
                ).rstrip()
                for row in rows
            ),
            "",
            *self._verdict(),
        ]
        return "\n".join(lines)

    def _verdict(self) -> list[str]:
        if self.bottleneck is None:
            lines = [f"bottleneck: does not know: {self.reason}"]
        else:
            lines = [
                f"bottleneck: {self.bottleneck} (confidence: {self.confidence})",
                f"remedy:     {self.remedies[0] if self.remedies else self.bottleneck.remedy}",
            ]
        if self.training is not None:
            lines.append(f"training:   {self.training}")
        return lines

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the time of every stage per element of the pipeline, and name the bottleneck.

        Args:
            ax: Axes to draw on; default: those of a new figure. The names of the stages need room
                on the left, for which the figure must have `layout="constrained"`.
        """
        from pipelines._profile_plot import draw_profile

        return draw_profile(self, ax)


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
