"""How often `pipelines.profile` is right, on random pipelines whose truth is found by ablation.

    python benchmarks/bench_profiler.py              # 100 held-out pipelines, 20 minutes
    python benchmarks/bench_profiler.py --quick      # 6 pipelines, a minute
    python benchmarks/bench_profiler.py --tuning     # other seeds, on which changes may be judged
    python benchmarks/bench_profiler.py --save profiler.jsonl --minutes 3    # a part of it
    python benchmarks/bench_profiler.py --write docs/how-to/profiling-accuracy.md

With `--save` the results are kept in a file, and the next run goes on where the last one ended; so
a machine that is quiet for minutes only can be used again and again.

`planted_pipelines.py` draws the pipelines. The truth: each work is taken out in turn, and the stage
whose absence makes the pipeline fastest is the bottleneck. Stages within 10% of the best absence
count as right too, since two of them can share a thread, the pool or the cores. A pipeline that no
absence makes faster by 10% has no single bottleneck and is counted apart.

The error of the rate is that of the model's prediction; that of the gain is of the best remedy's
prediction over what it brings when it is applied, in turns with the pipeline as it was. A
pipeline during which other programs use more than 8% of the cores is judged again later. What
profiling costs is measured by `bench_profiler_cost.py`.
"""

import argparse
import dataclasses
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from planted_pipelines import draw

from pipelines import _optimize
from pipelines._measurement import busy_seconds, count_cores, make_dataset
from pipelines._profile import profile_dataset

_HELD_OUT, _TUNING = 1_000_000, 0
_ALIKE = 0.9
_FASTER = 1.1
_TURNS = 2
_SECONDS = 0.8
_TRIES = 3
_QUIET = 0.08

_PAGE = """# How often the profiler is right

`python benchmarks/bench_profiler.py --write docs/how-to/profiling-accuracy.md` wrote this page, on
a machine with {cores} cores. It made {count} random pipelines, on which no change of the profiler
was judged. The true bottleneck is the work whose absence makes the pipeline fastest; one within 10%
of that counts as right too, and a pipeline that no absence makes faster by 10% has no single
bottleneck. The gain of a remedy is measured by applying the one that the profile thinks best.

| | found | goal |
|---|--:|---|
{rows}

The pipelines wait and multiply matrices; real ones may be harder. Two cases are known to be:
datasets of an `interleave` that are slow to open and end together, so that they are opened in
bursts; and short Python functions, which keep Python's lock for a part of their time.
"""


@dataclasses.dataclass(frozen=True)
class Result:
    """What was found about one pipeline.

    Args:
        seed: Of the pipeline.
        named: The stage and the kind that the profile names; empty where it does not know.
        truth: The works whose absence helps most.
        right: Whether the stage that is named is one of them.
        single: Whether the absence of one work makes the pipeline faster by 10%.
        rate: Elements per second, observed by the profile.
        model_rate: Those that its model predicts.
        remedy: The remedy that it thinks best; empty without one, or where it cannot be applied.
        predicted_gain: What the remedy brings, as predicted.
        gain: What it brings, as measured.
        others_use: Share of the cores that other programs kept busy meanwhile.
    """

    seed: int
    named: str
    truth: list[str]
    right: bool
    single: bool
    rate: float
    model_rate: float
    remedy: str
    predicted_gain: float
    gain: float
    others_use: float

    @property
    def rate_error(self) -> float:
        """Error of the model's rate, as a share of the observed one."""
        return abs(self.model_rate - self.rate) / self.rate

    @property
    def gain_error(self) -> float:
        """Error of the predicted gain, as a share of the measured one."""
        return abs(self.predicted_gain - self.gain) / self.gain


def judge(seed: int, seconds: float) -> Result:
    """Compare the profile of a random pipeline with its truth."""
    busy, own, start = busy_seconds(), time.process_time(), time.perf_counter()
    spec = draw(seed)
    dataset, sites = make_dataset(spec.build)
    found = profile_dataset(dataset, sites, seconds=seconds)
    remedy, gain, rates = "", 1.0, []
    if found.remedies:
        try:
            changed = _optimize.apply(dataset, found, found.remedies[0], sites)
        except ValueError:
            changed = None
        if changed is not None:
            after = []
            for _ in range(_TURNS):
                rates.append(_optimize.measure_rate(dataset, seconds))
                after.append(_optimize.measure_rate(changed, seconds))
            gain = statistics.fmean(after) / statistics.fmean(rates)
            remedy = found.remedies[0].text
    rate = statistics.fmean(rates or [_optimize.measure_rate(dataset, seconds)])
    without = [
        _optimize.measure_rate(spec.build(number), seconds) for number in range(len(spec.stages))
    ]
    truth = [f"work_{n}" for n, each in enumerate(without) if each >= _ALIKE * max(without)]
    named = found.bottleneck and found.bottleneck.stage
    others = 0.0
    if busy is not None:
        others = (busy_seconds() - busy - (time.process_time() - own)) / count_cores()
    # A stage of nested datasets is named by the interleave that reads them.
    label = "" if not named else named.name if named.link is None else named.link.label
    return Result(
        seed=seed,
        named="" if found.bottleneck is None else f"{label}: {found.bottleneck.kind}",
        truth=truth,
        right=any(name in label for name in truth),
        single=max(without) > _FASTER * rate,
        rate=found.rate,
        model_rate=found.model_rate,
        remedy=remedy,
        predicted_gain=found.predicted_gain,
        gain=gain,
        others_use=max(0.0, others / (time.perf_counter() - start)),
    )


def measure(seeds: Sequence[int], saved: Path | None, minutes: float) -> list[Result]:
    """Return the results in `saved`, and those of other seeds as far as there is time.

    A pipeline that other programs have disturbed is judged again after all others.
    """
    start = time.monotonic()
    found: dict[int, Result] = {}
    if saved is not None and saved.exists():
        for line in saved.read_text().splitlines():
            _keep(Result(**json.loads(line)), found)
    for _ in range(_TRIES):
        for seed in seeds:
            if seed in found and found[seed].others_use <= _QUIET:
                continue
            if time.monotonic() - start >= 60.0 * minutes:
                break
            result = judge(seed, _SECONDS)
            print(result, flush=True)
            _keep(result, found)
            if saved is not None:
                with saved.open("a") as file:
                    file.write(json.dumps(dataclasses.asdict(result)) + "\n")
    return [found[seed] for seed in seeds if seed in found]


def _keep(result: Result, found: dict[int, Result]) -> None:
    """Keep the result of a pipeline that is least disturbed."""
    before = found.get(result.seed)
    if before is None or result.others_use < before.others_use:
        found[result.seed] = result


def summary(results: Sequence[Result]) -> list[tuple[str, str, str]]:
    """Return rows of (what, found, goal)."""
    known = [result for result in results if result.named]
    single = [result for result in known if result.single]
    right = sum(result.right for result in single)
    share = f" ({right / len(single):.0%})" if single else ""
    gains = [result.gain_error for result in known if result.remedy]
    rates = [result.rate_error for result in known]
    return [
        ("does not know", f"{len(results) - len(known)} of {len(results)}", "at most 10%"),
        ("bottleneck right", f"{right} of {len(single)}{share}", "at least 95%"),
        ("no single bottleneck", f"{len(known) - len(single)} of {len(known)}", ""),
        ("error of the rate, median", _quantile(rates, 0.5), "at most 10%"),
        ("error of the rate, 90% of the pipelines", _quantile(rates, 0.9), "at most 20%"),
        ("error of the predicted gain, median", _quantile(gains, 0.5), "at most 15%"),
        ("error of the predicted gain, 90% of the pipelines", _quantile(gains, 0.9), ""),
        ("remedies that were applied", f"{len(gains)}", ""),
        ("disturbed by other programs", f"{sum(r.others_use > _QUIET for r in results)}", ""),
    ]


def _quantile(values: Sequence[float], level: float) -> str:
    ordered = sorted(values)
    return f"{ordered[round(level * (len(ordered) - 1))]:.0%}" if ordered else "-"


def write_page(path: Path, results: Sequence[Result]) -> None:
    """Write the summary as a page of the documentation."""
    rows = [f"| {what} | {found} | {goal} |" for what, found, goal in summary(results)]
    path.write_text(
        _PAGE.format(count=len(results), cores=count_cores(), rows="\n".join(rows)),
        encoding="utf-8",
    )


def main() -> None:
    """Run the benchmark, or a part of it, and print what is known so far."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="6 pipelines")
    parser.add_argument("--tuning", action="store_true", help="seeds that changes are judged on")
    parser.add_argument("--pipelines", type=int, help="how many; default 100, quick 6")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep results, and go on from it")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="begin none after so many"
    )
    parser.add_argument("--write", type=Path, metavar="PAGE", help="also write a Markdown page")
    options = parser.parse_args()
    count = options.pipelines or (6 if options.quick else 100)
    first = _TUNING if options.tuning else _HELD_OUT
    seeds = range(first, first + count)
    results = measure(seeds, options.save, options.minutes)
    print(f"\n{len(results)} of {count} {'tuning' if options.tuning else 'held-out'} pipelines")
    for what, found, goal in summary(results):
        print(f"{what:<50} {found:>16}   {goal and f'goal: {goal}'}")
    if options.write:
        write_page(options.write, results)


if __name__ == "__main__":
    main()
