"""What a partitioner took, what it left, and the reasons that it gave."""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import fx

CAST = "no delegate turns uint8 into float"
"""The one reason that needs no asking: the camera's pixels."""


@contextmanager
def reasons() -> Iterator[dict[str, str]]:
    """While the block lasts, collects why XNNPACK's partitioner refuses a node, by its name."""
    found: dict[str, str] = {}

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            refusal: Any = record.msg  # a WhyNoPartition, where it is about a node
            if isinstance(getattr(refusal, "node", None), fx.Node):
                found.setdefault(refusal.node.name, str(refusal.reason))

    logger = logging.getLogger("executorch.backends.xnnpack")
    level, propagate, handler = logger.level, logger.propagate, Collect()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def account(name: str, graph: fx.GraphModule, refusals: dict[str, str]) -> str:
    """One sentence: how many operators the delegate runs, in how many parts, and what is left.

    Args:
        name: of the delegate, for people.
        graph: of the lowered edge program.
        refusals: as `reasons` collected them.
    """
    inside = parts = 0
    left: Counter[str] = Counter()
    for node in graph.graph.nodes:
        if node.op == "get_attr" and hasattr(module := getattr(graph, node.target), "backend_id"):
            parts += 1
            inside += sum(map(_computes, module.original_module.graph_module.graph.nodes))
        elif node.op == "call_function" and _computes(node):
            why = CAST if _takes_pixels(node) else refusals.get(node.name, "")
            left[f"{_operator(node)} ({why})" if why else _operator(node)] += 1
    total = inside + sum(left.values())
    plural = "s" if parts != 1 else ""
    rest = "; ".join(f"{n} {text}" for text, n in sorted(left.items()))
    return f"ExecuTorch: {name} runs {inside} of {total} operators in {parts} partition{plural}" + (
        f"; left to portable kernels: {rest}" if rest else ""
    )


def _computes(node: fx.Node) -> bool:
    """Whether it is an operator of the network; quantisation belongs to the ones beside it."""
    text = str(getattr(node.target, "_op", node.target))
    if node.op != "call_function" or node.target is getattr:
        return False
    return not text.startswith(("quantized_decomposed", "<built-in", "executorch_call_delegate"))


def _operator(node: fx.Node) -> str:
    return str(getattr(node.target, "_op", node.target)).split(".")[1]


def _takes_pixels(node: fx.Node) -> bool:
    inputs: list[Any] = [a for a in node.args if isinstance(a, fx.Node)]
    return bool(inputs) and str(inputs[0].meta["val"].dtype) == "torch.uint8"
