"""Studies: many trials of one search as records, a table and pictures.

```python
study = tfplaybook.studies.load("studies/round1")
rich.print(study.table())
study.save_plots("studies/round1/plots")
```
"""

from tfplaybook.studies._axis_plot import AxisPlotRecord as AxisPlotRecord
from tfplaybook.studies._axis_plot import AxisPoint as AxisPoint
from tfplaybook.studies._axis_plot import axis_plot_record as axis_plot_record
from tfplaybook.studies._axis_plot import draw_axis_plot as draw_axis_plot
from tfplaybook.studies._axis_plot import plot_axis as plot_axis
from tfplaybook.studies._budget_plot import BudgetRecord as BudgetRecord
from tfplaybook.studies._budget_plot import budget_record as budget_record
from tfplaybook.studies._budget_plot import draw_budget as draw_budget
from tfplaybook.studies._budget_plot import plot_budget as plot_budget
from tfplaybook.studies._curves_plot import CurveLine as CurveLine
from tfplaybook.studies._curves_plot import CurvesRecord as CurvesRecord
from tfplaybook.studies._curves_plot import curves_record as curves_record
from tfplaybook.studies._curves_plot import draw_curves as draw_curves
from tfplaybook.studies._curves_plot import plot_curves as plot_curves
from tfplaybook.studies._diagnoses._adoption import AdoptionFinding as AdoptionFinding
from tfplaybook.studies._diagnoses._adoption import adoption as adoption
from tfplaybook.studies._diagnoses._boundary import BoundaryFinding as BoundaryFinding
from tfplaybook.studies._diagnoses._boundary import Expansion as Expansion
from tfplaybook.studies._diagnoses._boundary import search_space_boundary as search_space_boundary
from tfplaybook.studies._diagnoses._checklist import Diagnosis as Diagnosis
from tfplaybook.studies._diagnoses._comparison import ComparisonFinding as ComparisonFinding
from tfplaybook.studies._diagnoses._comparison import ScientificValue as ScientificValue
from tfplaybook.studies._diagnoses._comparison import scientific_comparison as scientific_comparison
from tfplaybook.studies._diagnoses._finding import Finding as Finding
from tfplaybook.studies._diagnoses._importance import Importance as Importance
from tfplaybook.studies._diagnoses._importance import ImportanceFinding as ImportanceFinding
from tfplaybook.studies._diagnoses._importance import importance as importance
from tfplaybook.studies._diagnoses._infeasible import Edge as Edge
from tfplaybook.studies._diagnoses._infeasible import InfeasibleFinding as InfeasibleFinding
from tfplaybook.studies._diagnoses._infeasible import infeasible_fraction as infeasible_fraction
from tfplaybook.studies._diagnoses._infeasible import stability_edge as stability_edge
from tfplaybook.studies._diagnoses._length import max_train_steps as max_train_steps
from tfplaybook.studies._diagnoses._length import saturated_early as saturated_early
from tfplaybook.studies._diagnoses._length import still_improving as still_improving
from tfplaybook.studies._diagnoses._noise import enough_points as enough_points
from tfplaybook.studies._diagnoses._noise import late_variance as late_variance
from tfplaybook.studies._diagnoses._noise import objective_noise as objective_noise
from tfplaybook.studies._diagnoses._periodicity import periodicity as periodicity
from tfplaybook.studies._diagnoses._rises import overfitting as overfitting
from tfplaybook.studies._diagnoses._rises import overfitting_anywhere as overfitting_anywhere
from tfplaybook.studies._diagnoses._rises import training_loss_rising as training_loss_rising
from tfplaybook.studies._figures import SavedPlots as SavedPlots
from tfplaybook.studies._importance_plot import ImportanceBar as ImportanceBar
from tfplaybook.studies._importance_plot import draw_importance as draw_importance
from tfplaybook.studies._importance_plot import importance_bars as importance_bars
from tfplaybook.studies._importance_plot import plot_importance as plot_importance
from tfplaybook.studies._index import IndexEntry as IndexEntry
from tfplaybook.studies._index import StudyIndex as StudyIndex
from tfplaybook.studies._index import index as index
from tfplaybook.studies._isolation_plot import IsolationBucket as IsolationBucket
from tfplaybook.studies._isolation_plot import IsolationRecord as IsolationRecord
from tfplaybook.studies._isolation_plot import draw_isolation as draw_isolation
from tfplaybook.studies._isolation_plot import isolation_record as isolation_record
from tfplaybook.studies._isolation_plot import plot_isolation as plot_isolation
from tfplaybook.studies._load import load as load
from tfplaybook.studies._norms_plot import NormsRecord as NormsRecord
from tfplaybook.studies._norms_plot import draw_norms as draw_norms
from tfplaybook.studies._norms_plot import norms_record as norms_record
from tfplaybook.studies._norms_plot import plot_norms as plot_norms
from tfplaybook.studies._parallel_plot import ParallelLine as ParallelLine
from tfplaybook.studies._parallel_plot import ParallelRecord as ParallelRecord
from tfplaybook.studies._parallel_plot import draw_parallel as draw_parallel
from tfplaybook.studies._parallel_plot import parallel_record as parallel_record
from tfplaybook.studies._parallel_plot import plot_parallel as plot_parallel
from tfplaybook.studies._records import Hyperparameter as Hyperparameter
from tfplaybook.studies._records import Objective as Objective
from tfplaybook.studies._records import Study as Study
from tfplaybook.studies._records import Trial as Trial
from tfplaybook.studies._refine import Refinement as Refinement
from tfplaybook.studies._rows import from_records as from_records
from tfplaybook.studies._slice_plot import SlicePoint as SlicePoint
from tfplaybook.studies._slice_plot import SliceRecord as SliceRecord
from tfplaybook.studies._slice_plot import draw_slice as draw_slice
from tfplaybook.studies._slice_plot import plot_slice as plot_slice
from tfplaybook.studies._slice_plot import slice_record as slice_record
from tfplaybook.studies._tensorboard import TensorBoardLog as TensorBoardLog
from tfplaybook.studies._units import UnitAxis as UnitAxis
from tfplaybook.studies._variance_plot import VarianceRecord as VarianceRecord
from tfplaybook.studies._variance_plot import VarianceStrip as VarianceStrip
from tfplaybook.studies._variance_plot import draw_variance as draw_variance
from tfplaybook.studies._variance_plot import plot_variance as plot_variance
from tfplaybook.studies._variance_plot import variance_record as variance_record
