"""Input pipelines for TensorFlow: the stages in the right order, resumable at any step.

`training_pipeline` is endless and its order is a pure function of (seed, epoch, step);
`evaluation_pipeline` is one pass whose padded last batch changes no *weighted* result: pass metrics
as `compile(weighted_metrics=[...])`. Both are `tf.data.Dataset`s, so `keras.Model.fit` and
`evaluate` take them as they are. `profile`, `lint` and `optimize` serve any `tf.data.Dataset`.
"""

from pipelines._array_records import ArrayRecordFiles as ArrayRecordFiles
from pipelines._cache import OfflineCache as OfflineCache
from pipelines._describe import describe as describe
from pipelines._evaluation import EvaluationPipeline as EvaluationPipeline
from pipelines._evaluation import evaluation_pipeline as evaluation_pipeline
from pipelines._host import Host as Host
from pipelines._images import ImageFolders as ImageFolders
from pipelines._jpeg import decode_and_center_crop as decode_and_center_crop
from pipelines._jpeg import decode_and_random_crop as decode_and_random_crop
from pipelines._jpeg import decode_and_random_resized_crop as decode_and_random_resized_crop
from pipelines._lint import Finding as Finding
from pipelines._lint import lint as lint
from pipelines._offline import cache_offline as cache_offline
from pipelines._optimize import Optimization as Optimization
from pipelines._optimize import Trial as Trial
from pipelines._optimize import optimize as optimize
from pipelines._pipeline_profile import Bottleneck as Bottleneck
from pipelines._pipeline_profile import PipelineProfile as PipelineProfile
from pipelines._pipeline_profile import StageProfile as StageProfile
from pipelines._profile import profile as profile
from pipelines._records import TFRecordFiles as TFRecordFiles
from pipelines._remedies import Remedy as Remedy
from pipelines._service import Service as Service
from pipelines._service import serve as serve
from pipelines._service import serve_workers as serve_workers
from pipelines._service import through_service as through_service
from pipelines._step_cost import StepComparison as StepComparison
from pipelines._tfds import open_tfds as open_tfds
from pipelines._training import TrainingPipeline as TrainingPipeline
from pipelines._training import training_pipeline as training_pipeline
