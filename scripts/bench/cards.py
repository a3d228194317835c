#!/usr/bin/env python
"""What training runs have left, as a table: a line for each step of each recipe, over its seeds.

    python scripts/bench/cards.py build/zoo build/distilled

Reads the cards of the checkpoints in the given folders and below. Top-1 is of the float network, on
all validation images; with several seeds, the mean and the sample deviation.
"""

import argparse
import statistics
from collections import defaultdict
from pathlib import Path

from edgekit.checkpoint import Card, Made, read_card


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Training runs as a table.")
    parser.add_argument("folders", type=Path, nargs="+", help="where 'edgekit train' wrote")
    found: dict[tuple[str, str, str], list[tuple[Card, Made]]] = defaultdict(list)
    for folder in parser.parse_args().folders:
        for path in sorted(folder.rglob("*.safetensors")):
            card = read_card(path)
            if card is not None and card.history:
                last = card.history[-1]
                found[card.recipe, card.architecture, last.step].append((card, last))
    print("| recipe | network | step | M MACs | M parameters | top-1 | seeds |")
    print("|---|---|---|---|---|---|---|")
    for (recipe, network, step), runs in sorted(found.items()):
        _, made = runs[0]
        top1 = [100 * run.accuracy for _, run in runs if run.accuracy is not None]
        seeds = ", ".join(str(run.seed) for _, run in runs)
        print(
            f"| {recipe} | {network} | {step} | {made.macs / 1e6:.1f} "
            f"| {made.parameters / 1e6:.3f} | {_share(top1)} | {seeds} |"
        )


def _share(top1: list[float]) -> str:
    if len(top1) < 2:
        return " ".join(f"{value:.2f} %" for value in top1)
    return f"{statistics.mean(top1):.2f} ± {statistics.stdev(top1):.2f} %"


if __name__ == "__main__":
    main()
