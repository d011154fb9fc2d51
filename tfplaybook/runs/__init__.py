"""One training run on disk: what was run, how its numbers went, and reading both back."""

from tfplaybook.runs._checkpoint_reader import Checkpoint as Checkpoint
from tfplaybook.runs._checkpoint_reader import CheckpointReader as CheckpointReader
from tfplaybook.runs._checkpoint_reader import LatestCheckpoint as LatestCheckpoint
from tfplaybook.runs._checkpoint_store import CheckpointStore as CheckpointStore
from tfplaybook.runs._curves import Curve as Curve
from tfplaybook.runs._events import EventWriter as EventWriter
from tfplaybook.runs._load_checkpoint import export_checkpoint as export_checkpoint
from tfplaybook.runs._load_checkpoint import load_checkpoint as load_checkpoint
from tfplaybook.runs._predictions import PredictionChange as PredictionChange
from tfplaybook.runs._predictions import Predictions as Predictions
from tfplaybook.runs._predictions import compare_predictions as compare_predictions
from tfplaybook.runs._predictions import load_predictions as load_predictions
from tfplaybook.runs._recorder import RunRecorder as RunRecorder
from tfplaybook.runs._retention import AnyOf as AnyOf
from tfplaybook.runs._retention import BestN as BestN
from tfplaybook.runs._retention import CheckpointEntry as CheckpointEntry
from tfplaybook.runs._retention import EveryNSteps as EveryNSteps
from tfplaybook.runs._retention import LatestN as LatestN
from tfplaybook.runs._retention import RetentionPolicy as RetentionPolicy
from tfplaybook.runs._run import Run as Run
from tfplaybook.runs._run import load_run as load_run
