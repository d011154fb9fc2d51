"""What `import tfplaybook` costs over `import keras`: seconds, and the modules that it adds.

Each sample is a fresh process; the variants alternate, and `keras (again)` is an A/A control that
shows the noise of the machine. Run: python benchmarks/bench_import.py [--quick]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

from rich.console import Console
from rich.table import Table

VARIANTS = {
    "keras": "import keras",
    "keras (again)": "import keras",
    "tfplaybook": "import tfplaybook",
}
MEASURE = """
import json, sys, time
start = time.perf_counter()
{statement}
seconds = time.perf_counter() - start
print(json.dumps([seconds, sorted({{name.split(".")[0] for name in sys.modules}})]))
"""


AFTERWARDS = """
import json, time
start = time.perf_counter()
import keras
middle = time.perf_counter()
import tfplaybook
print(json.dumps([middle - start, time.perf_counter() - middle]))
"""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 processes a variant, not 15")
    repeats = 3 if parser.parse_args().quick else 15
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    modules: dict[str, set[str]] = {}
    for name in ["keras", *list(VARIANTS) * repeats]:
        taken, loaded = _measure(VARIANTS[name])
        seconds[name].append(taken)
        modules[name] = loaded
    del seconds["keras"][0]  # it warmed the disk cache

    base_minimum = min(seconds["keras"])
    base_median = statistics.median(seconds["keras"])
    table = Table(title=f"import time, {repeats} processes each, alternating")
    for header in ("", "minimum s", "ratio", "median s", "ratio"):
        table.add_column(header, justify="right" if header else "left")
    for name, values in seconds.items():
        minimum, median = min(values), statistics.median(values)
        table.add_row(
            name,
            f"{minimum:.3f}",
            f"{minimum / base_minimum:.3f}",
            f"{median:.3f}",
            f"{median / base_median:.3f}",
        )
    console = Console()
    console.print(table)
    shares = [own / base for base, own in (_run(AFTERWARDS) for _ in range(repeats))]
    console.print(
        "in one process, `import tfplaybook` after `import keras` takes "
        f"{statistics.median(shares):.2%} of its time (median; from {min(shares):.2%} to "
        f"{max(shares):.2%})"
    )
    added = sorted(modules["tfplaybook"] - modules["keras"])
    console.print(f"top-level modules that `import tfplaybook` adds to Keras': {added}")


def _measure(statement: str) -> tuple[float, set[str]]:
    taken, loaded = _run(MEASURE.format(statement=statement))
    return taken, set(loaded)


def _run(code: str) -> list:
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
