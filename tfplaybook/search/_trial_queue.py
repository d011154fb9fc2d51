"""`TrialQueue`: which trial a search runs next."""

import collections
from collections.abc import Iterable


class TrialQueue:
    """Interrupted trials first, then new ones, and last those that are to be run again.

    Trials that fail each time so do not keep a search from the others.

    Args:
        begun: The ids of all trials that have begun.
        interrupted: Those among them that have not ended, and are to be run now.
    """

    def __init__(self, begun: Iterable[str] = (), interrupted: Iterable[str] = ()):
        self._used = set(map(int, begun))
        self._next = 0
        self._interrupted = collections.deque(interrupted)
        self._again: collections.deque[str] = collections.deque()
        self._retries: collections.Counter[str] = collections.Counter()

    def take_interrupted(self) -> str | None:
        """Return a trial that has begun and not ended."""
        return self._interrupted.popleft() if self._interrupted else None

    def put_back(self, trial_id: str) -> None:
        """Have a trial whose worker is lost run next."""
        self._interrupted.append(trial_id)

    def take_back(self, trial_id: str) -> bool:
        """Take a trial that was put back and is not handed out yet; return whether it was there."""
        if trial_id in self._interrupted:
            self._interrupted.remove(trial_id)
            return True
        return False

    def take_new(self, num_points: int) -> str | None:
        """Return a trial that has not begun, while there are fewer than `num_points`."""
        # By index and not by count: a trial whose folder was deleted leaves a hole, filled here.
        while self._next in self._used:
            self._next += 1
        if self._next >= num_points:
            return None
        self._used.add(self._next)
        return f"{self._next:04d}"

    def give_back(self, trial_id: str) -> None:
        """Undo `take_new`."""
        self._used.discard(int(trial_id))
        self._next = min(self._next, int(trial_id))

    def take_again(self) -> str | None:
        """Return a trial that has failed and is to be run again."""
        return self._again.popleft() if self._again else None

    def first_free(self, reserved: Iterable[str]) -> int:
        """Return the number after those of all trials that have begun or are `reserved`."""
        return max(self._used | set(map(int, reserved)), default=-1) + 1

    def run_again(self, trial_ids: Iterable[str]) -> None:
        """Have these trials run once more, with as many retries as new ones."""
        self._again = collections.deque(trial_ids)
        self._retries.clear()

    def retry(self, trial_id: str, *, at_most: int) -> None:
        """Have a trial run once more, unless that was done `at_most` times."""
        if self._retries[trial_id] < at_most:
            self._retries[trial_id] += 1
            self._again.append(trial_id)

    def is_to_run_again(self, trial_id: str) -> bool:
        """Return whether the trial waits to be run again."""
        return trial_id in self._again
