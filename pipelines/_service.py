"""The tf.data service: started so that it survives a restart, used with stated guarantees."""

import os
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal

import tensorflow as tf

from pipelines._checks import check_count
from pipelines._dataset import Pipeline

_PROBE_SECONDS = 5
_POLICIES = {
    "at_most_once": tf.data.experimental.service.ShardingPolicy.DYNAMIC,
    "every_worker_all": tf.data.experimental.service.ShardingPolicy.OFF,
}


class Service:
    """Servers of the tf.data service in this process.

    `serve` and `serve_workers` make it; its constructor is not for users. It is a context manager
    that stops the servers.

    Args:
        address: The dispatcher.
        servers: The servers, in the order in which they are stopped.
    """

    def __init__(self, address: str, servers: Sequence[Any]) -> None:
        self._address = address
        self._servers = servers

    @property
    def address(self) -> str:
        """The dispatcher as "host:port", for `through_service`."""
        return self._address

    def stop(self) -> None:
        """Stop the workers, then the dispatcher if it is one of this process."""
        for server in self._servers:
            server._stop()  # there is no public way

    def __enter__(self) -> "Service":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def serve(work_dir: str | os.PathLike[str], *, port: int = 0, workers: int = 1) -> Service:
    """Start a dispatcher and workers of the tf.data service in this process.

    The dispatcher keeps a journal in `work_dir`. Started again with the same `work_dir` and
    `port`, it goes on with the datasets and jobs that it had.

    Warning: Who can reach it
        TensorFlow's servers listen on all interfaces of the machine, without authentication, and
        run the graphs that they are sent. Start them only where a firewall keeps others out.

    Args:
        work_dir: Folder of the journal; made if it is not there.
        port: Port of the dispatcher in [0, 65535]; 0 takes a free one.
        workers: Workers in this process, at least 0.

    Returns:
        The running service; stop it with `stop()`, or use it in a `with` statement.

    Raises:
        ValueError: If `port` or `workers` is out of range.

    The playbook's I9 (tf.data service).
    """
    port = check_count("port", port, minimum=0, maximum=65_535)
    workers = check_count("workers", workers, minimum=0)
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer(
        service.DispatcherConfig(port=port, work_dir=os.fspath(work_dir), fault_tolerant_mode=True)
    )
    address = dispatcher.target.partition("://")[2]
    return Service(address, [*_start_workers(address, workers, "localhost"), dispatcher])


def serve_workers(
    dispatcher: str, *, workers: int = 1, host: str = "localhost", port: int = 0
) -> Service:
    """Start workers of the tf.data service in this process, for a dispatcher in another.

    Consumers wait for a worker that is lost: start it again with the same `host` and `port`. See
    the warning at `serve`.

    Args:
        dispatcher: The dispatcher, "host:port".
        workers: Workers in this process, at least 1.
        host: Name by which consumers reach this machine.
        port: Port of the worker in [0, 65535]; 0 takes a free one, and several workers need 0.

    Returns:
        The running workers; stop them with `stop()`, or use them in a `with` statement.

    Raises:
        ValueError: If an argument is not as described.
        ConnectionError: At once, if nothing listens at `dispatcher`.

    The playbook's I9 (tf.data service).
    """
    workers = check_count("workers", workers, minimum=1)
    port = check_count("port", port, minimum=0, maximum=65_535)
    if port and workers > 1:
        raise ValueError(
            f"`port` must be 0 with several workers: one port serves one. Received: port={port} "
            f"and workers={workers}."
        )
    _check_address(dispatcher)
    return Service(dispatcher, _start_workers(dispatcher, workers, host, port))


def _start_workers(dispatcher: str, count: int, host: str, port: int = 0) -> list[Any]:
    service = tf.data.experimental.service
    config = service.WorkerConfig(
        dispatcher_address=dispatcher, worker_address=f"{host}:%port%", port=port
    )
    return [service.WorkerServer(config) for _ in range(count)]


def through_service(
    dataset: tf.data.Dataset,
    address: str,
    *,
    mode: Literal["at_most_once", "every_worker_all"],
) -> tf.data.Dataset:
    """Return the elements of `dataset`, computed by the workers of a tf.data service.

    Their order is that in which workers deliver: it is not repeatable, there is no seeking, and
    the iterator cannot be saved.

    Args:
        dataset: A dataset of examples or batches. A finished pipeline is refused: its order and
            its padding hold within one process only. Batch, shuffle and pad after the service.
        address: The dispatcher, "host:port".
        mode: What is guaranteed.

            - "at_most_once": the workers share the elements of the dataset's source out among
              them. Each element comes once in a pass; if a worker is lost, those that it had are
              missing.
            - "every_worker_all": each worker gives the whole dataset, so that with W workers each
              element comes W times in a pass; a worker that is restarted begins again.

            In both, a pass that loses a worker waits for it: start it again with the `host` and
            `port` that it had.

    Raises:
        ValueError: If an argument is not as described.
        ConnectionError: At once, if nothing listens at `address`; TensorFlow would retry for long.

    The playbook's I9 (tf.data service).
    """
    if not isinstance(dataset, tf.data.Dataset) or isinstance(dataset, Pipeline):
        raise ValueError(
            "`dataset` must be a plain tf.data.Dataset: the order and the padding of a finished "
            "pipeline hold within one process only. Send the costly part through the service, then "
            f"batch, shuffle and pad. Received a {type(dataset).__name__}."
        )
    if mode not in _POLICIES:
        raise ValueError(f"`mode` must be one of {list(_POLICIES)}. Received: {mode!r}.")
    _check_address(address)
    distribute: Any = tf.data.experimental.service.distribute(_POLICIES[mode], f"grpc://{address}")
    return dataset.apply(distribute)


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise ValueError(f"`address` must be 'host:port', without a scheme. Received: {address!r}.")
    try:
        socket.create_connection((host, int(port)), timeout=_PROBE_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(
            f"No tf.data service answers at {address}: {error}. Start one with "
            "`pipelines.serve`, or correct `address`."
        ) from error
