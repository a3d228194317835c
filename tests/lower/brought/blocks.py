"""Blocks and ways through a network as people write them: (N, 3, 32, 32) -> (N, 10)."""

# mypy: disable-error-code="no-any-return"

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Pixels of an 8x8 map attend to each other; `kind` says how it is written."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.stem = nn.Conv2d(3, 16, 4, stride=4)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.qkv = nn.Linear(16, 48)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)  # (N, 64, 16)
        if self.kind == "module":
            x = x + self.attention(x, x, x, need_weights=False)[0]
        else:
            q, k, v = self.qkv(x).reshape(-1, 64, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
            if self.kind == "fused":
                y = F.scaled_dot_product_attention(q, k, v)
            else:
                y = ((q @ k.transpose(-2, -1)) * 8**-0.5).softmax(-1) @ v
            x = x + y.transpose(1, 2).reshape(-1, 64, 16)
        return self.head(x.mean(1))


def attention_module() -> nn.Module:
    return Attention("module")


def attention_fused() -> nn.Module:
    return Attention("fused")


def attention_by_hand() -> nn.Module:
    return Attention("by hand")


class ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, stride=8)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.position = nn.Parameter(torch.randn(1, 17, 16))
        layer = nn.TransformerEncoderLayer(
            16, 2, 32, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        return self.head(self.norm(self.encoder(x))[:, 0])


def vit() -> nn.Module:
    return ViT()


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, stride=4)
        self.depthwise = nn.Conv2d(16, 16, 7, padding=3, groups=16)
        self.norm = nn.LayerNorm(16, eps=1e-6)
        self.up, self.down = nn.Linear(16, 64), nn.Linear(64, 16)
        self.scale = nn.Parameter(torch.full((16,), 0.5))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.down(F.gelu(self.up(y)))
        x = x + y.permute(0, 3, 1, 2)
        return self.head(x.mean([-2, -1]))


def convnext() -> nn.Module:
    return ConvNeXt()


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, stride=8)
        self.tokens = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.channels = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2)  # (N, channels, tokens)
        x = x + self.tokens(x)
        x = x.transpose(1, 2)
        x = x + self.channels(x)
        return self.head(x.mean(1))


def mixer() -> nn.Module:
    return Mixer()


class Squeezed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.fc1, self.fc2 = nn.Linear(16, 4), nn.Linear(4, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        n, c, _, _ = x.size()
        gate = torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3)))))).view(n, c, 1, 1)
        return self.head((x * gate).mean((2, 3)))


def squeeze_excite() -> nn.Module:
    return Squeezed()


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.project = nn.Sequential(nn.Conv2d(3, 16, 1, stride=2, bias=False), nn.BatchNorm2d(16))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.project(x)
        return self.head(F.adaptive_avg_pool2d(F.relu(out), 1).squeeze(-1).squeeze(-1))


def residual() -> nn.Module:
    return Residual()


class Twice(nn.Module):
    """One convolution and one batch norm, each used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(2):
            x = x + self.norm(self.conv(x)).relu()
        return self.head(x.mean((2, 3)))


def shared() -> nn.Module:
    return Twice()


class Gated(nn.Module):
    """Two branches by chunk and split, put together by stack."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, stride=2, padding=1)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.stem(x).split([16, 8], dim=1)
        one, two = a.chunk(2, dim=1)
        x = torch.stack([one * two.sigmoid(), b.relu()]).sum(0)
        return self.head(x.mean((2, 3)).unsqueeze(1).squeeze(1))


def split_and_stacked() -> nn.Module:
    return Gated()


class Summed(nn.Module):
    """Attention pooling: a softmax inside, the sum by einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, stride=4)
        self.score = nn.Conv2d(16, 1, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        weights = torch.softmax(self.score(x).flatten(1), dim=-1)
        return self.head(torch.einsum("nct,nt->nc", x.flatten(2), weights))


def softmax_and_einsum() -> nn.Module:
    return Summed()
