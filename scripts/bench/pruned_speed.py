#!/usr/bin/env python
"""How much faster networks get when channels are taken out: LiteRT, measured in turns.

    scripts/bench/pruned_speed.py [--left 0.7 0.5] [NAME ...]

Random weights, batch norm settled on sample photographs, ranked by L1; 1 thread. Each row is
measured beside its unpruned network, in the same minute.
"""

import argparse
import dataclasses
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

import torch

from edgekit.cost.layers import cost
from edgekit.learn.prune.channels.criteria import norms
from edgekit.learn.prune.channels.latency import lower, plan_for, time_beside
from edgekit.learn.prune.channels.target import candidates, flow_of, prune_to
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.recipe.steps import PruneStep
from edgekit.lower.calibrate import from_photographs
from edgekit.lower.load import IMAGENET, load_network

NAMES = ("mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x1_0", "ghostnet_100")
STEP = PruneStep("prune", "prune", "channels", Fit(0.1), macs=0.5)


def main() -> None:
    """Print a table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME")
    parser.add_argument("--left", nargs="+", type=float, default=[0.7, 0.5])
    parser.add_argument("--precision", nargs="+", default=["fp32", "int8"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    images = from_photographs(IMAGENET, 8)
    print("| network | MACs left | M MACs | M parameters | precision | ms | unpruned | time left |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    started = time.perf_counter()
    for name in given.names:
        network = load_network(name, "random")
        flow = flow_of(network.module, IMAGENET)
        found = candidates(network.module, IMAGENET, STEP, flow, norms(network.module, flow))
        modules = [network.module, *(prune_to(found, left).module for left in given.left)]
        for precision in given.precision:
            plan = plan_for("raspberry-pi", precision)
            plan = dataclasses.replace(plan, session=dataclasses.replace(plan.session, threads=1))
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                sessions = [
                    stack.enter_context(
                        closing(lower(module, IMAGENET, 1000, plan, images, folder / str(n)))
                    )
                    for n, module in enumerate(modules)
                ]
                times = time_beside(sessions, images.inputs[0])
            for module, ms in zip(modules[1:], times[1:], strict=True):
                costs, whole = cost(module, IMAGENET), found.whole
                print(
                    f"| {name} | {costs.macs / whole:.0%} | {costs.macs / 1e6:.0f} | "
                    f"{costs.parameters / 1e6:.2f} | {precision} | {ms:.2f} | {times[0]:.2f} | "
                    f"{ms / times[0]:.0%} |",
                    flush=True,
                )
    print(f"\n{time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
