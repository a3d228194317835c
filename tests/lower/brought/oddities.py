"""What is less usual: (N, 3, 32, 32) -> (N, 10), but for those with several outputs."""

# mypy: disable-error-code="no-any-return"

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Rows(nn.Module):
    """Rows of the map as a sequence, and a convolution along it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.conv = nn.Conv1d(64, 16, 3, padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()  # (N, 8, 8, 8)
        x = self.conv(x.flatten(1, 2)).relu()
        return self.head(x.mean(-1))


def conv1d() -> nn.Module:
    return Rows()


class Coordinates(nn.Module):
    """Where a pixel is, as two further channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(5, 16, 3, stride=2), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        rows = torch.linspace(-1, 1, h).view(1, 1, h, 1).expand(n, 1, h, w)
        columns = torch.linspace(-1, 1, w).view(1, 1, 1, w).expand(n, 1, h, w)
        x = self.conv(torch.cat([x, rows, columns], dim=1)).relu()
        return self.head(x.mean((2, 3)))


def coordinates() -> nn.Module:
    return Coordinates()


class Shifted(nn.Module):
    """Windows that are shifted around the edge, as in Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.mix, self.head = nn.Linear(16, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu().permute(0, 2, 3, 1)
        x = torch.roll(x, shifts=(-2, -2), dims=(1, 2))
        n, h, w, c = x.shape
        x = x.view(n, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        x = self.mix(x).amax(1).view(n, -1, c)
        return self.head(x.mean(1))


def shifted_windows() -> nn.Module:
    return Shifted()


class Logarithm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 16, 3, stride=2), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.head(self.conv(x).relu().mean((2, 3))), dim=1)


def log_softmax() -> nn.Module:
    return Logarithm()


class Cosine(nn.Module):
    """A classifier by angle: weights normalised in forward()."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.weight = nn.Conv2d(3, 16, 3, stride=2), nn.Parameter(torch.randn(10, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu().mean((2, 3))
        return 16 * F.linear(F.normalize(x), F.normalize(self.weight))


def cosine() -> nn.Module:
    return Cosine()


class Transformed(nn.Module):
    """A spatial transformer: the image resampled where the network says."""

    def __init__(self) -> None:
        super().__init__()
        self.locate, self.conv = nn.Linear(3, 6), nn.Conv2d(3, 16, 3, stride=2)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        theta = self.locate(x.mean((2, 3))).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        x = F.grid_sample(x, grid, align_corners=False)
        return self.head(self.conv(x).relu().mean((2, 3)))


def spatial_transformer() -> nn.Module:
    return Transformed()


class Spectrum(nn.Module):
    """Mixing in the frequency domain, as in FNet and GFNet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        x = torch.fft.fft2(x).real
        return self.head(x.mean((2, 3)))


def fourier() -> nn.Module:
    return Spectrum()


class Sorted(nn.Module):
    """The five strongest places of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 16, 3, stride=2), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu().flatten(2)
        return self.head(x.topk(5, dim=-1).values.mean(-1))


def top_k() -> nn.Module:
    return Sorted()


class Heads(nn.Module):
    """Logits and features; how they are returned is given."""

    def __init__(self, kind: type) -> None:
        super().__init__()
        self.kind = kind
        self.conv, self.head = nn.Conv2d(3, 16, 3, stride=2), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> object:
        features = self.conv(x).relu().mean((2, 3))
        logits = self.head(features)
        return {"out": logits, "aux": features} if self.kind is dict else (logits, features)


def returns_a_tuple() -> nn.Module:
    return Heads(tuple)


def returns_a_dict() -> nn.Module:
    return Heads(dict)
