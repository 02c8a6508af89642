from .adapt import adapt as adapt
from .adapted import Adapted as Adapted
from .guard import AdaptMoment as AdaptMoment
from .hold import Hold as Hold
from .own_domain import OwnDomain as OwnDomain
from .own_domain import denoising as denoising
from .own_domain import naming as naming
from .own_domain import own_domain as own_domain
