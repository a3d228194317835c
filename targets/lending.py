"""Lending a session's input memory: the one rule that every backend keeps (`spec.Session.run`)."""

import weakref
from collections.abc import Mapping

import numpy as np

from edgekit.errors import SpecError
from edgekit.spec import Fill


def lend_buffers(buffers: Mapping[str, np.ndarray], fill: Fill) -> None:
    """Lend arrays that outlive the call, by name; see `lend`."""
    # Over a memoryview: a slice of such a view keeps the view alive, which is seen in `lend`.
    lend({name: np.asarray(buffer.data) for name, buffer in buffers.items()}, fill)


def lend(views: dict[str, np.ndarray], fill: Fill) -> None:
    """Let `fill` write into `views`, and see that it keeps none of them.

    The same rule on every backend, though only LiteRT cannot run while a view is alive.

    Args:
        views: of the input memory, by name; nobody else may hold them. Emptied.
        fill: the caller's.

    Raises:
        SpecError: `fill` kept one of the views.
    """
    lent = {name: weakref.ref(view) for name, view in views.items()}
    try:
        fill(views)
    finally:
        views.clear()
    kept = [name for name, view in lent.items() if view() is not None]
    if kept:
        raise SpecError(
            f"fill kept a view of the input '{kept[0]}' after it returned; "
            "write into it, and copy what is needed later"
        )
