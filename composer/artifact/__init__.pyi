from . import kinds as kinds
from .form import ArtifactForm as ArtifactForm
from .manifest import PackedLabel as PackedLabel
from .maps.document import SavedMaps as SavedMaps
from .maps.manifest import MapsManifest as MapsManifest
from .model.document import Artifact as Artifact
from .model.manifest import ModelManifest as ModelManifest
