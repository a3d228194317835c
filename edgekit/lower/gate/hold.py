"""What every hop of the gate is held by, and the quiet that toolkits are run in."""

import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from edgekit.lower.gate import parity
from edgekit.lower.gate.parity import Limits, Probe
from edgekit.lower.gate.taps import LayerSnr
from edgekit.manifest import Hop

SHOWN = 2
"""Images that the layers of a hop which holds are compared on, for the report."""


@dataclass(slots=True)
class Gate:
    """What all hops are held by, and what they gave so far."""

    probe: Probe
    trained: bool
    hops: list[Hop] = field(default_factory=list)
    layers: dict[str, Sequence[LayerSnr]] = field(default_factory=dict)

    def hold(
        self,
        name: str,
        answers: tuple[np.ndarray, np.ndarray],
        limits: Limits,
        edge_limits: Limits,
        layers: parity.LayersOn,
    ) -> Hop:
        """See `parity.hold`; `answers` are those before and after the hop."""
        limits = parity.judged(limits, self.trained)
        hop = parity.hold(name, self.probe, *answers, limits, edge_limits, layers)
        self.hops.append(hop)
        return hop

    def fork(self) -> "Gate":
        """One that goes on from here by itself."""
        return Gate(self.probe, self.trained, list(self.hops), dict(self.layers))

    def show(self, name: str, layers: parity.LayersOn) -> None:
        """Keep the layers of a hop that holds."""
        self.layers[name] = layers(self.probe.real[:SHOWN])


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch adds up in an order that depends on its threads; a bundle's bytes must not."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Toolkits warn and print progress, from Python and from C++: keep both streams clear."""
    saved = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as log, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            yield
        finally:
            for stream, descriptor in zip((1, 2), saved, strict=True):
                os.dup2(descriptor, stream)
                os.close(descriptor)
