"""The chief of a search of many processes: it hands out the trials, and is the last to leave.

`search.json` in the project directory says which search its chief belongs to, by the environment
variable TFPLAYBOOK_SEARCH_ID, and whether it has left. So a chief that starts again within the
same search deletes nothing although its script says `overwrite=True`, and a worker that comes when
all is over does not wait.
"""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfplaybook import _keras_tuner
from tfplaybook._files import check_entries, read_json, replace_json
from tfplaybook._keras_tuner import Trial, TrialStatus
from tfplaybook.search._oracle import QuasiRandomOracle
from tfplaybook.search._outcome import has_failed, is_infeasible

SEARCH_ID = "TFPLAYBOOK_SEARCH_ID"
STATUS_FILE = "TFPLAYBOOK_STATUS_FILE"

_FILE_NAME = "search.json"
_LOOKS_PER_LEASE = 4
_GRACE_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class SearchMarker:
    """The content of `search.json`.

    Args:
        search_id: The search that the chief belonged to; empty if it was not told.
        has_ended: Whether it has left because the search was over.
    """

    search_id: str = ""
    has_ended: bool = False

    @property
    def is_of_this_search(self) -> bool:
        """Whether this process belongs to the same search."""
        return bool(self.search_id) and self.search_id == os.environ.get(SEARCH_ID)


def read_marker(directory: Path) -> SearchMarker:
    """Return what `search.json` says; nothing if there is none."""
    kinds = {"search_id": str, "has_ended": int}
    content = read_json(
        directory / _FILE_NAME,
        check=lambda content: check_entries(
            {**content, "has_ended": int(content.get("has_ended", 0))}, kinds
        ),
    )
    return SearchMarker(content["search_id"], content["has_ended"]) if content else SearchMarker()


def write_marker(directory: Path, *, has_ended: bool) -> None:
    """Write `search.json` for this process as the chief."""
    marker = SearchMarker(os.environ.get(SEARCH_ID, ""), has_ended)
    replace_json(directory / _FILE_NAME, dataclasses.asdict(marker))


def serve(oracle: QuasiRandomOracle, on_trial_end: Callable[[Trial], Any]) -> None:
    """Answer the workers until the search is over and all of them have left.

    Args:
        oracle: The oracle, whose study has begun and which uses leases.
        on_trial_end: Called with every trial that ends.
    """
    from tfplaybook import _keras_tuner_rpc

    directory = _keras_tuner.project_directory(oracle)
    write_marker(directory, has_ended=False)
    server = _keras_tuner_rpc.start_server(oracle, _keras_tuner.chief_address())
    shown = set(oracle.end_order)
    try:
        is_over = False
        while not is_over:
            write_status(oracle)
            is_over = oracle.wait_for_news(oracle.lease_seconds / _LOOKS_PER_LEASE)
            with oracle.lock:
                for trial_id in [i for i in oracle.end_order if i not in shown]:
                    on_trial_end(oracle.trials[trial_id])
                shown = set(oracle.end_order)
    finally:
        write_status(oracle)
        server.stop(_GRACE_SECONDS).wait()
    write_marker(directory, has_ended=True)


def write_status(oracle: QuasiRandomOracle) -> None:
    """Write how far the search is where the launcher wants to read it, if there is one."""
    path = os.environ.get(STATUS_FILE)
    if not path:
        return
    with oracle.lock:
        best = oracle.get_best_trials(1)
        ended = [trial for trial in oracle.trials.values() if trial.status == TrialStatus.FAILED]
        content = {
            "objective": oracle.objective.name,
            "trials": oracle.num_points,
            "done": oracle.num_points - oracle.remaining_trials(),
            "is_over": oracle.failure is not None,
            "running": len(oracle.ongoing_trials),
            "infeasible": sum(map(is_infeasible, ended)),
            "failed": sum(map(has_failed, ended)),
            "best": best[0].score if best else None,
            "best_trial": best[0].trial_id if best else None,
        }
    replace_json(Path(path), content)
