"""Quasi-random search: the sequence, the KerasTuner oracle and the tuner."""

from tfplaybook.search._halton import halton as halton
from tfplaybook.search._oracle import QuasiRandomOracle as QuasiRandomOracle
from tfplaybook.search._tuner import QuasiRandomSearch as QuasiRandomSearch
