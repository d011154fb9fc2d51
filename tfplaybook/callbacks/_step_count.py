"""The number by which a checkpoint of a run is known."""

import keras

from tfplaybook import _keras, _keras_state


class StepCount:
    """Counts the steps of a run, one way for all of it, and never backwards.

    By the updates of the compiled optimizer; by batches when a custom train step keeps optimizers
    of its own, since the counter of the compiled one then need not move.

    Args:
        model: The model that is trained.
        start: The step that the run goes on from.

    Attributes:
        step: The step of the last whole epoch.
    """

    def __init__(self, model: keras.Model, start: int = 0):
        self.step = start
        self._counts_batches = _keras_state.keeps_other_optimizers(model)

    def end_epoch(self, model: keras.Model, batches: int) -> int:
        """Return the step after an epoch of so many batches.

        An epoch without an update takes the place of the one before; and a counter that somebody
        has set back must not make an older checkpoint the latest.
        """
        if self._counts_batches:
            self.step += batches
        else:
            self.step = max(self.step, _keras.count_updates(model))
        return self.step
