"""An embedded data set: scikit-learn's handwritten digits as a TFDS builder.

import digits

builder = digits.load()  # or digits.load("mnist"), which is downloaded
train = pipelines.training_pipeline(builder, split="train", batch_size=64, seed=0)
"""

from digits._load import load as load
from digits.builder import Digits as Digits
