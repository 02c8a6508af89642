from . import document as document
from . import file as file
from . import reader as reader
