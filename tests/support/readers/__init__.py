"""Every reader of untrusted bytes, by name. A reader is made when it is first asked for."""

from functools import cache

from tests.support.readers.checkpoints import CHECKPOINTS
from tests.support.readers.documents import DOCUMENTS
from tests.support.readers.hub import ANSWERS
from tests.support.readers.reader import Reader
from tests.support.readers.sealed_files import SEALED
from tests.support.readers.tables import TABLES

READERS = {**DOCUMENTS, **SEALED, **TABLES, **CHECKPOINTS, **ANSWERS}


@cache
def reader(name: str) -> Reader:
    return READERS[name]()
