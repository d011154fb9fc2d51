"""A worker of a search of many processes: it runs the trials that the chief hands out."""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras

from tfplaybook import _keras_tuner
from tfplaybook.search._chief import read_marker
from tfplaybook.search._oracle import QuasiRandomOracle

if TYPE_CHECKING:
    from tfplaybook._keras_tuner_rpc import WorkerClient


class TrialLostError(Exception):
    """The chief has not heard of this worker for too long, and the trial is another's by now."""


class StopWhenLost(keras.callbacks.Callback):
    """End the training of a trial that was given to another worker.

    Args:
        client: The worker's client.
    """

    def __init__(self, client: "WorkerClient"):
        super().__init__()
        self._client = client

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Raise if the trial is lost; what the worker reports of it is ignored."""
        if self._client.has_lost_trial():
            raise TrialLostError


def worker_client(oracle: QuasiRandomOracle, *, overwrites: bool) -> "WorkerClient":
    """Return what a worker has in place of its oracle.

    Args:
        oracle: The oracle.
        overwrites: Whether the chief deletes the study that is there, which then says nothing.
    """
    from tfplaybook._keras_tuner_rpc import WorkerClient

    def has_ended() -> bool:
        marker = read_marker(_keras_tuner.project_directory(oracle))
        if marker.is_of_this_search:
            return marker.has_ended
        return not overwrites and not oracle.remaining_on_disk()

    return WorkerClient(
        oracle,
        tuner_id=_keras_tuner.tuner_id(),
        address=_keras_tuner.chief_address(),
        has_ended=has_ended,
    )


def work(client: "WorkerClient", search: Callable[[], None]) -> None:
    """Join the chief's search and run `search`; leave when the search is over.

    Raises:
        ValueError: The study on disk is not the one of this worker's script.
    """
    from tfplaybook._keras_tuner_rpc import SearchEndedError

    with contextlib.closing(client), contextlib.suppress(SearchEndedError):
        client.join()
        search()
