"""Learning-rate schedules: objects that compute a rate from a step (playbook L1-L7, H7, H8).

The total length of a schedule here is `warmup + hold + decay`: warmup is *prepended* (L5), so that
changing it leaves the decay as it was. Elsewhere the same words mean other things (N4):
`decay + warmup` in Keras' `CosineDecay`, `decay_steps` including the warmup in optax.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from tfplaybook._arguments import check_choice, check_count, check_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["WarmupDecaySchedule", "lengthen", "prepend_warmup"]

Tensor = Any

SMALLEST_FINAL_FRACTION = 1e-12
"""For decays that never reach 0; its square must be a float32."""

LOW_RATE_FRACTION = 0.1
"""Below this fraction of the peak, `lengthen` counts a step as spent at a small rate."""


# Each decay is a function of `done`, the share of the decay that has passed, and `left`, the share
# that remains. Both are given because 1 minus the other one has lost the digits that matter near 0.


def _constant(done: Tensor, left: Tensor, final: float, power: float) -> Tensor:
    return ops.ones_like(left)


def _polynomial(done: Tensor, left: Tensor, final: float, power: float) -> Tensor:
    return _between(final, 1.0, ops.power(left, power))


def _linear(done: Tensor, left: Tensor, final: float, power: float) -> Tensor:
    return _between(final, 1.0, left)


def _cosine(done: Tensor, left: Tensor, final: float, power: float) -> Tensor:
    # (1 + cos(pi done)) / 2 without its cancellation near the end.
    return _between(final, 1.0, ops.square(ops.sin(0.5 * math.pi * left)))


def _exponential(done: Tensor, left: Tensor, final: float, power: float) -> Tensor:
    return ops.exp(math.log(final) * done)


def _inverse_sqrt(done: Tensor, left: Tensor, final: float, power: float) -> Tensor:
    return 1.0 / ops.sqrt(1.0 + (final**-2 - 1.0) * done)


def _between(low: float, high: float, share: Tensor) -> Tensor:
    """Mix `low` and `high`; both ends are exact, which `low + share * (high - low)` is not."""
    return (1.0 - share) * low + share * high


_DECAYS: Mapping[str, Callable[[Tensor, Tensor, float, float], Tensor]] = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "exponential": _exponential,
    "inverse_sqrt": _inverse_sqrt,
    "polynomial": _polynomial,
}
_NEVER_ZERO = ("exponential", "inverse_sqrt")


@keras.saving.register_keras_serializable(package="tfplaybook")
class WarmupDecaySchedule(LearningRateSchedule):
    """Warm up to a peak, hold it, decay it to a fraction of the peak.

    With `W`, `H`, `D` the warmup, hold and decay steps, `i` and `f` the initial and the final
    fraction, and `x = (step - W - H) / D` limited to [0, 1]:

    | step | rate / peak |
    |---|---|
    | 0 | i |
    | 0 .. W | i + (1 - i) (step / W)^warmup_power |
    | W .. W + H | 1 |
    | W + H .. W + H + D, `"constant"` | 1 |
    | `"linear"` | f + (1 - f) (1 - x) |
    | `"polynomial"` | f + (1 - f) (1 - x)^decay_power |
    | `"cosine"` | f + (1 - f) (1 + cos(pi x)) / 2 |
    | `"exponential"` | f^x |
    | `"inverse_sqrt"` | 1 / sqrt(1 + (1 / f^2 - 1) x) |
    | a schedule `s` | s(step - W - H) / s(0) |
    | beyond W + H + D | the value at W + H + D |

    The total, `total_steps`, is warmup + hold + decay. An example, peak 0.4, W = 2, H = 1, D = 4:

    | step | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 |
    |---|---|---|---|---|---|---|---|---|---|
    | rate, linear decay | 0 | 0.2 | 0.4 | 0.4 | 0.3 | 0.2 | 0.1 | 0 | 0 |

    Rates are computed in float32, exact to its rounding; that is tested up to a million steps.

    Examples:
        >>> import keras, tfplaybook as pb
        >>> schedule = pb.schedules.WarmupDecaySchedule(
        ...     peak_learning_rate=0.4, warmup_steps=2, hold_steps=1, decay_steps=4, decay="linear"
        ... )
        >>> schedule.total_steps
        7
        >>> [round(float(schedule(step)), 3) for step in range(9)]
        [0.0, 0.2, 0.4, 0.4, 0.3, 0.2, 0.1, 0.0, 0.0]
        >>> optimizer = keras.optimizers.Adam(schedule)

    Args:
        peak_learning_rate: The rate after warmup, greater than 0.
        warmup_steps: Optimizer updates of the ramp, at least 0. The playbook sweeps orders of
            magnitude up to a tenth of the training steps (L4).
        decay_steps: Optimizer updates of the decay, at least 1; warmup and hold are not counted in
            it. None, meaning without end, for a decay that is `"constant"` or a schedule.
        hold_steps: Optimizer updates at the peak between warmup and decay, at least 0.
        decay: One of the names in the table, or a `LearningRateSchedule`, of which only the shape
            is used. Linear and cosine are the playbook's defaults (H8).
        final_fraction: The last rate as a fraction of the peak, in [0, 1]. `"exponential"` and
            `"inverse_sqrt"` need at least 1e-12; `"constant"` and schedules have none of their own.
        initial_fraction: The first rate as a fraction of the peak, in [0, 1].
        warmup_power: Exponent of the ramp, greater than 0; 1 is linear.
        decay_power: Exponent of a `"polynomial"` decay, greater than 0.
        name: Name of the schedule.

    Raises:
        ValueError: An argument is outside its range, an unknown decay (the message names the
            closest), or an option that the chosen decay does not use.

    Source: playbook L5, H8. Inverse square root: Vaswani et al. 2017, whose curve is
    `final_fraction = sqrt(W / (W + D))`.
    """

    def __init__(
        self,
        *,
        peak_learning_rate: float,
        warmup_steps: int,
        decay_steps: int | None,
        hold_steps: int = 0,
        decay: str | LearningRateSchedule = "cosine",
        final_fraction: float = 0.0,
        initial_fraction: float = 0.0,
        warmup_power: float = 1.0,
        decay_power: float = 1.0,
        name: str = "WarmupDecaySchedule",
    ):
        super().__init__()
        self.peak_learning_rate = check_number("peak_learning_rate", peak_learning_rate, above=0.0)
        if np.float32(self.peak_learning_rate) == 0.0:
            raise ValueError(
                "`peak_learning_rate` must be greater than 0 in float32. "
                f"Received: {peak_learning_rate!r}."
            )
        self.warmup_steps = check_count("warmup_steps", warmup_steps, minimum=0)
        self.hold_steps = check_count("hold_steps", hold_steps, minimum=0)
        self.final_fraction = check_number(
            "final_fraction", final_fraction, minimum=0.0, maximum=1.0
        )
        self.initial_fraction = check_number(
            "initial_fraction", initial_fraction, minimum=0.0, maximum=1.0
        )
        self.warmup_power = check_number("warmup_power", warmup_power, above=0.0)
        self.decay_power = check_number("decay_power", decay_power, above=0.0)
        self.name = name
        self.decay = decay
        if isinstance(decay, LearningRateSchedule):
            self._decay_start = _first_rate(decay, "decay")
        else:
            check_choice("decay", decay, _DECAYS)
        self.decay_steps = self._check_decay_steps(decay_steps)
        self._check_options_fit_decay()

    def _check_decay_steps(self, decay_steps: int | None) -> int | None:
        if decay_steps is not None:
            return check_count("decay_steps", decay_steps, minimum=1)
        if self.decay == "constant" or isinstance(self.decay, LearningRateSchedule):
            return None
        raise ValueError(
            f"`decay_steps` must be an integer of at least 1 for decay={self.decay!r}. "
            "Received: None, which only a 'constant' decay or a schedule can go without."
        )

    def _check_options_fit_decay(self) -> None:
        if self.decay in _NEVER_ZERO and self.final_fraction < SMALLEST_FINAL_FRACTION:
            fix = "Pass, say, final_fraction=0.01."
            if self.decay == "inverse_sqrt":
                fix += (
                    " The curve of Vaswani et al. 2017 has sqrt(warmup_steps / (warmup_steps + "
                    "decay_steps))."
                )
            raise ValueError(
                f"decay={self.decay!r} never reaches 0, so `final_fraction` must be at least "
                f"{SMALLEST_FINAL_FRACTION:g}. Received: {self.final_fraction:g}. {fix}"
            )
        has_own_end = self.decay == "constant" or isinstance(self.decay, LearningRateSchedule)
        if has_own_end and self.final_fraction != 0.0:
            raise ValueError(
                f"`final_fraction` has no effect when `decay` is {self.decay!r}: remove it. "
                f"Received: final_fraction={self.final_fraction:g}."
            )
        if self.decay != "polynomial" and self.decay_power != 1.0:
            raise ValueError(
                "`decay_power` belongs to decay='polynomial'. "
                f"Received: decay_power={self.decay_power:g} with decay={self.decay!r}."
            )

    @property
    def total_steps(self) -> int | None:
        """Warmup + hold + decay in optimizer updates; None when the decay has no end."""
        if self.decay_steps is None:
            return None
        return self.warmup_steps + self.hold_steps + self.decay_steps

    def fraction(self, step: Tensor) -> Tensor:
        """Return rate / peak at `step`: float32, of the shape of `step` (any shape)."""
        return self._scaled(step, 1.0)

    def __call__(self, step: Tensor) -> Tensor:
        """Return the rate at `step`: float32, of the shape of `step` (any shape)."""
        with keras.name_scope(self.name):
            return self._scaled(step, self.peak_learning_rate)

    def _scaled(self, step: Tensor, peak: float) -> Tensor:
        step = ops.cast(step, "float32")
        ramp = ops.power(ops.minimum(step / max(self.warmup_steps, 1), 1.0), self.warmup_power)
        after_hold = ops.maximum(step - float(self.warmup_steps + self.hold_steps), 0.0)
        if isinstance(self.decay, LearningRateSchedule):
            if self.decay_steps is not None:
                after_hold = ops.minimum(after_hold, float(self.decay_steps))
            # The factor is exactly 1 for a prepended warmup, which must not change the schedule.
            decayed = (peak / self._decay_start) * ops.cast(self.decay(after_hold), "float32")
        else:
            end = float(self.decay_steps or 1)
            done, left = (
                ops.minimum(after_hold, end) / end,
                ops.maximum(end - after_hold, 0.0) / end,
            )
            decayed = peak * _DECAYS[self.decay](done, left, self.final_fraction, self.decay_power)
        return ops.where(
            step < self.warmup_steps, peak * _between(self.initial_fraction, 1.0, ramp), decayed
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain data."""
        decay = self.decay
        if isinstance(decay, LearningRateSchedule):
            decay = keras.saving.serialize_keras_object(decay)
        return {
            "peak_learning_rate": self.peak_learning_rate,
            "warmup_steps": self.warmup_steps,
            "decay_steps": self.decay_steps,
            "hold_steps": self.hold_steps,
            "decay": decay,
            "final_fraction": self.final_fraction,
            "initial_fraction": self.initial_fraction,
            "warmup_power": self.warmup_power,
            "decay_power": self.decay_power,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WarmupDecaySchedule":
        """Build a schedule from what `get_config` returned."""
        config = dict(config)
        if isinstance(config["decay"], dict):
            config["decay"] = keras.saving.deserialize_keras_object(config["decay"])
        return cls(**config)

    def __repr__(self) -> str:
        decay = self.decay if isinstance(self.decay, str) else type(self.decay).__name__
        return (
            f"{type(self).__name__}(peak_learning_rate={self.peak_learning_rate:g}, "
            f"warmup_steps={self.warmup_steps}, hold_steps={self.hold_steps}, "
            f"decay_steps={self.decay_steps}, decay={decay!r})"
        )

    def plot(self, *, ax: "Axes | None" = None, total_steps: int | None = None) -> "Axes":
        """Draw the rate against the step and return the axes.

        Args:
            ax: Matplotlib axes to draw on. A new figure by default.
            total_steps: Steps to draw, at least 1. The schedule's own total by default; needed for
                a schedule without end.
        """
        if total_steps is None:
            total_steps = self.total_steps
        if total_steps is None:
            raise ValueError("This schedule has no end: pass `total_steps`, the steps to draw.")
        check_count("total_steps", total_steps, minimum=1)
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots(figsize=(6, 3), layout="constrained")
        # 1,000 points draw the curve; the joints are added so that no corner is cut.
        corners = [0, self.warmup_steps, self.warmup_steps + self.hold_steps, total_steps]
        steps = np.union1d(
            np.linspace(0, total_steps, 1000), [c for c in corners if c <= total_steps]
        )
        ax.plot(steps, ops.convert_to_numpy(self(steps)))
        ax.set(xlabel="step (optimizer updates)", ylabel="learning rate", ylim=(0, None))
        return ax


def prepend_warmup(
    schedule: float | LearningRateSchedule,
    warmup_steps: int,
    *,
    initial_fraction: float = 0.0,
    warmup_power: float = 1.0,
) -> WarmupDecaySchedule:
    """Put a warmup before any schedule or constant rate, which is otherwise unchanged (L5).

    rate(step) = ramp to schedule(0) while step < warmup_steps, then schedule(step - warmup_steps):
    a run of 10,000 steps with a warmup of 1,000 takes 11,000 steps.

    Examples:
        >>> import keras, tfplaybook as pb
        >>> decay = keras.optimizers.schedules.ExponentialDecay(0.8, decay_steps=1, decay_rate=0.5)
        >>> schedule = pb.schedules.prepend_warmup(decay, 2)
        >>> [round(float(schedule(step)), 3) for step in range(5)]
        [0.0, 0.4, 0.8, 0.4, 0.2]

    Args:
        schedule: A Keras schedule, or a constant rate greater than 0.
        warmup_steps: Optimizer updates of the ramp, at least 1.
        initial_fraction: First rate as a fraction of `schedule(0)`, in [0, 1].
        warmup_power: Exponent of the ramp, greater than 0; 1 is linear.

    Returns:
        A `WarmupDecaySchedule` whose `total_steps` is None: the length is the run's.

    Raises:
        ValueError: The schedule starts at 0, as one that already has a warmup does.
    """
    check_count("warmup_steps", warmup_steps, minimum=1)
    shape: str | LearningRateSchedule
    if isinstance(schedule, LearningRateSchedule):
        peak, shape = _first_rate(schedule, "schedule"), schedule
    else:
        peak, shape = check_number("schedule", schedule, above=0.0), "constant"
    return WarmupDecaySchedule(
        peak_learning_rate=peak,
        warmup_steps=warmup_steps,
        decay_steps=None,
        decay=shape,
        initial_fraction=initial_fraction,
        warmup_power=warmup_power,
    )


def lengthen(schedule: WarmupDecaySchedule, total_steps: int) -> WarmupDecaySchedule:
    """Carry a schedule from a short round to a long one (H7): extra steps at a high rate.

    | decay | what grows | what stays |
    |---|---|---|
    | `"linear"`, `"polynomial"` | the constant part before the decay | warmup, decay, peak |
    | `"cosine"` | the decay is stretched | warmup, hold, peak |
    | `"exponential"` | the decay is stretched | warmup, hold, peak, last rate |
    | `"inverse_sqrt"` | the same curve goes on to a lower last rate | every earlier rate |
    | `"constant"` | the constant part | warmup, peak |

    Linear and cosine are the playbook's rules, and it calls them speculative; the others are ours
    by analogy. The pitfall is to spend the extra steps at too small a rate to matter: when more
    than half of the added steps run below a tenth of the peak, a warning says how many.

    Examples:
        >>> import tfplaybook as pb
        >>> short = pb.schedules.WarmupDecaySchedule(
        ...     peak_learning_rate=0.1, warmup_steps=10, decay_steps=90, decay="linear"
        ... )
        >>> pb.schedules.lengthen(short, 500)
        WarmupDecaySchedule(peak_learning_rate=0.1, warmup_steps=10, hold_steps=400, decay_steps=90, decay='linear')

    Args:
        schedule: The schedule of the short round, with an end.
        total_steps: Optimizer updates of the long round, warmup included; not below the schedule's.

    Raises:
        TypeError: `schedule` is not a `WarmupDecaySchedule`.
        ValueError: `total_steps` is below the schedule's, or there is no rule for its decay.
    """  # noqa: E501
    if not isinstance(schedule, WarmupDecaySchedule):
        raise TypeError(
            "`schedule` must be a WarmupDecaySchedule, whose parts are known. "
            f"Received: {schedule!r}. Write the same decay as a WarmupDecaySchedule with "
            "warmup_steps=0."
        )
    old_total = schedule.total_steps
    if old_total is None or isinstance(schedule.decay, LearningRateSchedule):
        raise ValueError(
            f"There is no rule for lengthening {schedule!r}: it must have an end (`decay_steps`) "
            f"and a named decay, one of {list(_DECAYS)}."
        )
    if check_count("total_steps", total_steps, minimum=1) < old_total:
        raise ValueError(
            f"`total_steps` must be at least {old_total}, the steps of {schedule!r}: `lengthen` "
            f"does not shorten. Received: {total_steps}."
        )
    extra = total_steps - old_total
    config = schedule.get_config()
    if schedule.decay in ("linear", "polynomial"):
        config["hold_steps"] += extra
    else:
        config["decay_steps"] += extra
    if schedule.decay == "inverse_sqrt":
        growth = config["decay_steps"] / (config["decay_steps"] - extra)
        final = schedule.final_fraction
        config["final_fraction"] = 1.0 / math.sqrt(1.0 + (final**-2 - 1.0) * growth)
    longer = WarmupDecaySchedule.from_config(config)
    _warn_of_small_rates(schedule, longer, extra)
    return longer


def _warn_of_small_rates(
    short: WarmupDecaySchedule, longer: WarmupDecaySchedule, extra: int
) -> None:
    if not extra:
        return
    added = _steps_at_small_rates(longer) - _steps_at_small_rates(short)
    if added > extra / 2:
        warnings.warn(
            f"{added:,} of the {extra:,} added steps run below {LOW_RATE_FRACTION:.0%} of the peak "
            "learning rate (H7: extra steps at too small a rate change little). A 'linear' or "
            "'cosine' decay spends them at a higher one.",
            stacklevel=3,
        )


def _steps_at_small_rates(schedule: WarmupDecaySchedule) -> int:
    """Count steps below `LOW_RATE_FRACTION` after the warmup, on a grid of 10,000 for long runs."""
    total = schedule.total_steps
    assert total is not None
    after_warmup = total - schedule.warmup_steps
    points = min(after_warmup, 10_000)
    steps = schedule.warmup_steps + np.arange(points) * (after_warmup / points)
    low = ops.convert_to_numpy(schedule.fraction(steps)) < LOW_RATE_FRACTION
    return round(float(low.mean()) * after_warmup)


def _first_rate(schedule: LearningRateSchedule, argument: str) -> float:
    rate = float(ops.convert_to_numpy(schedule(0)))
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(
            f"`{argument}` must start at a finite rate greater than 0, which the warmup leads to. "
            f"Received: {type(schedule).__name__}, which starts at {rate:g}"
            + (": does it already have a warmup?" if rate == 0 else ".")
        )
    return rate
