"""Readers of the Hub's answers: what a revision is, its branches and tags, and pages of files."""

from collections.abc import Callable
from functools import partial

from batteries import HubRepository
from batteries.network.transport import Answer
from tests.support.readers.reader import Reader, dumped, plain

COMMIT = "0123456789abcdef" * 2 + "01234567"
REVISION = {"id": "lab/cells", "sha": COMMIT, "private": False, "tags": []}
REFS = {
    "branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT}],
    "converts": [],
    "tags": [{"name": "v1", "ref": "refs/tags/v1", "targetCommit": COMMIT}],
}
FILES = [
    {"type": "file", "path": "index.json", "size": 900, "oid": "1" * 40},
    {"type": "directory", "path": "blobs", "size": 0, "oid": "2" * 40},
    {"type": "file", "path": "blobs/a", "size": 10, "oid": "3" * 40, "lfs": {"oid": "4" * 64, "size": 900, "pointerSize": 130}},
]


class Told:
    """A transport that has one answer."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def get(self, path: str, **limits: object) -> Answer:
        link = {"link": self._body[:200].decode("latin-1")} if "cursor" in path else {}
        return Answer(200, link, self._body, "http://localhost")

    def close(self) -> None:
        pass


def answers(ask: Callable[[HubRepository], object], revision: str, good: object) -> Reader:
    """A repository that is asked something, and told a mutant of the good answer."""

    def read(data: bytes) -> bytes:
        repository = HubRepository("lab/cells", revision=revision, endpoint="http://localhost:1")
        vars(repository)["_transport"] = Told(data)  # no socket: a hundred thousand answers a minute
        ask(repository)
        return data

    return Reader(dumped(good), plain, dumped, read)


ANSWERS: dict[str, Callable[[], Reader]] = {
    "the Hub's answer: a revision": partial(answers, HubRepository.resolve, "main", REVISION),
    "the Hub's answer: branches and tags": partial(answers, HubRepository.resolve, "v1", REFS),
    "the Hub's answer: files": partial(answers, lambda repository: repository.tree(COMMIT), "main", FILES),
}
