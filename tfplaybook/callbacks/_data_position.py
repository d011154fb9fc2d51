"""Where in its data a run stands."""

from typing import Any


class DataPosition:
    """The step at which a pipeline begins its next iteration.

    Args:
        data: A pipeline with a variable `start_step`, or None for data that cannot be sought.

    Raises:
        TypeError: `data` is something else.
    """

    def __init__(self, data: Any):
        if data is not None and not hasattr(getattr(data, "start_step", None), "assign"):
            raise TypeError(
                "`data` must be a pipeline with a variable `start_step`, such as that of "
                f"`pipelines.training_pipeline`. Received: {data!r:.80}. Leave it out for other "
                "data, which then starts anew when the run is resumed."
            )
        self._data = data
        self._users: int | None = None
        self.step: int | None = None

    def begin(self) -> None:
        """Note where the user has put the beginning."""
        if self._data is not None:
            self._users = self.step = int(self._data.start_step.numpy())

    def seek(self, step: int | None) -> bool:
        """Begin at `step`, and return whether that can be done."""
        if self._data is None or step is None:
            return False
        self._data.start_step.assign(step)
        self.step = step
        return True

    def advance(self, steps: int) -> None:
        """Note that so many batches were taken."""
        if self.step is not None:
            self.step += steps

    def give_back(self) -> None:
        """Put the beginning where the user had it."""
        if self._users is not None:
            self._data.start_step.assign(self._users)
            self._users = None
