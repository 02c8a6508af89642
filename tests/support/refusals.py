"""Texts of JSON that cost a reader much more than their bytes; as a program, what refusing one costs.

python -m tests.support.refusals NAME BYTES   # prints the code of the refusal, seconds, and growth of the peak memory in bytes
"""

import json
import resource
import sys
import time

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


def main(name: str, size: int) -> None:
    from batteries.errors import FormatError
    from batteries.io.canonical_json import load_document
    from registry.catalog.index import SealedIndex

    data = ATTACKS[name](size)
    for text in (b"{}", data):  # the first makes all that is made once
        before, since, code = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time(), ""
        try:
            load_document(SealedIndex, text, where="", limit=2**26)
        except FormatError as error:
            code = error.code
    spent, peak = time.process_time() - since, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"code": code, "seconds": spent, "memory": (peak - before) * 1024, "bytes": len(data)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
