from .pairs import PairScore as PairScore
from .pairs import PairTable as PairTable
from .pairs import Through as Through
from .pairs import untrained_for as untrained_for
from .residual_spectrum import Spectrum as Spectrum
from .swap import Swap as Swap
