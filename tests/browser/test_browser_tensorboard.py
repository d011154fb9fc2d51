"""Log directories of a study, looked at in TensorBoard as its users do."""

import re
import warnings

import keras
import numpy as np
import pytest

import tfplaybook as pb

TRIALS = 20
LINES = "vz-line-chart2 .render-area path"
DRAWN = f"tf-scalar-card {LINES}"
CHECKED = "tf-runs-selector paper-checkbox[checked]"


def build_model(hp):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(
                hp.Int("units", 2, 8), activation=hp.Choice("act", ["relu", "tanh"])
            ),
            keras.layers.Dense(1),
        ]
    )
    learning_rate = hp.Float("learning_rate", 1e-3, 1e-1, sampling="log")
    # To compile every model takes longer than to train it.
    model.compile(keras.optimizers.SGD(learning_rate), "mse", jit_compile=False)
    return model


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A study that was trained, and whose gradient norms were recorded."""
    tuner = pb.search.QuasiRandomSearch(
        build_model,
        objective="val_loss",
        max_trials=TRIALS,
        directory=tmp_path_factory.mktemp("studies"),
        project_name="round1",
        goal="Which learning rate?",
    )
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    y = x.sum(axis=1, keepdims=True)
    callbacks = [pb.callbacks.PercentileClipping(percentile=90.0)]
    tuner.search(
        x, y, validation_data=(x, y), batch_size=8, epochs=2, callbacks=callbacks, verbose=0
    )
    return pb.studies.load(tuner.project_dir)


@pytest.fixture(scope="module")
def logdir(trained, tmp_path_factory):
    return trained.to_tensorboard(tmp_path_factory.mktemp("logs") / "round1").directory


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Two log directories of one study of 100 trials: with the default runs, and with all."""
    steps = [1, 2, 3, 4, 5]
    rows = [
        {
            "trial_id": f"{i:04d}",
            "objective": 0.1 + i / 100,
            "hyperparameters": {"learning_rate": 10.0 ** (-3 + 3 * ((0.618 * i) % 1.0))},
            "curves": {
                "val_loss": {"steps": steps, "values": [0.1 + i / 100 + 1 / s for s in steps]}
            },
        }
        for i in range(100)
    ]
    study = pb.studies.from_records(rows, objective=pb.studies.Objective("val_loss", "min"))
    folder = tmp_path_factory.mktemp("logs")
    return {
        most: study.to_tensorboard(folder / f"most_{most}", most_runs=most) for most in (40, None)
    }


@pytest.fixture(scope="module")
def serve():
    """Return a function that serves a log directory from this process; returns its address."""
    addresses = {}

    def address_of(directory):
        if directory not in addresses:
            where = ["--logdir", str(directory), "--host", "127.0.0.1", "--port", "0"]
            # Its own deprecation warnings are no concern of these tests.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from tensorboard import program

                board = program.TensorBoard()
                board.configure(argv=["tensorboard", *where, "--load_fast", "false"])
                addresses[directory] = board.launch()
        return addresses[directory]

    return address_of


@pytest.fixture
def look(serve, watch):
    """Return a function that opens a tab of TensorBoard when all runs are loaded."""

    def open_tab(directory, tab, runs):
        page = watch(viewport={"width": 1500, "height": 1000}).page
        address = serve(directory)
        page.goto(address + "data/runs")
        page.wait_for_function(
            "async (runs) => (await (await fetch('runs')).json()).length === runs", arg=runs
        )
        page.goto(f"{address}#{tab}")
        return page

    return open_tab


def is_picture(page, path):
    page.screenshot(path=path)
    return path.read_bytes().startswith(b"\x89PNG")


def test_scalars_show_every_trial_of_a_real_study(logdir, look, tmp_path):
    page = look(logdir, "scalars", TRIALS + 1)
    page.locator(DRAWN).first.wait_for()
    assert page.locator(CHECKED).count() == TRIALS + 1
    for name in ("best", "gradient_norm", "val_loss"):
        assert page.get_by_role("button", name=re.compile(f"^{name}")).count()
    assert is_picture(page, tmp_path / "scalars.png")


def test_histograms_show_the_gradient_norms(logdir, look, tmp_path):
    page = look(logdir, "histograms", TRIALS + 1)
    page.locator(".histogram path").first.wait_for()
    assert page.get_by_text("gradient_norm_log10").count()
    assert is_picture(page, tmp_path / "histograms.png")


def test_hparams_show_every_trial_with_its_values_and_its_best(logdir, trained, look, tmp_path):
    page = look(logdir, "hparams", TRIALS + 1)
    page.get_by_text("0019").first.wait_for()
    for name in ("learning_rate", "units", "act", "relu", "tanh", "best val_loss", "last loss"):
        assert page.get_by_text(name, exact=True).count(), name
    assert is_picture(page, tmp_path / "hparams.png")
    best = trained.best()[0]
    # The table rounds to five digits.
    shown = re.compile(re.escape(f"{best.objective:.8f}"[:5]))
    page.get_by_text(shown).first.wait_for()


def test_images_show_the_pictures_of_the_study(logdir, look):
    page = look(logdir, "images", TRIALS + 1)
    page.locator("tf-image-loader img").first.wait_for()
    assert page.get_by_text("axis_plots").count()


def test_the_chart_of_percentile_clipping_draws_norm_and_threshold(trained, look, tmp_path):
    page = look(trained.best()[0].runs[0].path, "custom_scalars", 1)
    page.get_by_text("Matches (2)").wait_for()
    page.locator(LINES).first.wait_for()
    assert is_picture(page, tmp_path / "custom_scalars.png")


def test_a_hundred_trials_come_up_with_the_best_of_them(large, look, tmp_path):
    log = large[40]
    assert log.runs == tuple(f"trial_{i:04d}" for i in range(39))
    assert len(log.left_out) == 61
    page = look(log.directory, "scalars", 40)
    page.locator(DRAWN).first.wait_for()
    assert page.locator(CHECKED).count() == 40
    assert is_picture(page, tmp_path / "scalars.png")


def test_a_filter_chooses_among_all_of_a_hundred_trials(large, look, tmp_path):
    log = large[None]
    assert len(log.runs) == 100
    page = look(log.directory, "scalars&regexInput=trial_000", 101)
    page.locator(DRAWN).first.wait_for()
    assert page.locator(CHECKED).count() == 10
    assert is_picture(page, tmp_path / "scalars.png")


def test_hparams_hold_all_of_a_hundred_trials(large, look):
    page = look(large[None].directory, "hparams", 101)
    page.get_by_text("0000").first.wait_for()
    # The rest is a scroll away.
    assert page.get_by_text("0020").count()
