from .program import app as app
from .program import main as main
from .program import run as run
