from .figures import Definition as Definition
from .figures import Figure as Figure
from .figures import estimated as estimated
from .figures import jackknifed as jackknifed
from .stages import Stages as Stages
from .stages import stages as stages
