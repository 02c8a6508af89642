from .foreign_cell import Adoptable as Adoptable
from .foreign_cell import adoptable as adoptable
from .foreign_checkpoint import opened as opened
from .shared_figures import SharedFigures as SharedFigures
