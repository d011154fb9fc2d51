"""What goes into `model.fit(callbacks=[...])`."""

from tfplaybook.callbacks._clipping_advice import ClippingAdvice as ClippingAdvice
from tfplaybook.callbacks._percentile_clipping import PercentileClipping as PercentileClipping
from tfplaybook.callbacks._threshold import Calibrated as Calibrated
from tfplaybook.callbacks._threshold import Rolling as Rolling
from tfplaybook.callbacks._threshold import threshold_from as threshold_from
from tfplaybook.callbacks._warmup_then_decay import WarmupThenDecay as WarmupThenDecay
