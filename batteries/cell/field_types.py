"""Types of the fields of documents. Does not import torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from batteries.io.canonical_json import DIGEST

MAX_BLOB = 4 * 2**30  # the largest artifact of any kind

Sha256 = Annotated[str, Field(pattern=f"^{DIGEST.pattern}$")]
Text = Annotated[str, Field(max_length=2000)]
Size = Annotated[int, Field(gt=0, le=MAX_BLOB)]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
