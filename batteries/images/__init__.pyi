from .image_batch import ScaleWarning as ScaleWarning
from .image_files import files as files
from .image_reader import ReadImage as ReadImage
from .image_reader import load as load
from .image_reader import stream as stream
from .rescaling import from_input as from_input
from .rescaling import to_input as to_input
