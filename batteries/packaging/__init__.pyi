from .foreign_cell import Adoptable as Adoptable
from .foreign_cell import adoptable as adoptable
from .shared_figures import SharedFigures as SharedFigures
