"""One line per trial on the terminal."""

from tfplaybook._keras_tuner import Trial, TrialStatus
from tfplaybook.search._oracle import QuasiRandomOracle
from tfplaybook.search._outcome import has_failed, is_infeasible
from tfplaybook.search._trial_files import reason


def progress_line(oracle: QuasiRandomOracle, trial: Trial) -> str:
    """Return what a reader of the terminal wants to know after `trial`."""
    done = f"[{oracle.num_points - oracle.remaining_trials()}/{oracle.num_points}]"
    parts = [f"{done} trial {trial.trial_id}", _outcome(oracle, trial)]
    best = oracle.get_best_trials(1)
    if best:
        parts.append(f"best {best[0].score:.4g} (trial {best[0].trial_id})")
    ended = [t for t in oracle.trials.values() if t.status == TrialStatus.FAILED]
    parts.append(f"{sum(map(is_infeasible, ended))} infeasible")
    if failed := sum(map(has_failed, ended)):
        parts.append(f"{failed} failed")
    return "  ".join(parts)


def _outcome(oracle: QuasiRandomOracle, trial: Trial) -> str:
    if trial.status == TrialStatus.COMPLETED:
        return f"{oracle.objective.name} {trial.score:.4g}"
    if is_infeasible(trial):
        return str(trial.message)
    return f"failed: {reason(trial.message or 'no message')}"
