from .similarity import Alignment as Alignment
from .similarity import FewSamplesWarning as FewSamplesWarning
from .similarity import fit as fit
