"""Import torchvision beside a build of torch that is not the one it was compiled for.

torchvision's wheel on the package index belongs to torch's CUDA build. Beside the CPU build its
compiled operators do not load, and the import fails at the first of two that it names as it runs.
Neither is used in classifying: where the import fails they are declared here, without an
implementation. Import this before anything that imports torchvision.
"""

import sys

import torch

_MISSING = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

try:
    import torchvision
except RuntimeError:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # imported half
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _MISSING:
        library.define(schema)
    import torchvision

__all__ = ("torchvision",)
