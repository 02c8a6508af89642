"""The repositories of a local Hub: branches, tags and commits in memory, and the answer to each request of its HTTP interface.

Nothing here knows of sockets or of faults: a request goes in, a :class:`Reply` comes out.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = 10 * 2**20  # bytes from which a file is kept apart even where it is text
TOKEN = "hf_local"
REPO = r"(?P<repo>[^/]+/[^/]+)"
REVISION = r"(?P<revision>[^/]+)"
ROUTES = [
    ("create", "POST", r"/api/repos/create"),
    ("whoami", "GET", r"/api/whoami-v2"),
    ("yaml", "POST", r"/api/validate-yaml"),
    ("tree", "GET", rf"/api/models/{REPO}/tree/{REVISION}"),
    ("refs", "GET", rf"/api/models/{REPO}/refs"),
    ("preupload", "POST", rf"/api/models/{REPO}/preupload/{REVISION}"),
    ("commit", "POST", rf"/api/models/{REPO}/commit/{REVISION}"),
    ("tag", "POST", rf"/api/models/{REPO}/tag/{REVISION}"),
    ("untag", "DELETE", rf"/api/models/{REPO}/tag/{REVISION}"),
    ("info", "GET", rf"/api/models/{REPO}(?:/revision/{REVISION})?"),
    ("batch", "POST", rf"/{REPO}\.git/info/lfs/objects/batch"),
    ("upload", "PUT", r"/__lfs/(?P<digest>[0-9a-f]{64})"),
    ("verify", "POST", r"/__verify/(?P<digest>[0-9a-f]{64})"),
    ("storage", "GET", r"/__lfs/(?P<digest>[0-9a-f]{64})"),
    ("head", "HEAD", rf"/{REPO}/resolve/{REVISION}/(?P<path>.+)"),
    ("file", "GET", rf"/{REPO}/resolve/{REVISION}/(?P<path>.+)"),
]
WRITES = {"create", "preupload", "commit", "tag", "untag", "batch", "verify"}


@dataclass
class Reply:
    """What goes back."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, value, status=200, **headers):
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})

    @classmethod
    def error(cls, status, code, message):
        return cls.of({"error": message}, status, **{"X-Error-Code": code, "X-Error-Message": message})


@dataclass(frozen=True)
class Commit:
    """One state of a repository."""

    id: str
    parent: str | None
    message: str
    files: Mapping[str, bytes]
    large: frozenset[str]  # paths of files that are kept apart


@dataclass
class Repository:
    """Branches and tags point at commits."""

    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)

    def resolve(self, revision: str) -> Commit | None:
        return self.commits.get(self.branches.get(revision) or self.tags.get(revision) or revision)

    def add(self, branch, files, message, *, large=frozenset()) -> Commit:
        """A commit on top of a branch; ``None`` for a file removes it."""
        parent = self.branches.get(branch)
        before = self.commits[parent] if parent else Commit("", None, "", {}, frozenset())
        after = {path: data for path, data in {**before.files, **files}.items() if data is not None}
        kept_apart = (before.large - files.keys() | large) & after.keys()
        names = [(path, hashlib.sha256(data).hexdigest()) for path, data in sorted(after.items())]
        identity = hashlib.sha1(json.dumps([parent, message, names]).encode()).hexdigest()
        commit = self.commits[identity] = Commit(identity, parent, message, after, frozenset(kept_apart))
        self.branches[branch] = identity
        return commit


def git_digest(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Repositories:
    """Every repository, and what each request does to them.

    Attributes:
        page: Entries in one page of a tree.
        tokens: Who may write.
        storage: Origin that large files are redirected to; None serves them in place.
    """

    def __init__(self, *, page: int = 1000) -> None:
        self.page = page
        self.tokens = {TOKEN}
        self.storage: str | None = None
        self.origin = ""
        self.repositories: dict[str, Repository] = {}
        self._large: dict[str, bytes] = {}
        self._lock = threading.RLock()

    # What tests do and look at without HTTP.

    def repository(self, repo_id: str) -> Repository:
        return self.repositories[repo_id]

    def head(self, repo_id: str, branch: str = "main") -> Commit:
        repository = self.repositories[repo_id]
        return repository.commits[repository.branches[branch]]

    def history(self, repo_id: str, branch: str = "main") -> list[Commit]:
        """From the newest commit to the first."""
        commits, at = self.repositories[repo_id].commits, self.head(repo_id, branch)
        found = [at]
        while at.parent:
            found.append(at := commits[at.parent])
        return found

    def write(
        self, repo_id: str, files: Mapping[str, bytes | None], *, branch: str = "main", message: str = "by hand"
    ) -> Commit:
        """A commit by somebody else."""
        with self._lock:
            if repo_id not in self.repositories:
                self._new(repo_id)
            large = frozenset(path for path, data in files.items() if data is not None and _is_large(data, len(data)))
            return self.repositories[repo_id].add(branch, files, message, large=large)

    # What a request does.

    def route(self, method: str, path: str) -> tuple[str, dict[str, str]]:
        """The kind of a request, and the parts of its path, unquoted."""
        for kind, wanted, pattern in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method == wanted:
                return kind, {name: unquote(text) for name, text in found.groupdict().items() if text is not None}
        return "unknown", {}

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """The reply to a request, without any fault."""
        url = urlsplit(target)
        kind, parts = self.route(method, url.path)
        if kind == "unknown":
            return Reply.error(404, "", f"no such route: {method} {url.path}")
        refused = self._refuse(kind, parts, headers)
        if refused:
            return refused
        with self._lock:
            reply = getattr(self, f"_{kind}")(parts, parse_qs(url.query), body)
        return _ranged(reply, headers.get("Range")) if kind in ("file", "storage") and reply.status == 200 else reply

    def _refuse(self, kind, parts, headers) -> Reply | None:
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.tokens:
            return Reply.error(401, "", "Invalid credentials in Authorization header")
        if kind in WRITES | {"whoami"} and not token:
            return Reply.error(401, "", "Invalid username or password.")
        if "repo" not in parts:
            return None
        repository = self.repositories.get(parts["repo"])
        if repository is None or (repository.private and not token):
            return Reply.error(404 if token else 401, "RepoNotFound", "Repository not found")
        if "revision" in parts and not repository.resolve(parts["revision"]):
            return Reply.error(404, "RevisionNotFound", f"Invalid rev id: {parts['revision']}")
        return None

    def _new(self, repo_id, *, private=False):
        self.repositories[repo_id] = Repository(private)
        self.repositories[repo_id].add("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")

    def _create(self, parts, query, body):
        asked = json.loads(body)
        repo_id = f"{asked['organization'] or 'local'}/{asked['name']}"
        url = {"url": f"{self.origin}/{repo_id}"}
        if repo_id in self.repositories:
            return Reply.of({**url, "error": "You already created this model repo"}, 409)
        self._new(repo_id, private=asked.get("visibility") == "private")
        return Reply.of(url)

    def _whoami(self, parts, query, body):
        return Reply.of({"name": "local", "type": "user"})

    def _yaml(self, parts, query, body):
        content = json.loads(body)["content"]
        if not content.startswith("---\n") or "\n---\n" not in content[4:]:
            return Reply.of({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
        return Reply.of({"errors": [], "warnings": []})

    def _info(self, parts, query, body):
        repository = self.repositories[parts["repo"]]
        commit = repository.resolve(parts.get("revision", "main"))
        fields = {"id": parts["repo"], "sha": commit.id}
        if "expand" in query:
            return Reply.of(fields)
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        return Reply.of({**fields, "private": repository.private, "tags": [], "siblings": siblings})

    def _tree(self, parts, query, body):
        commit = self.repositories[parts["repo"]].resolve(parts["revision"])
        start = int(query.get("cursor", ["0"])[0])
        entries = [_entry(commit, path) for path in sorted(commit.files)]
        reply = Reply.of(entries[start : start + self.page])
        if start + self.page < len(entries):
            base = f"{self.origin}/api/models/{parts['repo']}/tree/{parts['revision']}"
            reply.headers["Link"] = f'<{base}?recursive=true&expand=false&cursor={start + self.page}>; rel="next"'
        return reply

    def _refs(self, parts, query, body):
        repository = self.repositories[parts["repo"]]
        branches = [_ref(name, "heads", commit) for name, commit in repository.branches.items()]
        tags = [_ref(name, "tags", commit) for name, commit in repository.tags.items()]
        return Reply.of({"branches": branches, "converts": [], "tags": tags})

    def _preupload(self, parts, query, body):
        commit = self.repositories[parts["repo"]].resolve(parts["revision"])
        ignored = commit.files.get(".gitignore", b"").decode().split()
        return Reply.of({"files": [_mode(commit, ignored, file) for file in json.loads(body)["files"]]})

    def _batch(self, parts, query, body):
        objects = [self._upload_action(wanted) for wanted in json.loads(body)["objects"]]
        return Reply.of({"transfer": "basic", "objects": objects})

    def _upload_action(self, wanted):
        if wanted["oid"] in self._large:
            return wanted
        upload, verify = (f"{self.origin}/__{what}/{wanted['oid']}" for what in ("lfs", "verify"))
        return {**wanted, "actions": {"upload": {"href": upload}, "verify": {"href": verify}}}

    def _upload(self, parts, query, body):
        if hashlib.sha256(body).hexdigest() != parts["digest"]:
            return Reply.error(400, "", "other bytes than announced")
        self._large[parts["digest"]] = body
        return Reply()

    def _verify(self, parts, query, body):
        held = self._large.get(parts["digest"])
        right = held is not None and len(held) == json.loads(body)["size"]
        return Reply.of({}) if right else Reply.error(404, "", "not uploaded")

    def _commit(self, parts, query, body):
        repository = self.repositories[parts["repo"]]
        branch = parts["revision"]
        if branch not in repository.branches:
            return Reply.error(400, "", "not a branch")
        lines = [json.loads(line) for line in body.splitlines()]
        header, changes = lines[0]["value"], lines[1:]
        parent = header.get("parentCommit")
        if parent is not None and parent != repository.branches[branch]:
            return Reply.error(412, "", "A commit has happened since. Please refresh and try again.")
        files, large = {}, set()
        for change in changes:
            path = change["value"]["path"]
            match change["key"]:
                case "file":
                    files[path] = base64.b64decode(change["value"]["content"])
                case "lfsFile":
                    if change["value"]["oid"] not in self._large:
                        return Reply.error(400, "", f"{path} was not uploaded")
                    files[path] = self._large[change["value"]["oid"]]
                    large.add(path)
                case "deletedFile":
                    files[path] = None
        commit = repository.add(branch, files, header["summary"], large=frozenset(large))
        return Reply.of(
            {"success": True, "commitOid": commit.id, "commitUrl": f"{self.origin}/{parts['repo']}/commit/{commit.id}"}
        )

    def _tag(self, parts, query, body):
        repository, tag = self.repositories[parts["repo"]], json.loads(body)["tag"]
        if tag in repository.tags:
            return Reply.error(409, "", "Tag reference exists already")
        repository.tags[tag] = repository.resolve(parts["revision"]).id
        return Reply.of({})

    def _untag(self, parts, query, body):
        del self.repositories[parts["repo"]].tags[parts["revision"]]
        return Reply.of({})

    def _storage(self, parts, query, body):
        held = self._large.get(parts["digest"])
        return Reply.error(404, "", "no such object") if held is None else Reply(body=held)

    def _head(self, parts, query, body):
        return self._file(parts, query, body)

    def _file(self, parts, query, body):
        commit = self.repositories[parts["repo"]].resolve(parts["revision"])
        data = commit.files.get(parts["path"])
        if data is None:
            missing = Reply.error(404, "EntryNotFound", "Entry not found")
            missing.headers["X-Repo-Commit"] = commit.id
            return missing
        large = parts["path"] in commit.large
        digest = hashlib.sha256(data).hexdigest() if large else git_digest(data)
        headers = {"X-Repo-Commit": commit.id, "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
        if large:
            headers |= {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{digest}"'}
            self._large[digest] = data
        if large and self.storage:
            return Reply(302, b"", {**headers, "Location": f"{self.storage}/__lfs/{digest}"})
        return Reply(200, data, headers)


def _is_large(sample: bytes, size: int) -> bool:
    return b"\0" in sample[:512] or size > LARGE


def _entry(commit, path):
    data = commit.files[path]
    entry = {"type": "file", "path": path, "size": len(data), "oid": git_digest(data)}
    if path in commit.large:
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry


def _mode(commit, ignored, file):
    path = file["path"]
    large = path.endswith(".safetensors") or _is_large(base64.b64decode(file["sample"]), file["size"])
    found = {"path": path, "uploadMode": "lfs" if large else "regular"}
    found["shouldIgnore"] = any(fnmatch(path, rule) or path.startswith(rule) for rule in ignored)
    if path in commit.files:
        data = commit.files[path]
        found["oid"] = hashlib.sha256(data).hexdigest() if path in commit.large else git_digest(data)
    return found


def _ref(name, folder, commit):
    return {"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": commit}


def _ranged(reply, wanted):
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "")
    if not found:
        return reply
    size = len(reply.body)
    start, end = int(found[1]), min(int(found[2] or size), size - 1)
    if start >= size:
        return Reply(416, b"", {"Content-Range": f"bytes */{size}"})
    reply.headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    return Reply(206, reply.body[start : end + 1], reply.headers)
