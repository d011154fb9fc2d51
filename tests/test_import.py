"""`import tfplaybook` loads Keras and nothing more, and the rooms load when they are used."""

import subprocess
import sys

LOADED = """
import sys, keras
before = {name.split(".")[0] for name in sys.modules}
import tfplaybook as pb
print(*sorted({name.split(".")[0] for name in sys.modules} - before))
rooms = ("callbacks", "runs", "search", "studies")
assert not [room for room in rooms if f"tfplaybook.{room}" in sys.modules]
for room in rooms:
    assert room in dir(pb)
    assert getattr(pb, room) is sys.modules[f"tfplaybook.{room}"]
"""

PIPELINES_ALONE = """
import sys, pipelines
assert "tfplaybook" not in sys.modules
assert "tensorflow_datasets" not in sys.modules
"""


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


def test_importing_tfplaybook_adds_nothing_to_keras_and_rooms_are_lazy():
    done = run(LOADED)
    assert done.returncode == 0, done.stderr
    # difflib names the closest of the allowed words in error messages.
    assert set(done.stdout.split()) <= {"tfplaybook", "difflib"}


def test_an_unknown_room_is_an_attribute_error():
    done = run("import tfplaybook as pb; pb.callback")
    assert "module 'tfplaybook' has no attribute 'callback'" in done.stderr


def test_pipelines_needs_neither_tfplaybook_nor_tfds():
    done = run(PIPELINES_ALONE)
    assert done.returncode == 0, done.stderr


def test_schedules_in_a_saved_optimizer_load_after_importing_tfplaybook_only(tmp_path):
    save = """
import sys, keras, tfplaybook as pb
schedule = pb.schedules.WarmupDecaySchedule(peak_learning_rate=.1, warmup_steps=2, decay_steps=8)
model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
model.compile(keras.optimizers.Adam(schedule), "mse")
model.save(sys.argv[1])
"""
    load = """
import sys, keras, tfplaybook
print(keras.models.load_model(sys.argv[1]).optimizer._learning_rate)
"""
    path = str(tmp_path / "model.keras")
    assert run(save, path).returncode == 0
    done = run(load, path)
    assert done.stdout.startswith("WarmupDecaySchedule(peak_learning_rate=0.1"), done.stderr
