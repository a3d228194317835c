"""From a trained network to a proven artifact: export, quantise, compile, compare (torch)."""

import logging

# Both log what they could not load of their CUDA parts each time they are imported.
logging.getLogger("torchao").setLevel(logging.ERROR)
logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
