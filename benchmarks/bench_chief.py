"""How many workers one chief can serve.

Run `python benchmarks/bench_chief.py` (minutes) or `... --quick`.

Workers are threads of another process and call the chief over real RPC as fast as they can: their
trials take no time. So the table says at how many trials per second a chief saturates, and how long
a call then takes. The chief shares the processors with the threads of the workers. For a trial it
writes three small files, each flushed to the disk.
"""

import argparse
import multiprocessing
import os
import socket
import tempfile
import threading
import time

import keras_tuner as kt
import numpy as np
from rich.console import Console
from rich.table import Table

from tfplaybook import _keras_tuner_rpc
from tfplaybook.search import QuasiRandomOracle


def make_oracle(directory: str, trials: int) -> QuasiRandomOracle:
    """Return the oracle of a search over six hyperparameters."""
    space = kt.HyperParameters()
    for number in range(6):
        space.Float(f"x{number}", 1e-4, 1.0, sampling="log")
    oracle = QuasiRandomOracle("val_loss", trials, hyperparameters=space)
    oracle.verbose = 0
    # What every `keras_tuner.Tuner` does with its oracle.
    oracle._set_project_dir(directory, "study")
    return oracle


def work(address: str, directory: str, workers: int, trials: int, results: str) -> None:
    """Be all workers: run trials until there are none, and write down how long each call took."""
    latencies: dict[str, list[float]] = {"create": [], "update": [], "end": [], "beat": []}

    def timed(name: str, call, *arguments):
        start = time.perf_counter()
        result = call(*arguments)
        latencies[name].append(time.perf_counter() - start)
        return result

    def one_worker(number: int) -> None:
        client = _keras_tuner_rpc.WorkerClient(
            make_oracle(directory, trials),
            tuner_id=f"worker{number}",
            address=address,
            has_ended=lambda: False,
        )
        while True:
            trial = timed("create", client.create_trial, client.tuner_id)
            if trial.status != "RUNNING":
                break
            timed("beat", client.get_trial, trial.trial_id)
            timed("update", client.update_trial, trial.trial_id, {"val_loss": 1.0})
            trial.status = "COMPLETED"
            timed("end", client.end_trial, trial)
        client.close()

    threads = [threading.Thread(target=one_worker, args=(n,)) for n in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.savez(results, **latencies)


def measure(workers: int, trials: int) -> tuple[float, float, dict[str, np.ndarray]]:
    """Return trials per second, the chief's processor seconds per trial, and all latencies."""
    with tempfile.TemporaryDirectory() as directory:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        oracle = make_oracle(directory, trials)
        oracle.use_leases()
        oracle.begin()
        server = _keras_tuner_rpc.start_server(oracle, address)
        results = os.path.join(directory, "latencies.npz")
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=work, args=(address, directory, workers, trials, results))
        process.start()
        while not oracle.trials:
            oracle.wait_for_news(0.05)
        begun, processor = time.perf_counter(), time.process_time()
        while not oracle.wait_for_news(0.2):
            pass
        seconds = time.perf_counter() - begun
        used = time.process_time() - processor
        process.join()
        server.stop(None).wait()
        with np.load(results) as latencies:
            return trials / seconds, used / trials, dict(latencies)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer trials and sizes")
    quick = parser.parse_args().quick
    table = Table(
        "workers",
        "trials",
        "trials per second",
        "chief's CPU per trial",
        "p50 of a call",
        "p99 of a call",
        "p99 of a sign of life",
        title="One chief, trials of no length",
    )
    for workers in (1, 100, 1000) if quick else (1, 10, 100, 300, 1000):
        trials = max(500 if quick else 2000, workers)
        rate, used, latencies = measure(workers, trials)
        calls = np.concatenate([latencies[name] for name in ("create", "update", "end")])
        table.add_row(
            str(workers),
            str(trials),
            f"{rate:.0f}",
            f"{1e3 * used:.1f} ms",
            f"{1e3 * np.percentile(calls, 50):.0f} ms",
            f"{1e3 * np.percentile(calls, 99):.0f} ms",
            f"{1e3 * np.percentile(latencies['beat'], 99):.0f} ms",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
