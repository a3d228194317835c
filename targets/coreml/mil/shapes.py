"""What only moves numbers: reshaping, slicing, joining, padding."""

from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from targets.coreml.mil import Inputs, Operator


def _list(value: Any) -> list[int]:
    return [int(v) for v in (value.tolist() if isinstance(value, Tensor) else value)]


def reshape(given: Inputs) -> Tensor:
    """In `shape`, 0 keeps the size of that axis and -1 is what is left."""
    x: Tensor = given["x"]
    wanted = _list(given["shape"])
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(wanted)])


def transpose(given: Inputs) -> Tensor:
    """Axis i of the result is axis perm[i]."""
    x: Tensor = given["x"]
    return x.permute(given["perm"])


def expand_dims(given: Inputs) -> Tensor:
    """Axes of size 1, counted in the result."""
    x = torch.as_tensor(given["x"])
    rank = x.dim() + len(given["axes"])
    for axis in sorted(axis % rank for axis in given["axes"]):
        x = x.unsqueeze(axis)
    return x


def squeeze(given: Inputs) -> Tensor:
    """Take away axes of size 1: those named, or all."""
    x: Tensor = given["x"]
    return x.squeeze() if given.get("axes") is None else x.squeeze(tuple(given["axes"]))


def concat(given: Inputs) -> Tensor:
    """Along `axis`; with `interleave`, one slice of each in turn."""
    values = [torch.as_tensor(value) for value in given["values"]]
    axis = given["axis"] % values[0].dim()
    if not given.get("interleave", False):
        return torch.cat(values, axis)
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


def stack(given: Inputs) -> Tensor:
    """Along a new axis."""
    return torch.stack([torch.as_tensor(value) for value in given["values"]], given["axis"])


def split(given: Inputs) -> tuple[Tensor, ...]:
    """Into parts of given sizes, or into equal ones."""
    x: Tensor = given["x"]
    sizes = given.get("split_sizes")
    if sizes is None:
        sizes = x.shape[given["axis"]] // given["num_splits"]
    parts: tuple[Tensor, ...] = x.split(sizes, given["axis"])
    return parts


def slice_by_index(given: Inputs) -> Tensor:
    """x[begin:end:stride], an axis whose mask is set from or to its end."""
    x: Tensor = given["x"]
    rank = x.dim()
    begin, end = _list(given["begin"]), _list(given["end"])
    strides = given.get("stride") or [1] * rank
    from_start = given.get("begin_mask") or [False] * rank
    to_end = given.get("end_mask") or [False] * rank
    single = given.get("squeeze_mask") or [False] * rank
    for axis in reversed(range(rank)):
        if single[axis]:
            x = x.select(axis, begin[axis])
            continue
        chosen = slice(
            None if from_start[axis] else begin[axis],
            None if to_end[axis] else end[axis],
            strides[axis],
        )
        if chosen != slice(None, None, 1):  # index_select: torch has no negative stride
            x = x.index_select(axis, torch.arange(x.shape[axis])[_forward(chosen, x.shape[axis])])
    return x


def _forward(chosen: slice, size: int) -> list[int]:
    return list(range(*chosen.indices(size)))


def slice_by_size(given: Inputs) -> Tensor:
    """From `begin`, `size` of each axis; -1 is all that is left."""
    x: Tensor = given["x"]
    for axis, (begin, size) in enumerate(
        zip(_list(given["begin"]), _list(given["size"]), strict=True)
    ):
        x = x.narrow(axis, begin, x.shape[axis] - begin if size == -1 else size)
    return x


def pad(given: Inputs) -> Tensor:
    """Of the last axes, before and after each, the outermost first."""
    x: Tensor = given["x"]
    amounts = _list(given["pad"])
    mode = given.get("mode", "constant")
    pairs = [amounts[i : i + 2] for i in range(0, len(amounts), 2)]
    if mode == "constant":
        value = float(given.get("constant_val", 0.0))
        return F.pad(x, list(chain(*reversed(pairs))), value=value)
    for axis, (before, after) in enumerate(pairs, start=x.dim() - len(pairs)):
        places = torch.arange(-before, x.shape[axis] + after)
        x = x.index_select(axis, _mirror(places, x.shape[axis], mode))
    return x


def _mirror(places: Tensor, size: int, mode: str) -> Tensor:
    """Where in the source a place outside of it takes its value: the edge, or mirrored at it."""
    if mode == "reflect":
        places = places.abs()
        return size - 1 - (size - 1 - places).abs()
    return places.clamp(0, size - 1)


def crop(given: Inputs) -> Tensor:
    """Rows and columns off the ends of the last two axes: before and after, of each."""
    x: Tensor = given["x"]
    (top, bottom), (left, right) = _list(given["crop_height"]), _list(given["crop_width"])
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


def tile(given: Inputs) -> Tensor:
    """Each axis `reps` times."""
    x: Tensor = given["x"]
    return x.repeat(_list(given["reps"]))


def gather(given: Inputs) -> Tensor:
    """Along `axis`, those of `indices`; negative ones count from the end."""
    x: Tensor = torch.as_tensor(given["x"])
    indices = torch.as_tensor(given["indices"]).long()
    axis = given.get("axis", 0) % x.dim()
    indices = torch.where(indices < 0, indices + x.shape[axis], indices)
    picked = x.index_select(axis, indices.reshape(-1))
    return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def gather_along_axis(given: Inputs) -> Tensor:
    """At each place, that of `indices` along `axis`."""
    x: Tensor = given["x"]
    axis = given.get("axis", 0)
    return x.gather(axis, torch.as_tensor(given["indices"]).long() % x.shape[axis])


def reverse(given: Inputs) -> Tensor:
    """Back to front."""
    x: Tensor = given["x"]
    axes = given.get("axes")
    return x.flip(list(range(x.dim())) if axes is None else axes)


def fill(given: Inputs) -> Tensor:
    """A tensor of one value."""
    return torch.full(_list(given["shape"]), given.get("value", 0.0))


def shape(given: Inputs) -> Tensor:
    """The sizes of all axes."""
    return torch.tensor(given["x"].shape)


def pixel_shuffle(given: Inputs) -> Tensor:
    """(N, C r r, H, W) -> (N, C, H r, W r)."""
    return F.pixel_shuffle(given["x"], given["upscale_factor"])


def pixel_unshuffle(given: Inputs) -> Tensor:
    """(N, C, H r, W r) -> (N, C r r, H, W)."""
    return F.pixel_unshuffle(given["x"], given["downscale_factor"])


def space_to_depth(given: Inputs) -> Tensor:
    """(N, C, H b, W b) -> (N, b b C, H, W), the place in the block before the channel."""
    x: Tensor = given["x"]
    block = given["block_size"]
    n, c, h, w = x.shape
    apart = x.view(n, c, h // block, block, w // block, block)
    return apart.permute(0, 3, 5, 1, 2, 4).reshape(n, -1, h // block, w // block)


def depth_to_space(given: Inputs) -> Tensor:
    """(N, b b C, H, W) -> (N, C, H b, W b), the place in the block before the channel."""
    x: Tensor = given["x"]
    block = given["block_size"]
    n, c, h, w = x.shape
    apart = x.view(n, block, block, c // block**2, h, w)
    return apart.permute(0, 3, 4, 1, 5, 2).reshape(n, -1, h * block, w * block)


OPERATORS: dict[str, Operator] = {
    "reshape": reshape,
    "transpose": transpose,
    "expand_dims": expand_dims,
    "squeeze": squeeze,
    "concat": concat,
    "stack": stack,
    "split": split,
    "slice_by_index": slice_by_index,
    "slice_by_size": slice_by_size,
    "pad": pad,
    "crop": crop,
    "tile": tile,
    "gather": gather,
    "gather_along_axis": gather_along_axis,
    "reverse": reverse,
    "fill": fill,
    "shape": shape,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "space_to_depth": space_to_depth,
    "depth_to_space": depth_to_space,
    "identity": lambda given: given["x"],
}
