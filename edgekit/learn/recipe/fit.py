"""What a recipe says of one run of the training loop."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Stage:
    """A number of epochs on square training images of `size` pixels a side."""

    epochs: int
    size: int


@dataclass(frozen=True, slots=True)
class Fit:
    """One run of the training loop."""

    learning_rate: float
    """The largest, after the warm-up; a cosine leads from there to zero."""
    epochs: int = 0
    """On images of the image contract's size; instead of `stages`."""
    stages: tuple[Stage, ...] = ()
    """Progressive resizing: small images first, which train faster."""
    batch: int = 128
    """Images a step, over all processes and all parts of `accumulate`."""
    reference_batch: int = 0
    """The linear scaling rule (Goyal et al., 2017): `learning_rate` is for this many images a step,
    and is scaled to `batch`. 0: it is taken as it is."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    momentum: float = 0.9
    """Nesterov's, of SGD."""
    weight_decay: float = 0.05
    """Of matrices and filters; biases and batch norm have none."""
    warmup_epochs: float = 0.0
    """Linear, from zero."""
    smoothing: float = 0.0
    """Label smoothing (Szegedy et al., 2016, section 7), 0 to 1."""
    average_decay: float = 0.0
    """Decay a step of the exponential moving average of the weights, which is what is measured and
    kept; 0: the weights themselves."""
    accumulate: int = 1
    """Parts a step is computed in, one after the other, to save memory. Batch norm sees a part."""
    clip_norm: float = 0.0
    """Largest norm of the gradient; 0: any."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of convolutions and matrix products (autocast); fp16 scales the loss."""
    channels_last: bool = True
    compile: bool = False
    """With `torch.compile`: worth it on a GPU and on long runs."""
    recompute: bool = False
    """Gradient checkpointing (Chen et al., 2016): compute activations twice, and keep fewer."""
    patience: int = 0
    """Stop after so many epochs without a better top-1, and keep the best; 0: never."""
    save_every_s: float = 60.0
    """Seconds between two saves of a run's state within an epoch; each epoch's end is saved."""

    @property
    def sizes(self) -> tuple[Stage, ...]:
        """The stages; one of size 0, that is the contract's, where there are `epochs` alone."""
        return self.stages or (Stage(self.epochs, 0),)

    @property
    def total_epochs(self) -> int:
        return sum(stage.epochs for stage in self.sizes)

    @property
    def peak_rate(self) -> float:
        """The largest learning rate, by the linear scaling rule where it is asked for."""
        if self.reference_batch:
            return self.learning_rate * self.batch / self.reference_batch
        return self.learning_rate
