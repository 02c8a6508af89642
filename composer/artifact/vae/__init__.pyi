from . import document as document
from . import file as file
