"""What is done to each number alone: arithmetic, comparisons, activations."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from targets.coreml.mil import Inputs, Operator


def _unary(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda given: function(given["x"])


def _binary(function: Callable[[Any, Any], Tensor]) -> Operator:
    return lambda given: function(_tensor(given["x"]), _tensor(given["y"]))


def _tensor(value: Any) -> Tensor:
    """A single value stays float32: torch would make float64 of two Python numbers."""
    return value if isinstance(value, Tensor) else torch.as_tensor(value)


def clip(given: Inputs) -> Tensor:
    """Min(max(x, alpha), beta)."""
    x: Tensor = given["x"]
    return x.clamp(given["alpha"], given["beta"])


def elu(given: Inputs) -> Tensor:
    """X where positive, else alpha (e^x - 1)."""
    x: Tensor = given["x"]
    return F.elu(x, given.get("alpha", 1.0))


def gelu(given: Inputs) -> Tensor:
    """Exact, by tanh, or as x sigmoid(1.702 x)."""
    x: Tensor = given["x"]
    mode = given.get("mode", "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="none" if mode == "EXACT" else "tanh")


def leaky_relu(given: Inputs) -> Tensor:
    """X where positive, else alpha x."""
    return F.leaky_relu(given["x"], given.get("alpha", 0.01))


def prelu(given: Inputs) -> Tensor:
    """X where positive, else alpha x, with an alpha for each channel (axis 1)."""
    return F.prelu(given["x"], torch.as_tensor(given["alpha"], dtype=torch.float32))


def sigmoid_hard(given: Inputs) -> Tensor:
    """Min(max(alpha x + beta, 0), 1)."""
    x: Tensor = given["x"]
    alpha, beta = float(given.get("alpha", 0.2)), float(given.get("beta", 0.5))
    return (alpha * x + beta).clamp(0, 1)


def clamped_relu(given: Inputs) -> Tensor:
    """Min(beta, x) where positive, else min(beta, alpha x)."""
    x: Tensor = given["x"]
    return torch.where(x >= 0, x, x * float(given["alpha"])).clamp(max=float(given["beta"]))


def thresholded_relu(given: Inputs) -> Tensor:
    """X where it is at least alpha, else 0."""
    x: Tensor = given["x"]
    return torch.where(x >= float(given.get("alpha", 1.0)), x, 0.0)


def threshold(given: Inputs) -> Tensor:
    """Alpha where x is less."""
    x: Tensor = given["x"]
    return x.clamp(min=given["alpha"])


def linear_activation(given: Inputs) -> Tensor:
    """Alpha x + beta."""
    x: Tensor = given["x"]
    return x * float(given.get("alpha", 1.0)) + float(given.get("beta", 0.0))


def scaled_tanh(given: Inputs) -> Tensor:
    """Alpha tanh(beta x)."""
    x: Tensor = given["x"]
    return float(given.get("alpha", 1.0)) * torch.tanh(float(given.get("beta", 1.0)) * x)


def softmax(given: Inputs) -> Tensor:
    """Along `axis`."""
    return torch.softmax(given["x"], given.get("axis", -1))


def select(given: Inputs) -> Tensor:
    """`a` where the condition holds, else `b`."""
    return torch.where(_tensor(given["cond"]).bool(), _tensor(given["a"]), _tensor(given["b"]))


def inverse(given: Inputs) -> Tensor:
    """1 / (x + epsilon)."""
    x: Tensor = given["x"]
    return 1 / (x + float(given.get("epsilon", 1e-4)))


def rsqrt(given: Inputs) -> Tensor:
    """1 / sqrt(x + epsilon)."""
    x: Tensor = given["x"]
    return torch.rsqrt(x + given.get("epsilon", 1e-12))


def log(given: Inputs) -> Tensor:
    """Logarithm of x + epsilon, to the base e."""
    x: Tensor = given["x"]
    return torch.log(x + given.get("epsilon", 1e-45))


def square(given: Inputs) -> Tensor:
    """X times itself."""
    x: Tensor = given["x"]
    return x * x


OPERATORS: dict[str, Operator] = {
    "add": _binary(torch.add),
    "sub": _binary(torch.sub),
    "mul": _binary(torch.mul),
    "real_div": _binary(torch.true_divide),
    "floor_div": _binary(torch.floor_divide),
    "mod": _binary(torch.remainder),
    "pow": _binary(torch.pow),
    "maximum": _binary(torch.maximum),
    "minimum": _binary(torch.minimum),
    "equal": _binary(torch.eq),
    "not_equal": _binary(torch.ne),
    "greater": _binary(torch.gt),
    "greater_equal": _binary(torch.ge),
    "less": _binary(torch.lt),
    "less_equal": _binary(torch.le),
    "logical_and": _binary(torch.logical_and),
    "logical_or": _binary(torch.logical_or),
    "logical_xor": _binary(torch.logical_xor),
    "logical_not": _unary(torch.logical_not),
    "abs": _unary(torch.abs),
    "acos": _unary(torch.acos),
    "asin": _unary(torch.asin),
    "atan": _unary(torch.atan),
    "atanh": _unary(torch.atanh),
    "ceil": _unary(torch.ceil),
    "cos": _unary(torch.cos),
    "cosh": _unary(torch.cosh),
    "erf": _unary(torch.erf),
    "exp": _unary(torch.exp),
    "exp2": _unary(torch.exp2),
    "floor": _unary(torch.floor),
    "round": _unary(torch.round),
    "sign": _unary(torch.sign),
    "sin": _unary(torch.sin),
    "sinh": _unary(torch.sinh),
    "sqrt": _unary(torch.sqrt),
    "tan": _unary(torch.tan),
    "tanh": _unary(torch.tanh),
    "inverse": inverse,
    "log": log,
    "rsqrt": rsqrt,
    "square": square,
    "select": select,
    "clip": clip,
    "clamped_relu": clamped_relu,
    "threshold": threshold,
    "thresholded_relu": thresholded_relu,
    "elu": elu,
    "gelu": gelu,
    "leaky_relu": leaky_relu,
    "linear_activation": linear_activation,
    "prelu": prelu,
    "relu": _unary(F.relu),
    "relu6": _unary(F.relu6),
    "scaled_tanh": scaled_tanh,
    "sigmoid": _unary(torch.sigmoid),
    "sigmoid_hard": sigmoid_hard,
    "silu": _unary(F.silu),
    "softmax": softmax,
    "softplus": _unary(F.softplus),
    "softsign": _unary(F.softsign),
}
