"""The private parts of KerasTuner's chief and workers: its RPC service and the client of it.

Checked on keras-tuner 1.4.8; `tests/search/test_keras_tuner.py` fails with the name of the part
when a version has lost one. A module of its own, since only a search of many processes needs gRPC.

KerasTuner's messages have no place for the worker that sends them, for the reason why a trial
failed, or for more than 24 bits of a metric. They travel beside them, as metadata of the call.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any

import grpc
import keras_tuner as kt
from keras_tuner.src import protos
from keras_tuner.src.distribute import oracle_chief, oracle_client

from tfplaybook._keras_tuner import Trial, TrialStatus, project_directory

PRIVATE_PARTS: tuple[tuple[Any, str], ...] = (
    *((oracle_chief.OracleServicer, f"{call}Trial") for call in ("Create", "Update", "End", "Get")),
    *((oracle_client.OracleClient, f"{call}_trial") for call in ("create", "update", "end", "get")),
    (oracle_client.OracleClient, "__getattr__"),
    (oracle_client, "TIMEOUT"),
    (protos, "get_service"),
    (protos, "get_service_grpc"),
    (Trial, "to_proto"),
    (Trial, "from_proto"),
)

_BESIDE = "tfplaybook-bin"
_LONGEST_MESSAGE = 20_000
# By default gRPC refuses more than 8 KiB.
_METADATA_BYTES = 1 << 20
_CHIEF_THREADS = 16
_CALL_SECONDS = 30.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 2.0
_IDLE_SECONDS = 0.5
_BEATS_PER_LEASE = 4
_TO_REPEAT = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)
_OF_THE_ORACLE = (
    "divergence_threshold",
    "executions_per_trial",
    "seed",
    "start_index",
    "_project_dir",
)


class SearchEndedError(kt.errors.FatalRuntimeError):
    """The search is over, and the chief has left."""


class ChiefLostError(kt.errors.FatalRuntimeError):
    """No chief has answered for too long, or it has refused a call."""


class Servicer(oracle_chief.OracleServicer):
    """KerasTuner's service, which knows which worker calls.

    An answer is made while nobody else changes the trial that is in it.
    """

    def CreateTrial(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Hand out a trial."""
        with self.oracle.lock:
            return super().CreateTrial(request, context)

    def UpdateTrial(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Record the metrics, with all of their digits."""
        beside = _beside(context)
        metrics = beside.get("metrics", request.metrics)
        with self.oracle.lock:
            trial = self.oracle.update_trial(
                request.trial_id, metrics, step=request.step, tuner_id=beside.get("tuner_id")
            )
            return protos.get_service().UpdateTrialResponse(trial=trial.to_proto())

    def EndTrial(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Record how a trial ended, and why."""
        beside = _beside(context)
        trial = Trial.from_proto(request.trial)
        # Those of the message are in another order, and have values that are none of the trial's.
        trial.hyperparameters = self.oracle.get_trial(trial.trial_id).hyperparameters
        trial.message = beside.get("message")
        self.oracle.end_trial(trial, tuner_id=beside.get("tuner_id"))
        return protos.get_service().EndTrialResponse()

    def GetTrial(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return a trial, as STOPPED to a worker that it was taken from."""
        tuner_id = _beside(context).get("tuner_id")
        with self.oracle.lock:
            answer = super().GetTrial(request, context)
            if tuner_id is not None and not self.oracle.hold(request.trial_id, tuner_id):
                answer.trial.status = TrialStatus.to_proto(TrialStatus.STOPPED)
            return answer


class _OneSearch(grpc.ServerInterceptor):
    """Lets a worker of another search wait: a script may make one search after the other.

    To it this chief is as good as none, until that of its own search has the port.
    """

    def __init__(self, oracle: kt.Oracle):
        self._oracle = oracle

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        own = project_directory(self._oracle).name
        project = _content(handler_call_details.invocation_metadata).get("project", own)
        if project == own:
            return continuation(handler_call_details)

        def refuse(request: Any, context: Any) -> None:
            context.abort(grpc.StatusCode.UNAVAILABLE, f"The chief there is that of {own!r}.")

        return grpc.unary_unary_rpc_method_handler(refuse)


def start_server(oracle: kt.Oracle, address: str) -> Any:
    """Start to answer the workers of a search and return the `grpc.Server`.

    Raises:
        RuntimeError: The address is taken, or none of this machine.
    """
    # Two chiefs on one port would share the calls between them.
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=_CHIEF_THREADS),
        interceptors=[_OneSearch(oracle)],
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_metadata_size", _METADATA_BYTES),
            ("grpc.absolute_max_metadata_size", _METADATA_BYTES),
        ],
    )
    protos.get_service_grpc().add_OracleServicer_to_server(Servicer(oracle), server)
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise RuntimeError(
            f"The chief cannot listen at {address}: the port is taken, by another chief perhaps, "
            "or the address is none of this machine. Set KERASTUNER_ORACLE_IP and "
            "KERASTUNER_ORACLE_PORT."
        ) from error
    server.start()
    return server


class WorkerClient(oracle_client.OracleClient):
    """What a worker has for an oracle: it asks the chief, and waits for one that starts again.

    Every call may be repeated, since the chief ignores what it knows already. While the worker has
    a trial, a thread says so several times in a lease.

    Args:
        oracle: The worker's own oracle, for the space and the files.
        tuner_id: Name of the worker; no other has it.
        address: Where the chief is.
        has_ended: Says, while no chief answers, whether the search is over.
        patience_seconds: How long to wait for a chief.
    """

    def __init__(
        self,
        oracle: Any,
        *,
        tuner_id: str,
        address: str,
        has_ended: Callable[[], bool],
        patience_seconds: float = 600.0,
    ):
        self._oracle = oracle
        self.tuner_id = tuner_id
        self.address = address
        # For KerasTuner, which has tuners of several processes.
        self.multi_worker, self.should_report = False, True
        self._has_ended = has_ended
        self._patience_seconds = patience_seconds
        # By default gRPC waits for up to two minutes between attempts.
        options = [
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            # A proxy of the environment is for the world outside.
            ("grpc.enable_http_proxy", 0),
        ]
        self._channel = grpc.insecure_channel(address, options=options)
        self.stub = protos.get_service_grpc().OracleStub(self._channel)
        self._closed = threading.Event()
        self._heart: _Heart | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._oracle, name) if name in _OF_THE_ORACLE else super().__getattr__(name)

    def join(self) -> None:
        """Wait for the chief, and take over the study that it has written.

        Raises:
            ValueError: It is not the study of this worker.
        """
        self._call("GetSpace", protos.get_service().GetSpaceRequest())
        self._oracle.join()

    def get_space(self) -> kt.HyperParameters:
        """Return the space, which is also the chief's."""
        return self._oracle.get_space()

    def update_space(self, hyperparameters: kt.HyperParameters, found_in: str = "a trial") -> None:
        """Refuse hyperparameters that come too late."""
        self._oracle.update_space(hyperparameters, found_in=found_in)

    def create_trial(self, tuner_id: str) -> Trial:
        """Return the next trial, when there is one or will be none."""
        request = protos.get_service().CreateTrialRequest(tuner_id=tuner_id)
        trial = Trial.from_proto(self._call("CreateTrial", request).trial)
        while trial.status == TrialStatus.IDLE:
            self._closed.wait(_IDLE_SECONDS)
            trial = Trial.from_proto(self._call("CreateTrial", request).trial)
        if trial.status == TrialStatus.RUNNING:
            trial.hyperparameters = self._in_own_space(trial.hyperparameters.values)
            self._heart = _Heart(self, trial.trial_id)
        return trial

    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> Trial:
        """Report the metrics of a trial."""
        metrics = {name: float(value) for name, value in metrics.items()}
        request = protos.get_service().UpdateTrialRequest(
            trial_id=trial_id, metrics=metrics, step=step
        )
        return Trial.from_proto(self._call("UpdateTrial", request, metrics=metrics).trial)

    def end_trial(self, trial: Trial) -> None:
        """Report how a trial ended, and why."""
        found_in = f"`fit` of trial {trial.trial_id}"
        self.update_space(trial.hyperparameters, found_in=found_in)
        request = protos.get_service().EndTrialRequest(trial=trial.to_proto())
        message = None if trial.message is None else trial.message[-_LONGEST_MESSAGE:]
        self._call("EndTrial", request, message=message)
        self._stop_heart()

    def get_trial(self, trial_id: str) -> Trial:
        """Return what the chief knows of a trial."""
        request = protos.get_service().GetTrialRequest(trial_id=trial_id)
        return Trial.from_proto(self._call("GetTrial", request).trial)

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """Return the best trials on disk, when the chief has left too."""
        return self._oracle.best_on_disk(num_trials)

    def remaining_trials(self) -> int:
        """Return how many trials have no outcome on disk."""
        return self._oracle.remaining_on_disk()

    def has_lost_trial(self) -> bool:
        """Return whether the chief has given the trial of this worker to another."""
        return self._heart is not None and self._heart.is_lost.is_set()

    def close(self) -> None:
        """Stop saying that this worker is alive."""
        self._stop_heart()
        self._closed.set()
        self._channel.close()

    def _in_own_space(self, values: Mapping[str, Any]) -> kt.HyperParameters:
        space = self.get_space()
        space.values = {}
        for hyperparameter in space.space:
            name = hyperparameter.name
            if name in values and space.is_active(hyperparameter):
                space.values[name] = values[name]
        return space

    def _stop_heart(self) -> None:
        if self._heart is not None:
            self._heart.stop()
            self._heart = None

    def _call(self, name: str, request: Any, **beside: Any) -> Any:
        project = project_directory(self._oracle).name
        content = json.dumps({"tuner_id": self.tuner_id, "project": project, **beside}).encode()
        deadline = time.monotonic() + self._patience_seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return getattr(self.stub, name)(
                    request, timeout=_CALL_SECONDS, metadata=((_BESIDE, content),)
                )
            except grpc.RpcError as error:
                if error.code() not in _TO_REPEAT:
                    raise ChiefLostError(
                        f"The chief at {self.address} refused {name}: {error.details()}"
                    ) from error
                if self._has_ended():
                    raise SearchEndedError("The search is over.") from None
                if time.monotonic() > deadline:
                    raise ChiefLostError(
                        f"No chief has answered at {self.address} for "
                        f"{self._patience_seconds:g} seconds ({error.details()}). Start it, or set "
                        "KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT to where it is."
                    ) from error
            self._closed.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


class _Heart:
    """A thread that tells the chief that the worker of a trial is alive."""

    def __init__(self, client: WorkerClient, trial_id: str):
        self.is_lost = threading.Event()
        self._client, self._trial_id = client, trial_id
        self._stopped = threading.Event()
        self._seconds = client._oracle.lease_seconds / _BEATS_PER_LEASE
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _beat(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                trial = self._client.get_trial(self._trial_id)
            except (SearchEndedError, ChiefLostError, ValueError):
                # The worker's own next call meets the same; a closed channel is a ValueError.
                return
            if trial.status != TrialStatus.RUNNING and not self._stopped.is_set():
                self.is_lost.set()
                return


def _beside(context: Any) -> dict[str, Any]:
    """Return what a worker of ours has sent beside the message; nothing for one of KerasTuner."""
    return _content(context.invocation_metadata())


def _content(metadata: Any) -> dict[str, Any]:
    for name, value in metadata:
        if name == _BESIDE:
            return json.loads(value)
    return {}
