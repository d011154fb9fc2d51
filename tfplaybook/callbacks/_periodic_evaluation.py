"""`PeriodicEvaluation`: evaluates every so many updates, whatever an epoch is."""

import contextlib
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfplaybook import _keras, _keras_evaluation, _keras_state
from tfplaybook._arguments import check_count
from tfplaybook.callbacks._curve_log import CurveLog
from tfplaybook.callbacks._evaluation import Evaluation as Evaluation
from tfplaybook.callbacks._evaluation import pack, unpack
from tfplaybook.callbacks._evaluation_data import EvaluationData
from tfplaybook.callbacks._example_outputs import check_ids, count_correct, predict_examples
from tfplaybook.hosts import Host, current_host
from tfplaybook.runs._predictions import save_predictions


class PeriodicEvaluation(_keras.Callback):
    """Evaluate the model every so many optimizer updates, independent of epochs.

    Training is what it would be without: weights, training metrics, seeds and logs have the same
    bits. The metrics come as `val_loss`, ... into the curves, at the very step, and into the `logs`
    of each epoch, where the latest evaluation stands (callbacks listed before this one do not see
    them there). The last update of a run is always evaluated.

    When: after every update whose number, counted by the optimizer, is a multiple of
    `every_steps`; under `steps_per_execution` Keras calls callbacks only every so many batches,
    and the evaluation is made at the first call at or after that update, whose number is recorded.
    A resumed run hence evaluates at the same steps.

    Arrays are evaluated in batches of one shape, the last one filled up with the last example at
    weight zero (I3). Loss and metrics are exact for any number of examples, `metrics=[...]` too:
    an example of weight zero counts in none of them, which also holds for a dataset, such as
    `pipelines.evaluation_pipeline` makes. (Keras itself computes `metrics` without weights, and
    would count the padding.) A weighted metric that is a count comes out multiplied by
    rows / examples.

    Examples:
        >>> import keras, numpy as np, tfplaybook as pb
        >>> keras.utils.set_random_seed(0)
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> x, y = np.ones((80, 2)), np.ones(80)
        >>> evaluation = pb.callbacks.PeriodicEvaluation((x[:10], y[:10]), every_steps=4)
        >>> history = model.fit(x, y, batch_size=8, verbose=0, callbacks=[evaluation])
        >>> [found.step for found in evaluation.evaluations]
        [4, 8, 10]
        >>> history.history["val_loss"] == [evaluation.evaluations[-1].metrics["val_loss"]]
        True

    Args:
        validation_data: A finite `tf.data.Dataset` of (x, y) or (x, y, sample_weight) batches, or
            a tuple of arrays of these. Copies of the callback share it.
        every_steps: Updates between two evaluations, at least 1.
        batch_size: Examples per batch of arrays, by default 256, or all of fewer. A warning says
            when it is smaller than the training batch (I2). Not to be given with a dataset.
        every_step_until: Evaluate after every one of the first so many updates, which shows an
            early instability that passes within some ten updates (K3). 0 by default.
        use_ema: Evaluate the averages of the weights that the optimizer keeps. The weights are
            copied aside and put back.
        count_correct: Count the correct examples of each class (I6), as
            `Evaluation.correct_per_class` and as curves `val_correct/<class>`. For integer, one-hot
            or 0/1 targets and one output. Costs a second forward pass.
        predictions: Keep the outputs for every example on disk (I4), in the folder `predictions`
            of the run of a `RunRecorder` in the same `fit` or of the checkpoint whose `evaluation`
            this is, or of the run directory given here;
            `tfplaybook.runs.load_predictions` reads them. Costs the same second pass, and all
            outputs are in memory until they are written. Evaluate a sample to keep fewer.
        ids: What names the examples of `predictions`: an array of integers or strings, or the name
            of a feature of x. By default their places, 0, 1, ...; then the set must come in the
            same order every time.
        prefix: Begins the names of the metrics. A `fit` with `validation_data` of its own reports
            `val_loss` as well, which is an error at the end of the first epoch: choose another
            prefix, or leave the other out. Two evaluations in one `fit` need two prefixes too.
        log_dir: TensorBoard directory for the curves, beside the run of a `RunRecorder`.

    Attributes:
        on_evaluation: Called with each `Evaluation` when it is made, the weights in place again;
            None by default. For a callback that owns this one.
        owners_directory: The run directory of that callback, for `predictions` without a recorder.
        owners_host: Its host, by default `tfplaybook.hosts.current_host()`; all hosts compute the
            `predictions`, the first one writes them.

    Raises:
        ValueError: At construction for a bad argument or an endless dataset; when `fit` starts
            with `use_ema` on an optimizer without averages, or if there is no run directory for
            `predictions`; in training if the dataset yields nothing, targets are of no class, or
            two evaluations report one name.

    Source: playbook I1-I6, J2, K3.
    """

    free_arguments = _keras.Callback.free_arguments | {"validation_data", "ids", "predictions"}

    def __init__(
        self,
        validation_data: Any,
        *,
        every_steps: int,
        batch_size: int | None = None,
        every_step_until: int = 0,
        use_ema: bool = False,
        count_correct: bool = False,
        predictions: bool | str | os.PathLike[str] = False,
        ids: Any = None,
        prefix: str = "val_",
        log_dir: str | os.PathLike[str] | None = None,
    ):
        super().__init__()
        self.every_steps = check_count("every_steps", every_steps, minimum=1)
        self.every_step_until = check_count("every_step_until", every_step_until, minimum=0)
        self.use_ema = use_ema
        self.count_correct = count_correct
        if not isinstance(prefix, str) or not prefix:
            raise ValueError(
                "`prefix` must be a string that tells the metrics from those of training, such as "
                f"'val_'. Received: {prefix!r}."
            )
        self.prefix = prefix
        self.validation_data = validation_data
        self._data = EvaluationData(validation_data, batch_size)
        if ids is not None and predictions is False:
            raise ValueError("`ids` names the examples of predictions: pass predictions=True too.")
        self._ids = check_ids(ids, self._data.num_examples)
        self.predictions = predictions
        self.on_evaluation: Callable[[Evaluation], None] | None = None
        self.owners_directory: Path | None = None
        self.owners_host: Host | None = None
        self._curves = CurveLog(log_dir, "batch")
        self._evaluations: list[Evaluation] = []
        self._loaded: list[Evaluation] | None = None
        self._training = False
        self._evaluator = _keras_evaluation.Evaluator()

    def __deepcopy__(self, memo: dict[int, Any]) -> "PeriodicEvaluation":
        memo[id(self.validation_data)] = self.validation_data
        return super().__deepcopy__(memo)

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """The evaluations of this run, in the order of their steps."""
        return tuple(self._evaluations)

    @property
    def uses_average(self) -> bool:
        """Whether averages of the weights are evaluated instead of the weights."""
        return self.use_ema

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the evaluations made so far, as plain arrays."""
        return pack(self._evaluations if self._loaded is None else self._loaded)

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a `state_dict`: at once during training, or in the next `fit`.

        Raises:
            ValueError: `state` is not a `state_dict` of this class.
        """
        if self._training:
            self._evaluations = unpack(state)
        else:
            self._loaded = unpack(state)

    def set_model(self, model: keras.Model) -> None:
        """Accept a compiled model, with averages of its weights if these are evaluated."""
        super().set_model(model)
        if self.use_ema:
            _keras_evaluation.check_averages(model, type(self).__name__)
        self._data.prepare(_keras_evaluation.replica_count(model))
        self._evaluator = _keras_evaluation.Evaluator()
        self._training = False  # an earlier `fit` may have been interrupted

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Start counting, from the step on at which the run goes on."""
        if self._training:
            raise ValueError(
                f"One {type(self).__name__} was given to `fit` twice. Leave it out of `callbacks` "
                "when it is the `evaluation` of a checkpoint."
            )
        super().on_train_begin(logs)
        model = self.model
        updates = _keras.count_updates(model)
        self._accumulation = _keras.accumulation_steps(model)
        loaded, self._loaded = self._loaded or [], None
        self._evaluations = [found for found in loaded if found.step <= updates]
        if self.predictions is not False:
            self._run_directory()
        self._curves.begin_attempt(updates)
        self._warned = False
        self._start: int | None = None
        self._batches_made = 0
        self._locate(updates)
        self._training = True

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Find the next step to evaluate; a checkpoint may have been restored meanwhile."""
        self._locate(_keras.count_updates(self.model))

    def _locate(self, updates: int) -> None:
        if self._start is None or not self._batches_made:
            self._start = updates
        self._last_batch = -1
        self._expect(updates)

    def _expect(self, updates: int) -> None:
        """Note that `updates` were made so far."""
        self._known = updates
        self._batches = 0
        if updates < self.every_step_until:
            self._due = updates + 1
        else:
            self._due = (updates // self.every_steps + 1) * self.every_steps

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Evaluate if it is time."""
        if not self._training:
            return
        made = max(1, batch - self._last_batch)
        self._last_batch = batch
        self._batches += made
        self._batches_made += made
        # Looking at the counter makes JAX write all of its state back: only when it may be time.
        if math.ceil(self._batches / self._accumulation) < self._due - self._known:
            return
        model = self.model
        updates = _keras.count_updates(model)
        if updates >= self._due:
            self._evaluate(model, updates)
        self._expect(updates)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Put the latest evaluation into the logs; evaluate the last update of the run."""
        model = self.model
        if model.stop_training or epoch + 1 == self.params.get("epochs"):
            self._evaluate_last(model)
        if logs is None or not self._evaluations:
            return
        latest = self._evaluations[-1].metrics
        clash = sorted(set(latest) & set(logs))
        if clash:
            raise ValueError(
                f"{clash[0]!r} is reported twice: by this {type(self).__name__} and by "
                "`fit(validation_data=...)` or another callback. Leave one of them out, or pass "
                f"`prefix`, as in {type(self).__name__}(..., prefix='periodic_')."
            )
        logs.update(latest)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Evaluate the last update, if that was not done when its epoch ended."""
        self._evaluate_last(self.model)
        self._training = False
        if self._batches_made >= self._accumulation and not self._evaluations:
            warnings.warn(
                f"{type(self).__name__} evaluated nothing: the optimizer that the model was "
                f"compiled with made no update in {self._batches_made:,} batches.",
                stacklevel=2,
            )

    def abandon(self) -> None:
        """Evaluate no more in this `fit`, whose end is not that of the run."""
        self._training = False
        self._start = None
        self._batches_made = 0

    def _evaluate_last(self, model: keras.Model) -> None:
        updates = _keras.count_updates(model)
        done = bool(self._evaluations) and self._evaluations[-1].step >= updates
        if self._start is not None and updates > self._start and not done:
            self._evaluate(model, updates)

    def _evaluate(self, model: keras.Model, step: int) -> None:
        start = time.perf_counter()
        training_batch = _keras_evaluation.mean_training_batch(model, self._last_batch + 1)
        kept = None
        with self._evaluated_weights(model):
            results = self._evaluator.evaluate(model, self._data.batches())
            if not results:  # of an empty dataset, but also of a `test_step` that reports nothing
                self._data.check_not_empty()
            if self.count_correct or self.predictions is not False:
                kept = predict_examples(model, self._data, self._ids, step)
        counts = count_correct(kept) if self.count_correct and kept is not None else None
        evaluation = Evaluation(
            step=step,
            metrics=dict(_named_numbers(results, self.prefix)),
            seconds=time.perf_counter() - start,
            num_examples=self._data.num_examples if kept is None else len(kept.ids),
            correct_per_class=None if counts is None else tuple(counts[0].tolist()),
            examples_per_class=None if counts is None else tuple(counts[1].tolist()),
        )
        self._evaluations.append(evaluation)
        self._write_curves(evaluation)
        if self.predictions is not False and kept is not None and self._is_writer():
            save_predictions(self._run_directory(), kept)
        self._check_batch_size(training_batch)
        if self.on_evaluation is not None:
            self.on_evaluation(evaluation)

    @contextlib.contextmanager
    def _evaluated_weights(self, model: keras.Model) -> Iterator[None]:
        """Prepare the model for evaluation; afterwards training goes on as if nothing had been."""
        averages = (
            _keras_evaluation.averaged_weights(model) if self.use_ema else contextlib.nullcontext()
        )
        with _keras_evaluation.undisturbed(model), averages:
            _keras_state.average_batch_norm(model)
            yield

    def _is_writer(self) -> bool:
        return (self.owners_host or current_host()).is_writer

    def _run_directory(self) -> Path:
        if not isinstance(self.predictions, bool):
            return Path(self.predictions)
        recorder = _keras.find_recorder(self)
        if recorder is not None:
            return recorder.directory
        if self.owners_directory is not None:
            return self.owners_directory
        raise ValueError(
            "predictions=True keeps them in the directory of the run. Received: a `fit` without a "
            "RunRecorder. Add `tfplaybook.runs.RunRecorder(directory)` to the callbacks, or pass "
            "predictions=directory."
        )

    def _write_curves(self, evaluation: Evaluation) -> None:
        recorder = _keras.find_recorder(self)
        writers = self._curves.writers(self)
        if recorder is not None and recorder not in writers:
            writers.append(recorder)
        for writer in writers:
            for name, value in evaluation.metrics.items():
                writer.scalar(name, evaluation.step, value)
            for label, count in enumerate(evaluation.correct_per_class or ()):
                writer.scalar(f"{self.prefix}correct/{label}", evaluation.step, count)
            writer.flush()

    def _check_batch_size(self, training_batch: float | None) -> None:
        """Warn, once in a run, of an evaluation batch below the training batch (I2)."""
        size = self._data.batch_size
        if self._warned or training_batch is None or size is None or size >= training_batch:
            return
        if self._data.num_examples is not None and size >= self._data.num_examples:
            return
        self._warned = True
        warnings.warn(
            f"Evaluation takes batches of {size:,} examples, and training {training_batch:,.0f} "
            "(I2: evaluate with at least the training batch size; without gradients a larger batch "
            f"fits, and takes less time): pass batch_size={math.ceil(training_batch):,}.",
            stacklevel=2,
        )


def _named_numbers(results: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    """Yield metrics as numbers, and the entries of one that is an array as `name/0`, ..."""
    for name, value in results.items():
        array = np.asarray(value, dtype="float64")
        if array.ndim == 0:
            yield prefix + name, float(array)
        else:
            for index, entry in enumerate(array.ravel().tolist()):
                yield f"{prefix}{name}/{index}", entry


def check_evaluation(evaluation: Any) -> PeriodicEvaluation | None:
    """Return `evaluation` if it is one, or None."""
    if evaluation is None or isinstance(evaluation, PeriodicEvaluation):
        return evaluation
    raise TypeError(
        "`evaluation` must be a tfplaybook.callbacks.PeriodicEvaluation. Received: "
        f"{evaluation!r:.80}."
    )
