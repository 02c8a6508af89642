"""What a composition makes of a batch of images: the outputs of its cells, and of its nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.fx import Node
from torch.fx.proxy import TracerBase

from batteries.engine import pytrees
from batteries.errors import NotFoundError
from composer.alignment.relay import Relayed
from composer.container.outputs import CellOutput, ContainerOutput
from composer.wiring.route import Routed


class Together(Mapping[str, Any]):
    """What a parallel node makes of a batch: the outputs of its branches, by name and in order."""

    def __init__(self, outputs: Mapping[str, Any]) -> None:
        self._outputs = dict(outputs)

    def __getitem__(self, name: str) -> Any:
        return _named(self._outputs, name)

    def __contains__(self, name: object) -> bool:
        return name in self._outputs

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def __fx_create_arg__(self, tracer: TracerBase) -> Node:
        """As torch.fx writes it into a graph that returns it."""
        return tracer.create_node("call_function", Together, (tracer.create_arg(self._outputs),), {})


NodeOutput = CellOutput | Relayed | Routed | Together


@dataclass(frozen=True, eq=False)
class WiredOutput:
    """What a wired model makes of a batch.

    Attributes:
        cells: Every cell's output.
        nodes: Every node's, by name.
        output: That of the composition's output.

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
        """Output of a cell or of a node.

        Raises:
            NotFoundError: no such name (``NO_CELL``).
        """
        return _named({**self.cells, **self.nodes}, name)

    @property
    def omega(self) -> tuple[Tensor, ...]:
        """Of every cell, as of :class:`ContainerOutput`."""
        return self.cells.omega

    @property
    def patch_error(self) -> tuple[Tensor, ...]:
        """Of every cell, as of :class:`ContainerOutput`."""
        return self.cells.patch_error

    @property
    def recon(self) -> Tensor:
        """Of every cell, as of :class:`ContainerOutput`; a node's own is ``output.recon`` or ``out[name].recon``."""
        return self.cells.recon

    @property
    def error(self) -> Tensor:
        """Of every cell, as of :class:`ContainerOutput`."""
        return self.cells.error

    @property
    def relative_error(self) -> Tensor:
        """Of every cell, as of :class:`ContainerOutput`."""
        return self.cells.relative_error


pytrees.register(Together, lambda made: ([dict(made)], ()), Together)
pytrees.register(WiredOutput, lambda made: ([made.cells, dict(made.nodes), made.output], ()), WiredOutput)


def _named(outputs: Mapping[str, Any], name: str) -> Any:
    if name not in outputs:
        raise NotFoundError("no such cell or node", code="NO_CELL", expected=" | ".join(outputs), found=name)
    return outputs[name]
