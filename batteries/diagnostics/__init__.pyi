from .figures import Definition as Definition
from .figures import Figure as Figure
from .figures import estimated as estimated
from .figures import jackknifed as jackknifed
from .pipeline import Stages as Stages
from .pipeline import stages as stages
