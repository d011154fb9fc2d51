"""Studies for the tests of this room."""

import pytest
import study_factory

from tfplaybook import studies


@pytest.fixture
def make_study(tmp_path):
    """Return a function that writes a study under `tmp_path` and loads it."""

    def make(trials=(), *args, name="round1", **options):
        return studies.load(study_factory.write_study(tmp_path / name, trials, *args, **options))

    return make
