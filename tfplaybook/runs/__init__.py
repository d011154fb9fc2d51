"""One training run on disk: what was run, how its numbers went, and reading both back."""

from tfplaybook.runs._curves import Curve as Curve
from tfplaybook.runs._events import EventWriter as EventWriter
from tfplaybook.runs._recorder import RunRecorder as RunRecorder
from tfplaybook.runs._run import Run as Run
from tfplaybook.runs._run import load_run as load_run
