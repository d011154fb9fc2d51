"""A study in the terms of TensorBoard's tab HPARAMS: an experiment, and a session per run."""

import math

from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

from tfplaybook.runs import EventWriter
from tfplaybook.studies._records import Hyperparameter, Study, Trial, Value

_STATUSES = {
    "completed": api_pb2.STATUS_SUCCESS,
    "infeasible": api_pb2.STATUS_FAILURE,
    "failed": api_pb2.STATUS_FAILURE,
    "running": api_pb2.STATUS_RUNNING,
}


def declare_experiment(writer: EventWriter, study: Study, metrics: dict[str, str]) -> None:
    """Write what is searched and what is measured: every hyperparameter with its domain.

    Args:
        writer: The writer of a run that is no session.
        study: The study.
        metrics: Name of a scalar of the sessions, to the name that the columns show.
    """
    experiment = api_pb2.Experiment(
        description=study.goal,
        hparam_infos=map(_hyperparameter, study.space),
        metric_infos=[
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=shown)
            for tag, shown in metrics.items()
        ],
    )
    content = plugin_data_pb2.HParamsPluginData(experiment=experiment)
    _write(writer, metadata.EXPERIMENT_TAG, content)


def write_session(writer: EventWriter, study: Study, trial: Trial) -> None:
    """Write the values and the status of a trial; several runs of one trial are one group."""
    start = plugin_data_pb2.SessionStartInfo(group_name=trial.trial_id)
    types = {h.name: _data_type(h) for h in study.space}
    for name, value in trial.values.items():
        if types.get(name) == api_pb2.DATA_TYPE_STRING:
            value = str(value)
        entry = start.hparams[name]
        if isinstance(value, bool):
            entry.bool_value = value
        elif isinstance(value, str):
            entry.string_value = value
        else:
            entry.number_value = value
    content = plugin_data_pb2.HParamsPluginData(session_start_info=start)
    _write(writer, metadata.SESSION_START_INFO_TAG, content)
    end = plugin_data_pb2.SessionEndInfo(status=_STATUSES[trial.status])
    content = plugin_data_pb2.HParamsPluginData(session_end_info=end)
    _write(writer, metadata.SESSION_END_INFO_TAG, content)


def _write(writer: EventWriter, tag: str, content: plugin_data_pb2.HParamsPluginData) -> None:
    writer.record(tag, metadata.create_summary_metadata(content), metadata.NULL_TENSOR)


def _hyperparameter(h: Hyperparameter) -> api_pb2.HParamInfo:
    info = api_pb2.HParamInfo(name=h.name, type=_data_type(h))
    if h.min_value is not None and h.max_value is not None:
        info.domain_interval.min_value = h.min_value
        info.domain_interval.max_value = h.max_value
    elif h.values:
        is_text = info.type == api_pb2.DATA_TYPE_STRING
        info.domain_discrete.extend([str(v) if is_text else v for v in h.values])
    return info


def _data_type(h: Hyperparameter) -> int:
    if h.min_value is not None or (h.values and all(map(_is_number, h.values))):
        return api_pb2.DATA_TYPE_FLOAT64
    if h.values and all(isinstance(value, bool) for value in h.values):
        return api_pb2.DATA_TYPE_BOOL
    return api_pb2.DATA_TYPE_STRING


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
