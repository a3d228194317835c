"""Convolutions, matrix products, pooling and normalisation."""

import math
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional as F

from targets.coreml.mil import Inputs, Operator

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
MAXIMA = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
MEANS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def conv(given: Inputs) -> Tensor:
    """Weight (C_out, C_in / groups, *kernel)."""
    x, weight = given["x"], given["weight"]
    dims = x.dim() - 2
    dilations = given.get("dilations", [1] * dims)
    strides = given.get("strides", [1] * dims)
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, weight.shape[2:], strict=True)]
    x = _padded(x, _padding(given, x.shape[2:], reach, strides))
    return CONVOLUTIONS[dims](
        x, weight, given.get("bias"), strides, 0, dilations, given.get("groups", 1)
    )


def conv_transpose(given: Inputs) -> Tensor:
    """Weight (C_in, C_out / groups, *kernel); the full result, cropped by `pad`."""
    x, weight = given["x"], given["weight"]
    dims = x.dim() - 2
    dilations = given.get("dilations", [1] * dims)
    strides = given.get("strides", [1] * dims)
    groups = given.get("groups", 1)
    full = TRANSPOSED[dims](x, weight, None, strides, 0, 0, groups, dilations)
    wanted = given.get("output_shape")
    for dim in range(dims):
        before, after = _crop(given, dim, x.shape[2 + dim], full.shape[2 + dim], strides[dim])
        size = wanted[2 + dim] if wanted else full.shape[2 + dim] - before - after
        missing = before + size - full.shape[2 + dim]
        if missing > 0:  # what no tap of the kernel reaches is the bias alone
            ends = [0, 0] * (dims - 1 - dim) + [0, missing]
            full = F.pad(full, ends)
        full = full.narrow(2 + dim, before, size)
    bias = given.get("bias")
    return full if bias is None else full + bias.view(-1, *[1] * dims)


def _crop(given: Inputs, dim: int, size: int, full: int, stride: int) -> tuple[int, int]:
    kind = given.get("pad_type", "valid")
    if kind == "custom":
        before, after = given["pad"][2 * dim : 2 * dim + 2]
        return before, after
    surplus = max(0, full - size * stride) if kind.startswith("same") else 0
    return surplus // 2, surplus - surplus // 2


def linear(given: Inputs) -> Tensor:
    """Weight (D_out, D_in)."""
    return F.linear(given["x"], given["weight"], given.get("bias"))


def matmul(given: Inputs) -> Tensor:
    """Batched, broadcast over the leading axes."""
    x, y = torch.as_tensor(given["x"]), torch.as_tensor(given["y"])
    x = x.transpose(-1, -2) if given.get("transpose_x", False) else x
    y = y.transpose(-1, -2) if given.get("transpose_y", False) else y
    return x @ y


def einsum(given: Inputs) -> Tensor:
    """By its equation, as numpy's."""
    return torch.einsum(given["equation"], *given["values"])


def attention(given: Inputs) -> Tensor:
    """softmax(q k' / sqrt(d)) v; a mask of truth values leaves out, one of numbers adds."""
    query, key, value = given["query"], given["key"], given["value"]
    return F.scaled_dot_product_attention(query, key, value, attn_mask=given.get("attn_mask"))


def max_pool(given: Inputs) -> Tensor:
    """Padding is minus infinity."""
    x = given["x"]
    kernel, strides, pads = _window(given)
    return MAXIMA[x.dim() - 2](_padded(x, pads, -math.inf), kernel, strides)


def avg_pool(given: Inputs) -> Tensor:
    """Padding counts unless `exclude_padding_from_average`; `ceil_mode`'s margin never does."""
    x = given["x"]
    kernel, strides, pads = _window(given)
    pool = MEANS[x.dim() - 2]
    ones = torch.ones(1, 1, *x.shape[2:])
    if not given.get("exclude_padding_from_average", False):
        stated = _padding(given, x.shape[2:], kernel, strides)
        ones = _padded(ones, stated, 1.0)
        pads_of_ones = [wide - own for wide, own in zip(pads, stated, strict=True)]
    else:
        pads_of_ones = pads
    counted = pool(_padded(ones, pads_of_ones), kernel, strides)
    return pool(_padded(x, pads), kernel, strides) / counted


def _window(given: Inputs) -> tuple[list[int], list[int], list[int]]:
    """Kernel, strides, and the padding with what `ceil_mode` adds at the end."""
    x, kernel = given["x"], given["kernel_sizes"]
    strides = given.get("strides", [1] * len(kernel))
    pads = _padding(given, x.shape[2:], kernel, strides)
    if given.get("ceil_mode", False):
        for dim, (size, k, stride) in enumerate(zip(x.shape[2:], kernel, strides, strict=True)):
            before, after = pads[2 * dim : 2 * dim + 2]
            count = -(-(size + before + after - k) // stride) + 1
            if (count - 1) * stride >= size + before and before + after > 0:
                count -= 1
            pads[2 * dim + 1] += max(0, (count - 1) * stride + k - size - before - after)
    return kernel, strides, pads


def _padding(
    given: Inputs, sizes: Sequence[int], reach: Sequence[int], strides: Sequence[int]
) -> list[int]:
    """Before and after each spatial axis, by `pad_type`; `reach` is the dilated kernel."""
    kind = given.get("pad_type", "valid")
    if kind == "custom":
        return list(given["pad"])
    if kind == "valid":
        return [0] * (2 * len(reach))
    totals = [
        max(0, (-(-size // s) - 1) * s + k - size)
        for size, k, s in zip(sizes, reach, strides, strict=True)
    ]
    halves = [(total // 2, total - total // 2) for total in totals]
    return list(chain(*(pair[::-1] if kind == "same_lower" else pair for pair in halves)))


def _padded(x: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    """Of the last axes; torch wants the last one first."""
    if not any(pads):
        return x
    pairs = [pads[i : i + 2] for i in range(0, len(pads), 2)]
    return F.pad(x, list(chain(*reversed(pairs))), value=value)


def batch_norm(given: Inputs) -> Tensor:
    """Over axis 1, with the statistics that are given."""
    return F.batch_norm(
        given["x"],
        given["mean"],
        given["variance"],
        given.get("gamma"),
        given.get("beta"),
        eps=given.get("epsilon", 1e-5),
    )


def instance_norm(given: Inputs) -> Tensor:
    """Over the spatial axes of each channel."""
    epsilon = given.get("epsilon", 1e-5)
    return F.instance_norm(
        given["x"], weight=given.get("gamma"), bias=given.get("beta"), eps=epsilon
    )


def layer_norm(given: Inputs) -> Tensor:
    """Over `axes`, which need not be the last."""
    x: Tensor = given["x"]
    axes = [axis % x.dim() for axis in given.get("axes", range(x.dim()))]
    centred = x - x.mean(axes, keepdim=True)
    variance = (centred**2).mean(axes, keepdim=True)
    result = centred / (variance + float(given.get("epsilon", 1e-5))).sqrt()
    shape = [x.shape[axis] if axis in axes else 1 for axis in range(x.dim())]
    if given.get("gamma") is not None:
        result *= given["gamma"].view(shape)
    if given.get("beta") is not None:
        result += given["beta"].view(shape)
    return result


def l2_norm(given: Inputs) -> Tensor:
    """By the norm of the last three axes."""
    x: Tensor = given["x"]
    power = (x**2).sum((-3, -2, -1), keepdim=True)
    return x / (power + float(given.get("epsilon", 1e-6))).sqrt()


def local_response_norm(given: Inputs) -> Tensor:
    """Over `size` neighbouring channels."""
    alpha, beta, k = given.get("alpha", 1e-4), given.get("beta", 0.75), given.get("k", 1.0)
    return F.local_response_norm(given["x"], given["size"], alpha, beta, k)


OPERATORS: dict[str, Operator] = {
    "conv": conv,
    "conv_transpose": conv_transpose,
    "linear": linear,
    "matmul": matmul,
    "einsum": einsum,
    "scaled_dot_product_attention": attention,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "batch_norm": batch_norm,
    "instance_norm": instance_norm,
    "layer_norm": layer_norm,
    "l2_norm": l2_norm,
    "local_response_norm": local_response_norm,
}
