"""Outputs of a composition for a batch of images: those of its cells, and of its nodes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.fx import Node
from torch.fx.proxy import TracerBase

from batteries import short_repr
from batteries.engine import pytrees
from batteries.errors import UnknownKeyError
from batteries.lookup import Lookup
from batteries.text import listed
from composer.alignment.relay import Relayed
from composer.container.outputs import CellOutput, ContainerOutput
from composer.wiring.route import Routed


class Together(Mapping[str, Any]):
    """Output of a parallel node for a batch: the outputs of its branches, by name and in order."""

    def __init__(self, outputs: Mapping[str, Any]) -> None:
        self._outputs = dict(outputs)

    def __getitem__(self, name: str) -> Any:
        return _named(self._outputs, name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._outputs

    def __repr__(self) -> str:
        return short_repr.headed(self, listed(list(self._outputs)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def __fx_create_arg__(self, tracer: TracerBase) -> Node:
        """Create the node of a torch.fx graph that returns this output."""
        return tracer.create_node("call_function", Together, (tracer.create_arg(self._outputs),), {})


NodeOutput = CellOutput | Relayed | Routed | Together


@dataclass(frozen=True, eq=False)
class WiredOutput(Lookup[NodeOutput]):
    """Output of a wired model for a batch: a mapping of the outputs of cells, then of nodes, by name.

    Attributes:
        cells: Output of every cell.
        nodes: Output of every node, by name.
        output: Output of the composition's output node or cell.

    >>> import batteries, composer, registry
    >>> references = {"noise": "low/johanna-64", "photo": "low/fresnel-64"}
    >>> nodes = {"best": composer.Route(of=("noise", "photo"))}
    >>> composition = composer.Composition(schema_version="1.0", output="best", cells=references, nodes=nodes)
    >>> wired = composer.wire(dict(zip(references, registry.pull(*references.values()), strict=True)), composition)
    >>> out = wired(batteries.probe("photos-64").images[:4])
    >>> out["best"].choice.shape, out["photo"].recon.shape
    (torch.Size([4, 16]), torch.Size([4, 3, 64, 64]))
    """

    cells: ContainerOutput
    nodes: Mapping[str, NodeOutput]
    output: NodeOutput

    def __getitem__(self, name: str) -> NodeOutput:
        """Return the output of a cell or node.

        Raises:
            NotFoundError: unknown name (``NO_CELL``).
        """
        return _named({**self.cells, **self.nodes}, name)

    def __contains__(self, name: object) -> bool:
        return name in self.cells or (isinstance(name, str) and name in self.nodes)

    def __iter__(self) -> Iterator[str]:
        return itertools.chain(self.cells, self.nodes)

    def __len__(self) -> int:
        return len(self.cells) + len(self.nodes)

    def __repr__(self) -> str:
        head = f"WiredOutput({short_repr.counted(len(self.cells), 'cell')}, {short_repr.counted(len(self.nodes), 'node')})"
        return short_repr.rows(head, [*repr(self.cells).splitlines()[1:], *(f"{n}: {o!r}" for n, o in self.nodes.items())])

    @property
    def omega(self) -> tuple[Tensor, ...]:
        """Omega of every cell, see :class:`ContainerOutput`."""
        return self.cells.omega

    @property
    def patch_error(self) -> tuple[Tensor, ...]:
        """Patch errors of every cell, see :class:`ContainerOutput`."""
        return self.cells.patch_error

    @property
    def recon(self) -> Tensor:
        """Reconstructions of every cell, see :class:`ContainerOutput`; for a node use ``out[name].recon``."""
        return self.cells.recon

    @property
    def error(self) -> Tensor:
        """Errors of every cell, see :class:`ContainerOutput`."""
        return self.cells.error

    @property
    def relative_error(self) -> Tensor:
        """Relative errors of every cell, see :class:`ContainerOutput`."""
        return self.cells.relative_error


pytrees.register(Together, lambda made: ([dict(made)], ()), Together)
pytrees.register(WiredOutput, lambda made: ([made.cells, dict(made.nodes), made.output], ()), WiredOutput)


def _named(outputs: Mapping[str, Any], name: str) -> Any:
    if not isinstance(name, str) or name not in outputs:
        raise UnknownKeyError("no such cell or node", code="NO_CELL", expected=" | ".join(outputs), found=name)
    return outputs[name]
