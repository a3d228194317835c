"""Each operator against torch's own or numpy's, on random numbers of odd shapes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from targets.coreml.mil import operators

GENERATOR = torch.Generator().manual_seed(0)


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR)


X = rand(1, 6, 7, 11)
Y = rand(1, 6, 7, 11)
LINE = rand(3, 5)
OTHER = rand(1, 11, 7, 4)
ONE = (F.pad(X, (2, 1, 0, 3)), rand(4, 6, 3, 2), rand(4))
WEIGHT = rand(6, 1, 5, 3)
DECONV = rand(6, 2, 3, 3)
GAMMA, BETA, MEAN, VARIANCE = rand(6), rand(6), rand(6), rand(6).abs() + 0.1
NX, NLINE, NY = X.numpy(), LINE.numpy(), Y.numpy()
ROWS = [(rand(11), rand(11)), (rand(7, 11), rand(7, 11))]
QUERY, KEY, VALUE = rand(1, 2, 5, 8), rand(1, 2, 7, 8), rand(1, 2, 7, 8)


LAYERS: list[tuple[str, dict[str, Any], Any]] = [
    ("conv", {"x": X, "weight": ONE[1], "bias": ONE[2], "pad_type": "custom", "pad": [0, 3, 2, 1]},
     F.conv2d(ONE[0], ONE[1], ONE[2])),
    ("conv", {"x": X, "weight": WEIGHT, "pad_type": "same", "groups": 6},
     F.conv2d(X, WEIGHT, padding="same", groups=6)),
    ("conv", {"x": X, "weight": WEIGHT, "strides": [2, 3], "dilations": [1, 2], "groups": 6},
     F.conv2d(X, WEIGHT, stride=(2, 3), dilation=(1, 2), groups=6)),
    # 7 in steps of 2 is 4: 5 + 3 * 2 = 11 rows are wanted, two more on each side.
    ("conv", {"x": X, "weight": WEIGHT, "strides": [2, 1], "pad_type": "same", "groups": 6},
     F.conv2d(F.pad(X, (1, 1, 2, 2)), WEIGHT, stride=(2, 1), groups=6)),
    ("conv", {"x": X[:, :, 0], "weight": WEIGHT[:, :, 0], "groups": 6},
     F.conv1d(X[:, :, 0], WEIGHT[:, :, 0], groups=6)),
    ("conv_transpose", {"x": X, "weight": DECONV, "bias": GAMMA[:4], "groups": 2,
                        "strides": [2, 3], "pad_type": "custom", "pad": [1, 1, 2, 2]},
     F.conv_transpose2d(X, DECONV, GAMMA[:4], stride=(2, 3), padding=(1, 2), groups=2)),
    ("conv_transpose", {"x": X, "weight": DECONV, "bias": GAMMA[:2], "strides": [2, 2],
                        "pad_type": "custom", "pad": [0, 0, 0, 0], "output_shape": [1, 2, 16, 24]},
     F.conv_transpose2d(X, DECONV, GAMMA[:2], stride=2, output_padding=1)),
    ("conv_transpose", {"x": X, "weight": DECONV, "dilations": [2, 1], "pad_type": "valid"},
     F.conv_transpose2d(X, DECONV, dilation=(2, 1))),
    ("linear", {"x": LINE, "weight": rand(4, 5) * 0 + 2, "bias": GAMMA[:4]},
     (2 * LINE.sum(1, keepdim=True)) + GAMMA[:4]),
    ("matmul", {"x": X, "y": Y, "transpose_y": True}, torch.einsum("nchw,ncvw->nchv", X, Y)),
    ("matmul", {"x": X, "y": Y, "transpose_x": True}, torch.einsum("nchw,nchv->ncwv", X, Y)),
    ("einsum", {"equation": "nchw,nwhv->nchv", "values": (X, OTHER)},
     torch.stack([X[:, :, h] @ OTHER[:, :, h] for h in range(7)], 2)),
    ("scaled_dot_product_attention", {"query": QUERY, "key": KEY, "value": VALUE},
     torch.softmax(QUERY @ KEY.mT / 8**0.5, -1) @ VALUE),
    ("max_pool", {"x": X, "kernel_sizes": [3, 3], "strides": [2, 2], "pad_type": "custom",
                  "pad": [1, 1, 1, 1], "ceil_mode": True},
     F.max_pool2d(X, 3, 2, 1, ceil_mode=True)),
    ("max_pool", {"x": X - 9, "kernel_sizes": [2, 2], "strides": [2, 2], "pad_type": "same"},
     F.max_pool2d(F.pad(X - 9, (0, 1, 0, 1), value=-99), 2)),
    ("max_pool", {"x": X - 9, "kernel_sizes": [2, 2], "strides": [2, 2], "pad_type": "same_lower"},
     F.max_pool2d(F.pad(X - 9, (1, 0, 1, 0), value=-99), 2)),
    ("avg_pool", {"x": X, "kernel_sizes": [3, 3], "strides": [2, 2], "pad_type": "custom",
                  "pad": [1, 1, 1, 1], "ceil_mode": True},
     F.avg_pool2d(X, 3, 2, 1, ceil_mode=True)),
    ("avg_pool", {"x": X, "kernel_sizes": [3, 2], "strides": [2, 2], "pad_type": "custom",
                  "pad": [1, 1, 1, 1], "exclude_padding_from_average": True},
     F.avg_pool2d(X, (3, 2), 2, 1, count_include_pad=False)),
    ("avg_pool", {"x": X, "kernel_sizes": [2, 2], "strides": [3, 2], "pad_type": "valid",
                  "ceil_mode": True}, F.avg_pool2d(X, 2, (3, 2), ceil_mode=True)),
    ("batch_norm", {"x": X, "mean": MEAN, "variance": VARIANCE, "gamma": GAMMA, "beta": BETA,
                    "epsilon": 0.1},
     (X - MEAN.view(6, 1, 1)) / (VARIANCE.view(6, 1, 1) + 0.1).sqrt() * GAMMA.view(6, 1, 1)
     + BETA.view(6, 1, 1)),
    ("instance_norm", {"x": X, "gamma": GAMMA, "beta": BETA, "epsilon": 0.1},
     F.instance_norm(X, weight=GAMMA, bias=BETA, eps=0.1)),
    ("layer_norm", {"x": X, "axes": [-1], "gamma": ROWS[0][0], "beta": ROWS[0][1],
                    "epsilon": 0.1}, F.layer_norm(X, (11,), *ROWS[0], eps=0.1)),
    ("layer_norm", {"x": X, "axes": [2, 3], "gamma": ROWS[1][0], "beta": ROWS[1][1],
                    "epsilon": 0.1}, F.layer_norm(X, (7, 11), *ROWS[1], eps=0.1)),
    ("layer_norm", {"x": X, "axes": [1], "gamma": GAMMA, "beta": BETA, "epsilon": 0.1},
     F.layer_norm(X.movedim(1, -1), (6,), GAMMA, BETA, 0.1).movedim(-1, 1)),
    ("l2_norm", {"x": X, "epsilon": 0.5}, X / ((X**2).sum() + 0.5).sqrt()),
    ("local_response_norm", {"x": X, "size": 3, "alpha": 0.2, "beta": 0.6, "k": 2.0},
     F.local_response_norm(X, 3, 0.2, 0.6, 2.0)),
]  # fmt: skip

SHAPES: list[tuple[str, dict[str, Any], Any]] = [
    ("reshape", {"x": X, "shape": [0, -1, 11]}, NX.reshape(1, 42, 11)),
    ("transpose", {"x": X, "perm": [0, 2, 3, 1]}, NX.transpose(0, 2, 3, 1)),
    ("expand_dims", {"x": LINE, "axes": [0, -1]}, NLINE[None, ..., None]),
    ("squeeze", {"x": LINE[None, :, None], "axes": [0]}, NLINE[:, None]),
    ("concat", {"values": (X, Y), "axis": -2}, np.concatenate((NX, NY), 2)),
    ("concat", {"values": (LINE, LINE + 1), "axis": 1, "interleave": True},
     np.stack((NLINE, NLINE + 1), 2).reshape(3, 10)),
    ("stack", {"values": (LINE, LINE + 1), "axis": 1}, np.stack((NLINE, NLINE + 1), 1)),
    ("split", {"x": X, "split_sizes": [1, 5], "axis": 1}, (X[:, :1], X[:, 1:])),
    ("split", {"x": X, "num_splits": 3, "axis": 1}, (X[:, :2], X[:, 2:4], X[:, 4:])),
    ("slice_by_index", {"x": X, "begin": [0, 1, -3, 9], "end": [1, 6, 7, 0],
                        "stride": [1, 2, 1, -2], "begin_mask": [True, False, False, False],
                        "end_mask": [True, False, True, True]}, NX[:, 1:6:2, -3:, 9::-2]),
    ("slice_by_index", {"x": LINE, "begin": [-1, 1], "end": [0, 4],
                        "squeeze_mask": [True, False]}, NLINE[-1, 1:4]),
    ("slice_by_size", {"x": LINE, "begin": [1, 2], "size": [-1, 2]}, NLINE[1:, 2:4]),
    ("pad", {"x": X, "pad": [1, 0, 2, 3], "mode": "constant", "constant_val": 1.5},
     np.pad(NX, ((0, 0), (0, 0), (1, 0), (2, 3)), constant_values=1.5)),
    ("pad", {"x": X, "pad": [3, 0, 1, 4], "mode": "reflect"},
     np.pad(NX, ((0, 0), (0, 0), (3, 0), (1, 4)), "reflect")),
    ("pad", {"x": X, "pad": [3, 0, 1, 4], "mode": "replicate"},
     np.pad(NX, ((0, 0), (0, 0), (3, 0), (1, 4)), "edge")),
    ("crop", {"x": X, "crop_height": [1, 2], "crop_width": [0, 3]}, NX[..., 1:-2, :-3]),
    ("tile", {"x": LINE, "reps": [2, 1]}, np.tile(NLINE, (2, 1))),
    ("gather", {"x": X, "indices": [[0, -1], [2, 1]], "axis": 2},
     np.take(NX, [[0, -1], [2, 1]], 2)),
    ("gather_along_axis", {"x": LINE, "indices": [[0, -1], [1, 1], [4, 2]], "axis": 1},
     np.take_along_axis(NLINE, np.array([[0, 4], [1, 1], [4, 2]]), 1)),
    ("reverse", {"x": X, "axes": [1, 3]}, np.flip(NX, (1, 3))),
    ("fill", {"shape": [2, 3], "value": 1.5}, np.full((2, 3), 1.5, np.float32)),
    ("shape", {"x": X}, np.array(X.shape)),
    ("pixel_shuffle", {"x": rand(1, 12, 3, 5) * 0 + torch.arange(12.0).view(12, 1, 1),
                       "upscale_factor": 2},
     np.tile(np.arange(12.0).reshape(1, 3, 2, 2), (1, 1, 3, 5))),
    ("pixel_unshuffle", {"x": torch.arange(12.0).view(1, 3, 2, 2), "downscale_factor": 2},
     np.arange(12.0).reshape(1, 12, 1, 1)),
    ("space_to_depth", {"x": torch.arange(12.0).view(1, 3, 2, 2), "block_size": 2},
     np.arange(12.0).reshape(3, 4).T.reshape(1, 12, 1, 1)),
    ("depth_to_space", {"x": torch.arange(12.0).view(1, 12, 1, 1), "block_size": 2},
     np.arange(12.0).reshape(4, 3).T.reshape(1, 3, 2, 2)),
    ("identity", {"x": X}, NX),
]  # fmt: skip

STEPS = np.array([0.1, 0.2, 0.5], np.float32)
HALF = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 300.0, -300.0])
NUMBERS: list[tuple[str, dict[str, Any], Any]] = [
    ("cast", {"x": torch.tensor([-1.7, 1.7, 300.0]), "dtype": "int32"}, np.array([-1, 1, 300])),
    ("cast", {"x": torch.tensor([0.0, 0.3]), "dtype": "bool"}, np.array([False, True])),
    ("cast", {"x": torch.tensor([1, 2]), "dtype": "fp16"}, np.array([1.0, 2.0], np.float32)),
    ("quantize", {"input": HALF, "scale": 1.0, "output_dtype": "int8"},
     np.array([-2, -2, 0, 0, 2, 2, 127, -128], np.float32)),
    ("quantize", {"input": HALF, "scale": 0.5, "zero_point": 3, "output_dtype": "uint8"},
     np.array([0, 0, 2, 4, 6, 8, 255, 0], np.float32)),
    ("quantize", {"input": LINE, "scale": torch.from_numpy(STEPS), "axis": 0,
                  "zero_point": [1, 2, 3], "output_dtype": "int8"},
     np.round(NLINE / STEPS[:, None]) + np.array([[1], [2], [3]])),
    ("dequantize", {"input": HALF.round(), "scale": 0.5, "zero_point": -128},
     (HALF.round().numpy() + 128) / 2),
    ("classify", {"probabilities": torch.tensor([[0.2, 0.5, 0.3]]), "classes": ["a", "b", "c"]},
     ("b", pytest.approx({"a": 0.2, "b": 0.5, "c": 0.3}))),
]  # fmt: skip

LINEAR = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)


def points(mode: str, out: int) -> dict[str, Any]:
    return {
        "x": LINEAR, "target_size_height": 1, "target_size_width": out, "sampling_mode": mode,
    }  # fmt: skip


def row(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(1, 1, 1, -1)


RESIZING: list[tuple[str, dict[str, Any], Any]] = [
    # The grids of coremltools' reference of `resize_bilinear`, of two pixels 0 and 1.
    ("resize_bilinear", points("UNALIGN_CORNERS", 5), row(0, 0.1, 0.5, 0.9, 1)),
    ("resize_bilinear", points("STRICT_ALIGN_CORNERS", 5), row(0, 0.25, 0.5, 0.75, 1)),
    ("resize_bilinear", points("ALIGN_CORNERS", 1), row(0.5)),
    ("resize_bilinear", points("DEFAULT", 5), row(0, 0.4, 0.8, 1, 1)),
    ("resize_bilinear", points("OFFSET_CORNERS", 5), row(0.1, 0.3, 0.5, 0.7, 0.9)),
    ("upsample_bilinear", {"x": X, "scale_factor_height": 2, "scale_factor_width": 3.0,
                           "align_corners": False},
     F.interpolate(X, (14, 33), mode="bilinear", align_corners=False)),
    ("upsample_bilinear", {"x": X, "scale_factor_height": 2, "scale_factor_width": 1,
                           "align_corners": True},
     F.interpolate(X, (14, 11), mode="bilinear", align_corners=True)),
    ("upsample_nearest_neighbor", {"x": X, "scale_factor_height": 2, "scale_factor_width": 3},
     NX.repeat(2, 2).repeat(3, 3)),
    ("resize_nearest_neighbor", {"x": X, "target_size_height": 14, "target_size_width": 11},
     NX.repeat(2, 2)),
]  # fmt: skip

POSITIVE = X.abs() + 0.1
NPOSITIVE, NSLOPES = POSITIVE.numpy(), GAMMA.view(6, 1, 1).numpy()
POINTWISE: list[tuple[str, dict[str, Any], Any]] = [
    ("clip", {"x": X, "alpha": -0.5, "beta": 1.0}, np.clip(NX, -0.5, 1.0)),
    ("elu", {"x": X, "alpha": 0.7}, np.where(NX > 0, NX, 0.7 * np.expm1(NX))),
    ("gelu", {"x": X, "mode": "EXACT"}, X * 0.5 * (1 + torch.erf(X / 2**0.5))),
    ("gelu", {"x": X, "mode": "TANH_APPROXIMATION"},
     0.5 * NX * (1 + np.tanh((2 / np.pi) ** 0.5 * (NX + 0.044715 * NX**3)))),
    ("gelu", {"x": X, "mode": "SIGMOID_APPROXIMATION"}, NX / (1 + np.exp(-1.702 * NX))),
    ("leaky_relu", {"x": X, "alpha": 0.3}, np.where(NX > 0, NX, 0.3 * NX)),
    ("clamped_relu", {"x": X, "alpha": 0.3, "beta": 0.8},
     np.minimum(0.8, np.where(NX > 0, NX, 0.3 * NX))),
    ("threshold", {"x": X, "alpha": 0.3}, np.maximum(NX, 0.3)),
    ("thresholded_relu", {"x": X, "alpha": -0.3}, np.where(NX >= -0.3, NX, 0)),
    ("linear_activation", {"x": X, "alpha": 2.0, "beta": 0.5}, 2 * X + 0.5),
    ("prelu", {"x": X, "alpha": GAMMA}, np.where(NX > 0, NX, NSLOPES * NX)),
    ("scaled_tanh", {"x": X, "alpha": 2.0, "beta": 0.5}, 2 * np.tanh(0.5 * NX)),
    ("sigmoid_hard", {"x": X, "alpha": 1 / 6, "beta": 0.5}, np.clip(NX / 6 + 0.5, 0, 1)),
    ("softmax", {"x": X, "axis": 1}, torch.exp(X) / torch.exp(X).sum(1, keepdim=True)),
    ("select", {"cond": X > 0, "a": X, "b": 0.5}, np.where(NX > 0, NX, np.float32(0.5))),
    ("inverse", {"x": POSITIVE, "epsilon": 0.5}, 1 / (POSITIVE + 0.5)),
    ("rsqrt", {"x": POSITIVE, "epsilon": 0.5}, 1 / np.sqrt(NPOSITIVE + 0.5)),
    ("log", {"x": POSITIVE, "epsilon": 0.5}, np.log(NPOSITIVE + 0.5)),
]  # fmt: skip

UNARY: dict[str, Callable[[Any], Any]] = {
    "abs": np.abs, "acos": np.arccos, "asin": np.arcsin, "atan": np.arctan, "atanh": np.arctanh,
    "cosh": np.cosh, "sinh": np.sinh, "tan": np.tan,
    "ceil": np.ceil, "cos": np.cos, "exp": np.exp, "exp2": np.exp2,
    "floor": np.floor, "round": np.round, "sign": np.sign, "sin": np.sin, "tanh": np.tanh,
    "square": np.square, "logical_not": np.logical_not, "sqrt": lambda x: np.sqrt(x),
    "erf": lambda x: torch.erf(torch.as_tensor(x)).numpy(),
    "relu": lambda x: np.maximum(x, 0), "relu6": lambda x: np.clip(x, 0, 6),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": lambda x: np.log1p(np.exp(x)), "softsign": lambda x: x / (1 + np.abs(x)),
}  # fmt: skip
NARROW = ("acos", "asin", "atanh", "cosh", "sinh", "tan")
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "real_div": np.divide,
    "floor_div": np.floor_divide, "mod": np.mod, "pow": np.power, "maximum": np.maximum,
    "minimum": np.minimum, "equal": np.equal, "not_equal": np.not_equal, "greater": np.greater,
    "greater_equal": np.greater_equal, "less": np.less, "less_equal": np.less_equal,
    "logical_xor": np.logical_xor, "logical_and": np.logical_and, "logical_or": np.logical_or,
}  # fmt: skip
REDUCTIONS: dict[str, Callable[..., Any]] = {
    "reduce_mean": np.mean, "reduce_sum": np.sum, "reduce_max": np.max, "reduce_min": np.min,
    "reduce_prod": np.prod,
    "reduce_sum_square": lambda x, **axes: np.sum(x * x, **axes),
    "reduce_l1_norm": lambda x, **axes: np.sum(np.abs(x), **axes),
    "reduce_l2_norm": lambda x, **axes: np.sqrt(np.sum(x * x, **axes)),
    "reduce_log_sum": lambda x, **axes: np.log(np.sum(x, **axes)),
    "reduce_log_sum_exp": lambda x, **axes: np.log(np.sum(np.exp(x), **axes)),
}  # fmt: skip
RUNNING = NLINE.cumsum(1)
ORDER: list[tuple[str, dict[str, Any], Any]] = [
    ("reduce_argmax", {"x": X, "axis": 1, "keep_dims": True}, np.argmax(NX, 1)[:, None]),
    ("reduce_argmin", {"x": X, "axis": -1}, np.argmin(NX, -1)),
    ("cumsum", {"x": LINE, "axis": 1}, RUNNING),
    ("cumsum", {"x": LINE, "axis": 1, "exclusive": True}, RUNNING - NLINE),
    ("cumsum", {"x": LINE, "axis": 1, "reverse": True}, NLINE[:, ::-1].cumsum(1)[:, ::-1]),
]

CASES = [*LAYERS, *SHAPES, *NUMBERS, *RESIZING, *POINTWISE, *ORDER]


def same(found: Any, expected: Any) -> None:
    if isinstance(expected, tuple):
        assert isinstance(found, tuple)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    elif isinstance(found, Tensor):
        expected = np.asarray(expected)
        assert tuple(found.shape) == expected.shape
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=2e-6)
    else:
        assert found == expected


@pytest.mark.parametrize("case", CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)])
def test_it_means_what_torch_or_numpy_say(case: tuple[str, dict[str, Any], Any]) -> None:
    name, given, expected = case
    same(operators()[name](given), expected)


@pytest.mark.parametrize("name", UNARY)
def test_of_one_number(name: str) -> None:
    x = POSITIVE if name == "sqrt" else X * (0.2 if name in NARROW else 3)
    same(operators()[name]({"x": x}), UNARY[name](x.numpy()))


@pytest.mark.parametrize("name", BINARY)
def test_of_two_numbers_broadcast(name: str) -> None:
    x, y = (POSITIVE, POSITIVE[:, :, :1]) if name == "pow" else (X, Y[:, :, :1])
    same(operators()[name]({"x": x, "y": y}), BINARY[name](x.numpy(), y.numpy()))
    same(operators()[name]({"x": x, "y": 0.5}), BINARY[name](x.numpy(), np.float32(0.5)))


@pytest.mark.parametrize("name", REDUCTIONS)
def test_along_axes(name: str) -> None:
    tensor = POSITIVE if name == "reduce_log_sum" else X
    x = tensor.numpy()
    found = operators()[name]
    kept = REDUCTIONS[name](x, axis=(1, 3), keepdims=True)
    same(found({"x": tensor, "axes": [1, -1], "keep_dims": True}), kept)
    same(found({"x": tensor, "axes": [1, -1]}), kept[:, 0, :, 0])
    if name != "reduce_prod":
        same(found({"x": tensor}), np.asarray(REDUCTIONS[name](x, axis=None)))


def test_every_operator_has_a_case() -> None:
    tried = {case[0] for case in CASES} | {*UNARY, *BINARY, *REDUCTIONS}
    assert tried == set(operators())
