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
from tfplaybook.studies._curves_plot import CurveLine as CurveLine
from tfplaybook.studies._curves_plot import CurvesRecord as CurvesRecord
from tfplaybook.studies._curves_plot import curves_record as curves_record
from tfplaybook.studies._curves_plot import draw_curves as draw_curves
from tfplaybook.studies._curves_plot import plot_curves as plot_curves
from tfplaybook.studies._load import load as load
from tfplaybook.studies._records import Hyperparameter as Hyperparameter
from tfplaybook.studies._records import Objective as Objective
from tfplaybook.studies._records import Study as Study
from tfplaybook.studies._records import Trial as Trial
from tfplaybook.studies._rows import from_records as from_records
