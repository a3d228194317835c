"""Images made larger or smaller inside a network: nearest and bilinear."""

import torch
from torch import Tensor
from torch.nn import functional as F

from targets.coreml.mil import Inputs, Operator


def upsample_nearest_neighbor(given: Inputs) -> Tensor:
    """Each output pixel takes the source pixel at floor(i / factor)."""
    return F.interpolate(given["x"], _scaled(given), mode="nearest")


def upsample_bilinear(given: Inputs) -> Tensor:
    """Half-pixel centres, or corner on corner with `align_corners`."""
    corners = given.get("align_corners", True)
    if given.get("half_pixel_centers", not corners) != (not corners):
        return _sample(given["x"], *_scaled(given), "DEFAULT")
    return F.interpolate(given["x"], _scaled(given), mode="bilinear", align_corners=corners)


def resize_nearest_neighbor(given: Inputs) -> Tensor:
    """To a size; each output pixel takes the source pixel at floor(i * in / out)."""
    size = (given["target_size_height"], given["target_size_width"])
    return F.interpolate(given["x"], size, mode="nearest")


def resize_bilinear(given: Inputs) -> Tensor:
    """To a size, with one of five grids."""
    size = (given["target_size_height"], given["target_size_width"])
    return _sample(given["x"], *size, given.get("sampling_mode", "DEFAULT"))


def _scaled(given: Inputs) -> tuple[int, int]:
    height, width = given["x"].shape[-2:]
    down, across = given.get("scale_factor_height", 1), given.get("scale_factor_width", 1)
    return int(height * down + 1e-4), int(width * across + 1e-4)


def _sample(x: Tensor, height: int, width: int, mode: str) -> Tensor:
    for axis, size in ((-2, height), (-1, width)):
        points = _grid(x.shape[axis], size, mode).clamp(0, x.shape[axis] - 1)
        low = points.floor().long()
        high = (low + 1).clamp(max=x.shape[axis] - 1)
        weight = (points - low).float()
        weight = weight.unsqueeze(-1) if axis == -2 else weight
        x = x.index_select(axis, low) * (1 - weight) + x.index_select(axis, high) * weight
    return x


def _grid(size: int, out: int, mode: str) -> Tensor:
    """Where in the source each output pixel lies; coremltools' reference of `resize_bilinear`."""
    steps = torch.arange(out, dtype=torch.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if out == 1:
            return steps + ((size - 1) / 2 if mode == "ALIGN_CORNERS" else 0)
        return steps * (size - 1) / (out - 1)
    if mode == "OFFSET_CORNERS":
        delta = max(1, size - 1) / out
        return 0.5 * delta + steps * delta
    if mode == "UNALIGN_CORNERS":
        return (steps + 0.5) * size / out - 0.5
    return steps * size / out


OPERATORS: dict[str, Operator] = {
    "upsample_nearest_neighbor": upsample_nearest_neighbor,
    "upsample_bilinear": upsample_bilinear,
    "resize_nearest_neighbor": resize_nearest_neighbor,
    "resize_bilinear": resize_bilinear,
}
