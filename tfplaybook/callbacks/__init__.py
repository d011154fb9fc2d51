"""What goes into `model.fit(callbacks=[...])`."""

from tfplaybook.callbacks._warmup_then_decay import WarmupThenDecay as WarmupThenDecay
