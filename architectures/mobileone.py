"""MobileOne: An Improved One Millisecond Mobile Backbone (Vasu et al., 2022).

Paper: https://arxiv.org/abs/2206.04040
Original code: https://github.com/apple/ml-mobileone

Module names, batch norm and initialisation (PyTorch's own) are the original code's, so that its
checkpoints load as they are, in both forms. `stem_stride=1`, for inputs of about 64 pixels, is
ours.
"""

from functools import reduce

import torch
from torch import Tensor, nn

from architectures._layers import pyramid

__all__ = ("mobileone_s0",)

# The paper's specifications: output channels, pairs of blocks; the first of a stage has stride 2.
# Of S0: each stage's width multiplier, and k, the number of branches of the same kind.
STAGES = ((64, 2), (128, 8), (256, 10), (512, 1))
S0_WIDTHS = (0.75, 1.0, 1.0, 2.0)
S0_BRANCHES = 4


class ConvBN(nn.Module):
    """One branch of a block: a convolution and its batch norm."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, groups: int):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


def fold(kernel: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The kernel and bias that do what `kernel` and then `norm` do in inference; float64.

    gamma * (W x - mean) / std + beta = (gamma / std * W) x + (beta - gamma / std * mean), where
    std = sqrt(var + eps).
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = norm.bias.double() - factor * norm.running_mean.double()
    return kernel.double() * factor[:, None, None, None], bias


class MobileOneBlock(nn.Module):
    """A convolution that is trained as several branches and deployed as one (section 3.2).

    Train form: the sum of k convolutions, a 1x1 one ("scale") where the kernel is larger, and a
    bare batch norm ("skip") where the shape stays; each branch has its batch norm, ReLU follows.
    More branches are easier to train, but cost memory traffic. As all are linear and see the same
    pixels, their sum *is* one convolution: `reparameterize` writes it down, and the block becomes
    its deploy form, `reparam_conv` and ReLU. A 1x1 kernel is padded with zeros, and the skip is the
    kernel that is 1 at its centre for the channel itself.

    Args:
        c_in: input channels.
        c_out: output channels.
        kernel: side of the kernel, odd.
        stride: of the convolution.
        groups: 1, or `c_in` for a depthwise convolution.
        branches: k, how many convolutions of the full kernel are summed.
        deploy: build the deploy form directly.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        branches: int = 1,
        deploy: bool = False,
    ):
        super().__init__()
        shape = (c_in, c_out, kernel, stride, groups)
        self.activation = nn.ReLU(inplace=True)
        self.reparam_conv = (
            nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups) if deploy else None
        )
        self.rbr_conv = nn.ModuleList()
        self.rbr_scale: ConvBN | None = None
        self.rbr_skip: nn.BatchNorm2d | None = None
        if deploy:
            return
        self.rbr_conv.extend(ConvBN(*shape) for _ in range(branches))
        if kernel > 1:
            self.rbr_scale = ConvBN(c_in, c_out, 1, stride, groups)
        if c_in == c_out and stride == 1:
            self.rbr_skip = nn.BatchNorm2d(c_in)

    def forward(self, x: Tensor) -> Tensor:
        if self.reparam_conv is not None:
            return self.activation(self.reparam_conv(x))
        branches = (self.rbr_scale, self.rbr_skip, *self.rbr_conv)
        return self.activation(reduce(torch.add, [b(x) for b in branches if b is not None]))

    def _branches(self) -> list[tuple[Tensor, nn.BatchNorm2d]]:
        """Each branch as a full-size kernel, (c_out, c_in / groups, k, k), and its batch norm."""
        branches = [branch for branch in self.rbr_conv if isinstance(branch, ConvBN)]
        found = [(branch.conv.weight, branch.bn) for branch in branches]
        _, per_group, kernel, _ = found[0][0].shape
        if self.rbr_scale is not None:
            thin = self.rbr_scale.conv.weight
            found.append((nn.functional.pad(thin, [kernel // 2] * 4), self.rbr_scale.bn))
        if self.rbr_skip is not None:
            identity = torch.zeros_like(found[0][0])
            own = torch.arange(len(identity))
            identity[own, own % per_group, kernel // 2, kernel // 2] = 1
            found.append((identity, self.rbr_skip))
        return found

    @torch.no_grad()
    def reparameterize(self) -> None:
        """Turn the train form into the deploy form, in place; nothing where it is already.

        Batch norm is taken as in inference, with its running statistics.
        """
        if self.reparam_conv is not None:
            return
        branches = self._branches()
        folded = [fold(kernel, norm) for kernel, norm in branches]
        trained = self.rbr_conv[0]
        assert isinstance(trained, ConvBN)
        shape = trained.conv
        single = nn.Conv2d(
            shape.in_channels,
            shape.out_channels,
            shape.kernel_size[0],
            shape.stride[0],
            shape.kernel_size[0] // 2,
            groups=shape.groups,
        ).to(shape.weight)  # on its device, of its dtype
        assert single.bias is not None
        single.weight.copy_(torch.stack([kernel for kernel, _ in folded]).sum(dim=0))
        single.bias.copy_(torch.stack([bias for _, bias in folded]).sum(dim=0))
        self.reparam_conv = single.train(self.training)
        self.rbr_conv = nn.ModuleList()
        self.rbr_scale = self.rbr_skip = None


class MobileOne(nn.Module):
    """(N, 3, H, W) normalised RGB -> (N, num_classes) logits.

    MobileNetV1's chain of depthwise 3x3 and pointwise 1x1, each one a `MobileOneBlock`: deployed,
    it has no branches at all.

    Args:
        widths: multiplier of each of the four stages; the stem is as wide as the first.
        branches: k of each block but the stem's.
        num_classes: size of the last layer; 0 builds none, and gives the pooled (N, 1024) features.
        in_channels: of the image, 3 for RGB.
        stem_stride: stride of the first convolution, 2 in the paper.
        deploy: build the deploy form directly.
    """

    def __init__(
        self,
        widths: tuple[float, ...],
        branches: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        stem_stride: int = 2,
        deploy: bool = False,
    ):
        super().__init__()
        channels = min(64, int(64 * widths[0]))
        self.stage0 = MobileOneBlock(in_channels, channels, 3, stem_stride, deploy=deploy)
        stages = [nn.Sequential() for _ in STAGES]
        for stage, (c, pairs), width in zip(stages, STAGES, widths, strict=True):
            c_out = int(c * width)
            for i in range(pairs):
                stride = 2 if i == 0 else 1
                stage.append(
                    MobileOneBlock(channels, channels, 3, stride, channels, branches, deploy)
                )
                stage.append(MobileOneBlock(channels, c_out, 1, 1, 1, branches, deploy))
                channels = c_out
        self.stage1, self.stage2, self.stage3, self.stage4 = stages
        self.linear = nn.Linear(channels, num_classes) if num_classes else nn.Identity()

    def reparameterize(self) -> None:
        """Turn every block into its deploy form, in place."""
        for block in [m for m in self.modules() if isinstance(m, MobileOneBlock)]:
            block.reparameterize()

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """The last map of each resolution, finest first, for other heads."""
        return pyramid((self.stage0, self.stage1, self.stage2, self.stage3, self.stage4), x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage4(self.stage3(self.stage2(self.stage1(self.stage0(x)))))
        x = x.mean(dim=(2, 3))  # (N, C, H, W) -> (N, C), global average pooling
        return self.linear(x)


def mobileone_s0(
    num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2, deploy: bool = False
) -> MobileOne:
    """MobileOne-S0: 5.29 M parameters in training, 2.08 M and 275 M MACs at 224x224 deployed."""
    return MobileOne(S0_WIDTHS, S0_BRANCHES, num_classes, in_channels, stem_stride, deploy)
