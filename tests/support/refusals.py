"""Texts and pickles that would cost a reader much more than their bytes; as a program, what refusing them costs.

python -m tests.support.refusals KIND NAME BYTES   # one refusal: code, seconds of the processor, growth of the peak memory
python -m tests.support.refusals --write           # all of them, each in a process of its own: docs/results/refusals.md
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support import pickles

ROOT = Path(__file__).parents[2]
ATTACKS = {
    "empty lists": lambda n: b"[" + b"[]," * (n // 3) + b"[]]",
    "nesting": lambda n: b"[" * n,
    "numbers": lambda n: b"[" + b"1," * (n // 2) + b"1]",
    "words": lambda n: b"[" + b'"a",' * (n // 4) + b'"a"]',
    "longer words": lambda n: b"[" + b'"abcdefghijklmnopq",' * (n // 20) + b'"a"]',
    "unknown keys": lambda n: b"{" + b",".join(b'"k%015d":1' % i for i in range(n // 21)) + b"}",
    "one key": lambda n: b"{" + b'"k":1,' * (n // 6) + b'"k":1}',
    "wrong entries": lambda n: b'{"cells":{' + b",".join(b'"k%040d":1' % i for i in range(n // 46)) + b"}}",
    "text": lambda n: b'{"schema_version":"' + b"x" * n + b'"}',
    "escapes": lambda n: b'{"schema_version":"' + b"\\u0041" * (n // 6) + b'"}',
    "digits": lambda n: b"[" + b"9" * n + b"]",
    "spaces": lambda n: b" " * n,
    "an open string": lambda n: b'"' + b"\\" * n,
    "depth and text": lambda n: b'{"a":' * 15 + b'"' + b"x" * n + b'"' + b"}" * 15,
}
TOML = {
    "a dotted key": lambda n: b"a." * (n // 2) + b"a=1",
    "a dotted header": lambda n: b"[" + b"a." * (n // 2) + b"a]",
    "brackets": lambda n: b"a=" + b"[" * n,
    "tables in tables": lambda n: b"a=" + b"{a=" * (n // 3),
    "digits": lambda n: b"a=" + b"9" * n,
    "numbers": lambda n: b"a=[" + b"1," * (n // 2) + b"]",
    "tables": lambda n: b"".join(b"[t%07d]\n" % i for i in range(n // 11)),
    "an open string": lambda n: b"a='" + b"x" * n,
}
LARGEST, SMALLER = 2**26 - 2**12, 2**22  # an index may have 64 MiB
TEXT = 2**20  # a program, a composition, and what is beside a shelf
HEAD = """# What a refusal costs

Written by `python -m tests.support.refusals --write`: readers of this package on input made to cost them much more than its
bytes, each in a process of its own. *seconds* are those of the processor, *memory* the growth of the peak over that of refusing
a few bytes. The bounds are 1 s, and four times the input plus 64 MiB.
"""


def refused(kind, name, size):
    """Refuse one input, and return what that took."""
    if kind == "JSON":
        from batteries.io.canonical_json import load_document
        from registry.catalog.index import SealedIndex

        data, little = ATTACKS[name](size), b"{}"
        read = lambda text: load_document(SealedIndex, text, where="", limit=2**26)  # noqa: E731
    elif kind == "TOML":
        from batteries.io.texts import toml_text

        data, little = TOML[name](size), b"["
        read = lambda text: toml_text.parse(text, where="", limit=2**22)  # noqa: E731
    else:
        from batteries.packaging import foreign_checkpoint

        data, little = pickles.ATTACKS[name], pickles.archive(b"\x80\x04N.")
        place = Path(tempfile.mkdtemp()) / "a.pt"

        def read(content):
            place.write_bytes(content)
            return foreign_checkpoint.read(place)

    from batteries.errors import BatteriesError

    for content in (little, data):  # the first makes all that is made once
        before, since, code = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time(), "read"
        try:
            read(content)
        except BatteriesError as error:
            code = error.code
    spent, peak = time.process_time() - since, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"code": code, "seconds": spent, "memory": (peak - before) * 1024, "bytes": len(data)}


def in_a_process(kind, name, size):
    words = [sys.executable, "-m", "tests.support.refusals", kind, name, str(size)]
    return json.loads(subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=True).stdout)


def page():
    cases = [("JSON", name, size) for size in (LARGEST, SMALLER) for name in ATTACKS]
    cases += [("TOML", name, TEXT) for name in TOML] + [("pickle", name, 0) for name in pickles.ATTACKS]
    rows = ["| reader | input | bytes | refused as | seconds | memory |", "|---|---|---|---|---|---|"]
    for kind, name, size in cases:
        found = in_a_process(kind, name, size)
        bound = 4 * found["bytes"] + 2**26
        over = " **over**" if found["seconds"] > 1 or found["memory"] > bound else ""
        figures = f"{found['seconds']:.2f} | {found['memory'] / 2**20:.0f} MiB{over}"
        rows.append(f"| {kind} | {name} | {found['bytes']:,} | {found['code']} | {figures} |")
    return HEAD + "\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        (ROOT / "docs" / "results" / "refusals.md").write_text(page())
    else:
        print(json.dumps(refused(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
