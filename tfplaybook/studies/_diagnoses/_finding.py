"""The common shape of every diagnosis."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

Verdict = Literal["ok", "act", "unknown"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """The answer of one diagnosis, with its evidence.

    Args:
        name: The function that found it, such as `"search_space_boundary"`.
        source: The lines of the playbook that ask the question, such as `"D1"`.
        verdict: `"act"` if there is something to do, `"ok"` if not, `"unknown"` if the study
            cannot tell.
        evidence: A sentence with the measured numbers; of an `"unknown"` the reason.
        remedy: What to do; empty if there is nothing to do.
        numbers: What was measured, by name.
        thresholds: The options that the numbers were held against, by name.
        trials: Ids of the trials that the finding is about, the most important first.
    """

    name: str
    source: str
    verdict: Verdict
    evidence: str
    remedy: str = ""
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    thresholds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    trials: tuple[str, ...] = ()

    def __str__(self) -> str:
        remedy = f" {self.remedy}" if self.remedy else ""
        return f"{self.evidence} ({self.source}){remedy and ':' + remedy}"


def count_of(count: int, noun: str) -> str:
    """Write a number of things.

    >>> count_of(1, "trial"), count_of(3, "trial")
    ('1 trial', '3 trials')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def best_trials(count: int) -> str:
    """Write that the `count` best trials are meant, as the subject of a sentence.

    >>> best_trials(1), best_trials(3)
    ('the best trial', 'the best 3 trials')
    """
    return "the best trial" if count == 1 else f"the best {count} trials"


def naming(ids: tuple[str, ...] | list[str]) -> str:
    """Write which trials: all of a few, else the first three and how many more.

    >>> naming(["0003"]), naming(["0003", "0001"]), naming(["1", "2", "3", "4", "5"])
    ('trial 0003', 'trials 0003 and 0001', 'trials 1, 2, 3 and 2 more')
    """
    shown = list(ids[:3])
    if len(ids) > len(shown):
        shown.append(f"{len(ids) - len(shown)} more")
    text = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
    return f"trial{'' if len(ids) == 1 else 's'} {text}"
