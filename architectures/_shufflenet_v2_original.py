"""The authors' ShuffleNet V2 checkpoints as torchvision's: new names, channels in another order.

Both compute the same. The authors split even from odd channels at the start of a unit; torchvision
shuffles at its end and splits in halves. Each channel is untouched for some units, then enters a
convolution, which takes its inputs in any order. So channels of the same origin that live equally
long are matched, and the weights permuted.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

UNITS = {"stage2": 4, "stage3": 8, "stage4": 4}

# What the authors' names begin with or hold -> torchvision's.
NAMES = {
    "first_conv.": "conv1.",
    "conv_last.": "conv5.",
    "classifier.0.": "fc.",
    ".branch_proj.": ".branch1.",
    ".branch_main.": ".branch2.",
}

Channel = tuple[int, int, int]  # the unit, the branch (1 or 2) and the place that it came out of


def from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the tensors of a checkpoint, whole or of a backbone alone.

    Args:
        state: the authors' names (`first_conv`, `features.0.branch_main` ..., `conv_last`,
            `classifier`), or those with `stage2.0.` to `stage4.3.` in place of `features.`, as
            detectors' backbones have them; batch norm folded or not. All but the stages may lack.

    Returns:
        torchvision's names; new tensors where channels moved. `fc.bias`, which the authors' network
        does not have, is zero.

    Raises:
        ValueError: `state` is torchvision's already, lacks a stage, or is of x1.0 and above, where
            the authors' first unit has branches of other widths than torchvision's.
    """
    if any(".branch2." in name for name in state):
        raise ValueError("these are torchvision's names already: load the tensors as they are")
    converted = {_renamed(name): tensor for name, tensor in state.items()}
    order = list(range(24))  # where each channel that enters the stage was in the authors' order
    for stage, units in UNITS.items():
        order = _convert_stage(converted, stage, units, order)
    _permute(converted, ("conv5.0.",), 1, order)
    if "fc.weight" in converted:
        weight = converted["fc.weight"]
        converted.setdefault("fc.bias", weight.new_zeros(len(weight)))
    return converted


def _renamed(name: str) -> str:
    name = name.removeprefix("module.")  # of data-parallel training
    units = [f"{stage}.{unit}." for stage, units in UNITS.items() for unit in range(units)]
    numbered = {f"features.{i}.": unit for i, unit in enumerate(units)}
    for theirs, ours in (numbered | NAMES).items():
        name = name.replace(theirs, ours)
    return name


def _flow(units: int, half: int, is_original: bool) -> list[list[Channel]]:
    """Which channels enter the convolutions of units 1, 2, ... of a stage, then which leave it."""

    def join(left: list[Channel], right: list[Channel]) -> list[Channel]:
        if is_original:
            return left + right
        return [channel for pair in zip(left, right, strict=True) for channel in pair]

    x = join([(0, 1, i) for i in range(half)], [(0, 2, i) for i in range(half)])
    taken: list[list[Channel]] = []
    for unit in range(1, units):
        passed, enters = (x[0::2], x[1::2]) if is_original else (x[:half], x[half:])
        taken.append(enters)
        x = join(passed, [(unit, 2, i) for i in range(half)])
    return [*taken, x]


def _convert_stage(state: dict[str, Tensor], name: str, units: int, order: list[int]) -> list[int]:
    """Permute one stage in place, given the order of what enters; returns that of what leaves."""
    half = _half(state, name, len(order))
    ours, theirs = _flow(units, half, False), _flow(units, half, True)
    same = {  # ours -> theirs: of one unit and branch, taken or leaving at the same place
        a: b
        for mine, original in zip(ours, theirs, strict=True)
        for a, b in zip(sorted(mine), sorted(original), strict=True)
    }
    assert all(a[:2] == b[:2] for a, b in same.items()), "both networks keep channels equally long"
    entering = [[theirs[i].index(same[a]) for a in ours[i]] for i in range(units)]
    _permute(state, (f"{name}.0.branch1.0.", f"{name}.0.branch1.1."), 0, order)
    _permute(state, (f"{name}.0.branch1.2.", f"{name}.0.branch2.0."), 1, order)
    leaving = [same[0, 1, i][2] for i in range(half)]
    _permute(state, (f"{name}.0.branch1.2.", f"{name}.0.branch1.3."), 0, leaving)
    for unit in range(units):
        if unit > 0:
            _permute(state, (f"{name}.{unit}.branch2.0.",), 1, entering[unit - 1])
        leaving = [same[unit, 2, i][2] for i in range(half)]
        _permute(state, (f"{name}.{unit}.branch2.5.", f"{name}.{unit}.branch2.6."), 0, leaving)
    return entering[-1]


def _half(state: Mapping[str, Tensor], name: str, c_in: int) -> int:
    """Channels of each branch of a stage that `c_in` channels enter."""
    keys = f"{name}.0.branch1.2.weight", f"{name}.0.branch2.5.weight"
    missing = [key for key in keys if key not in state]
    if missing:
        raise ValueError(f"no {missing[0]} (by torchvision's name): give stages 2, 3 and 4 whole")
    left, right = (len(state[key]) for key in keys)
    enter = state[keys[0]].shape[1]
    if left != right or left % 2 or enter != c_in:
        raise ValueError(
            f"{name}'s first unit makes {left} and {right} channels of {enter}; in torchvision's "
            f"network it makes two equal, even halves of {c_in}. Of the authors' checkpoints, only "
            "x0.5 is the same network: give that one"
        )
    return left


def _permute(
    state: dict[str, Tensor], prefixes: tuple[str, ...], dim: int, order: list[int]
) -> None:
    """Reorder the outputs (`dim` 0) or inputs (1) of all tensors whose names begin so."""
    for name, tensor in state.items():
        if name.startswith(prefixes) and tensor.ndim > dim:
            state[name] = tensor.index_select(dim, torch.tensor(order))
