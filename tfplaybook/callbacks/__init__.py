"""What goes into `model.fit(callbacks=[...])`."""

from tfplaybook.callbacks._best import BestCheckpoint as BestCheckpoint
from tfplaybook.callbacks._clipping_advice import ClippingAdvice as ClippingAdvice
from tfplaybook.callbacks._epoch_plan import EpochPlan as EpochPlan
from tfplaybook.callbacks._epoch_plan import plan_epochs as plan_epochs
from tfplaybook.callbacks._evaluation import Evaluation as Evaluation
from tfplaybook.callbacks._input_monitor import InputMonitor as InputMonitor
from tfplaybook.callbacks._input_monitor import InputWait as InputWait
from tfplaybook.callbacks._percentile_clipping import PercentileClipping as PercentileClipping
from tfplaybook.callbacks._periodic_evaluation import PeriodicEvaluation as PeriodicEvaluation
from tfplaybook.callbacks._retrospective_checkpoint import (
    RetrospectiveCheckpoint as RetrospectiveCheckpoint,
)
from tfplaybook.callbacks._sample_check import SampleCheck as SampleCheck
from tfplaybook.callbacks._sample_check import compare_sample as compare_sample
from tfplaybook.callbacks._threshold import Calibrated as Calibrated
from tfplaybook.callbacks._threshold import Rolling as Rolling
from tfplaybook.callbacks._threshold import threshold_from as threshold_from
from tfplaybook.callbacks._warmup_then_decay import WarmupThenDecay as WarmupThenDecay
