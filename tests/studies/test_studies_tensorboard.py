"""The log directory that a study writes, read back with TensorBoard's own reader."""

import dataclasses

import pytest
import simulated
from simulated import run, study, trial
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from tfplaybook import studies


def read(directory):
    accumulator = EventAccumulator(str(directory), size_guidance={"tensors": 0})
    accumulator.Reload()
    return accumulator


def hparams(accumulator, tag):
    content = accumulator.SummaryMetadata(tag).plugin_data.content
    return {
        metadata.EXPERIMENT_TAG: metadata.parse_experiment_plugin_data,
        metadata.SESSION_START_INFO_TAG: metadata.parse_session_start_info_plugin_data,
        metadata.SESSION_END_INFO_TAG: metadata.parse_session_end_info_plugin_data,
    }[tag](content)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return simulated.spread(7).to_tensorboard(tmp_path_factory.mktemp("logs") / "round1")


def test_every_trial_has_a_run_with_its_curves_and_its_best(log):
    assert len(log.runs) == 7
    assert log.left_out == ()
    events = read(log.directory / "trial_0003")
    score = simulated.spread(7).trials[3].objective
    steps = [(e.step, e.tensor_proto.float_val[0]) for e in events.Tensors("val_loss")]
    assert steps == [(1, 2.0), (2, pytest.approx(score)), (3, pytest.approx(score + 0.1))]
    (best,) = events.Tensors("best/val_loss")
    assert best.tensor_proto.float_val[0] == pytest.approx(score)
    assert [e.step for e in events.Tensors("gradient_norm_log10")] == [1, 2, 3]


def test_the_experiment_declares_every_domain(log):
    experiment = hparams(read(log.directory / "study"), metadata.EXPERIMENT_TAG)
    infos = {info.name: info for info in experiment.hparam_infos}
    rate = infos["learning_rate"].domain_interval
    assert (rate.min_value, rate.max_value) == (1e-4, 1.0)
    choices = infos["optimizer"].domain_discrete.values
    assert [value.string_value for value in choices] == ["sgd", "adam"]
    assert [metric.display_name for metric in experiment.metric_infos] == [
        "best val_loss",
        "last val_loss",
    ]


def test_a_session_has_the_values_and_the_status_of_its_trial(log):
    good, lost = read(log.directory / "trial_0001"), read(log.directory / "trial_0006")
    values = hparams(good, metadata.SESSION_START_INFO_TAG).hparams
    trials = simulated.spread(7).trials
    assert values["units"].number_value == trials[1].values["units"]
    assert values["optimizer"].string_value == "adam"
    assert "momentum" not in values
    ends = [hparams(events, metadata.SESSION_END_INFO_TAG).status for events in (good, lost)]
    assert ends == [1, 2]
    assert "best/val_loss" not in lost.Tags()["tensors"]


def test_choices_of_mixed_types_are_text(tmp_path):
    mixed = studies.Hyperparameter("width", "choice", values=(8, "wide"))
    flag = studies.Hyperparameter("bias", "boolean", values=(False, True))
    record = study(trial(0, 1.0, width=8, bias=True), space=(mixed, flag))
    log = record.to_tensorboard(tmp_path / "log")
    values = hparams(read(log.directory / "trial_0000"), metadata.SESSION_START_INFO_TAG).hparams
    assert values["width"].string_value == "8"
    assert values["bias"].bool_value is True


def test_executions_are_runs_of_one_group(tmp_path):
    record = study(
        trial(0, 1.0, runs=[run(val_loss=[1.0]), run(val_loss=[1.0])], learning_rate=0.1)
    )
    log = record.to_tensorboard(tmp_path / "log")
    assert log.runs == ("trial_0000/execution_0", "trial_0000/execution_1")
    groups = {
        hparams(read(log.directory / name), metadata.SESSION_START_INFO_TAG).group_name
        for name in log.runs
    }
    assert groups == {"0000"}


def test_the_best_trials_come_first_and_the_rest_is_named(tmp_path):
    record = study(*(trial(i, float(-i), learning_rate=0.1) for i in range(5)))
    log = record.to_tensorboard(tmp_path / "log", most_runs=3)
    assert log.runs == ("trial_0004", "trial_0003")
    assert log.left_out == ("0002", "0001", "0000")
    everything = record.to_tensorboard(tmp_path / "log", most_runs=None)
    assert len(everything.runs) == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log"]


def test_an_earlier_log_is_replaced_and_anything_else_is_refused(tmp_path):
    record = study(trial(0, 1.0, learning_rate=0.1))
    (tmp_path / "log").mkdir()
    record.to_tensorboard(tmp_path / "log")
    other = study(dataclasses.replace(record.trials[0], trial_id="b"))
    assert other.to_tensorboard(tmp_path / "log").runs == ("trial_b",)
    assert not (tmp_path / "log" / "trial_0000").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    with pytest.raises(ValueError, match="which holds something else"):
        record.to_tensorboard(tmp_path / "mine")
    with pytest.raises(ValueError, match="`most_runs` must be an integer of at least 2"):
        record.to_tensorboard(tmp_path / "log", most_runs=1)
