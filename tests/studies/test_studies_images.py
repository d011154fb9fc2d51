"""A few pictures, compared with images that were looked at when they were stored.

All text is removed, since its pixels differ between versions of the font library. To store them
anew after a change that is meant: `TFPLAYBOOK_STORE_IMAGES=1 pytest` with this file, and look.
"""

import os
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text
from simulated import HIGHER, spread

from tfplaybook import studies

STORED = Path(__file__).parent / "images"
# Lines and markers differ by antialiasing alone; a missing mark or a wrong colour is more.
TOLERANCE = 1.0
PICTURES = {
    "axis": lambda ax: studies.plot_axis(spread(40), "learning_rate", ax=ax),
    "curves": lambda ax: studies.plot_curves(spread(12), ax=ax),
    "isolation": lambda ax: studies.plot_isolation(spread(40), "dropout", ax=ax),
    "budget": lambda ax: studies.plot_budget(spread(40), ax=ax),
    "parallel": lambda ax: studies.plot_parallel(spread(20, HIGHER), ax=ax),
    "slice": lambda ax: studies.draw_slice(
        studies.slice_record(spread(40), "learning_rate", "dropout"), ax, color_bar=False
    ),
}


def draw(name, path):
    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        figure = Figure(figsize=(3.0, 2.0), dpi=100)
        PICTURES[name](figure.add_axes((0.05, 0.05, 0.9, 0.9)))
        for text in figure.findobj(Text):
            text.set_visible(False)
        figure.savefig(path)


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_is_as_it_was(name, tmp_path):
    stored = STORED / f"{name}.png"
    if os.environ.get("TFPLAYBOOK_STORE_IMAGES"):
        STORED.mkdir(exist_ok=True)
        draw(name, stored)
    drawn = tmp_path / f"{name}.png"
    draw(name, drawn)
    difference = compare_images(str(stored), str(drawn), TOLERANCE)
    assert difference is None, difference
