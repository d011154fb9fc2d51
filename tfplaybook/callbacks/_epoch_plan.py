"""`plan_epochs`: make a Keras epoch an evaluation interval."""

import dataclasses
from collections.abc import Iterator

from tfplaybook._arguments import check_count


@dataclasses.dataclass(frozen=True)
class EpochPlan:
    """How many epochs of how many batches a run is; `fit(train, **plan)` takes it.

    Attributes:
        epochs: Evaluation intervals of the run.
        steps_per_epoch: Batches of one of them.
    """

    epochs: int
    steps_per_epoch: int

    def keys(self) -> Iterator[str]:
        """Return the names of the arguments of `fit`, for `**plan`."""
        return iter(("epochs", "steps_per_epoch"))

    def __getitem__(self, name: str) -> int:
        return {"epochs": self.epochs, "steps_per_epoch": self.steps_per_epoch}[name]


def plan_epochs(
    total_steps: int,
    every_steps: int,
    *,
    gradient_accumulation_steps: int = 1,
    steps_per_execution: int = 1,
) -> EpochPlan:
    """Return the epochs of a run that is evaluated every so many updates.

        epochs = total_steps / every_steps
        steps_per_epoch = every_steps * gradient_accumulation_steps

    Over an endless dataset a Keras epoch is any number of steps. When it is an evaluation interval
    (I1), `validation_data`, `ModelCheckpoint` and all that happens at the end of an epoch work
    without a callback of ours, and a run can be saved between epochs and resumed.

    Examples:
        >>> import tfplaybook as pb
        >>> plan = pb.callbacks.plan_epochs(10_000, 500)
        >>> plan
        EpochPlan(epochs=20, steps_per_epoch=500)
        >>> dict(plan)
        {'epochs': 20, 'steps_per_epoch': 500}

        It is what `fit` takes: `model.fit(train, validation_data=valid, **plan)`.

    Args:
        total_steps: Optimizer updates of the run.
        every_steps: Optimizer updates of an interval; must divide `total_steps`.
        gradient_accumulation_steps: Batches of an update, as given to the optimizer.
        steps_per_execution: As given to `compile`; must divide the batches of an interval, or
            Keras makes more of them.

    Raises:
        ValueError: An argument is not an integer of at least 1, or does not divide.

    Source: playbook I1, H8.
    """
    total = check_count("total_steps", total_steps, minimum=1)
    every = check_count("every_steps", every_steps, minimum=1)
    accumulation = check_count(
        "gradient_accumulation_steps", gradient_accumulation_steps, minimum=1
    )
    execution = check_count("steps_per_execution", steps_per_execution, minimum=1)
    epochs, left_over = divmod(total, every)
    if left_over:
        nearest = min(_divisors(total), key=lambda divisor: abs(divisor - every))
        shorter = f"total_steps={total - left_over:,} or " if epochs else ""
        raise ValueError(
            "`every_steps` must divide `total_steps`. Received: "
            f"{total:,} = {epochs:,} x {every:,} + {left_over:,}. Pass {shorter}"
            f"total_steps={total - left_over + every:,}, or every_steps={nearest:,}."
        )
    batches = every * accumulation
    if batches % execution:
        made = -(-batches // execution) * execution
        raise ValueError(
            "`steps_per_execution` must divide the batches of an interval, or Keras makes "
            f"{made:,} of them. Received: {batches:,} batches, steps_per_execution={execution:,}."
        )
    return EpochPlan(epochs=epochs, steps_per_epoch=batches)


def _divisors(number: int) -> list[int]:
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return [*small, *(number // d for d in small)]
