"""Quasi-random search: the sequence, the KerasTuner oracle, the tuner, roles and spaces."""

from tfplaybook.search._bayesian import BayesianOracle as BayesianOracle
from tfplaybook.search._bayesian import BayesianSearch as BayesianSearch
from tfplaybook.search._halton import halton as halton
from tfplaybook.search._optimizer_spaces import adam_space as adam_space
from tfplaybook.search._optimizer_spaces import nesterov_space as nesterov_space
from tfplaybook.search._oracle import QuasiRandomOracle as QuasiRandomOracle
from tfplaybook.search._roles import Plan as Plan
from tfplaybook.search._roles import PlannedStudy as PlannedStudy
from tfplaybook.search._roles import Roles as Roles
from tfplaybook.search._tuner import QuasiRandomSearch as QuasiRandomSearch
