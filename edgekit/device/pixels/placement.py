"""Which pixels of a picture go where in the model's input; in whole pixels, exact, for ports."""

from dataclasses import dataclass

import numpy as np

from edgekit.spec import ImageSpec


@dataclass(frozen=True, slots=True)
class Box:
    """Whole pixels: columns `left` to `left + width`, rows `top` to `top + height`."""

    left: int
    top: int
    width: int
    height: int

    def of(self, image: np.ndarray) -> np.ndarray:
        """The part of `image` (H, W, ...) in this box; a view, no copy."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]

    def sampled(self, across: int, down: int) -> "Box":
        """The same part of a plane that has one sample for `across` x `down` pixels.

        Rounded outwards: from floor(left / across) to ceil((left + width) / across), likewise
        down. So a box with both ends odd keeps its centre in planes of half the size.
        """
        left, top = self.left // across, self.top // down
        right = -(-(self.left + self.width) // across)
        bottom = -(-(self.top + self.height) // down)
        return Box(left, top, right - left, bottom - top)

    def turned_back(self, width: int, height: int, turns: int) -> "Box":
        """Of a box in an upright picture, the box in the memory that it was turned from.

        Args:
            width: of the picture as the memory has it.
            height: of the picture as the memory has it.
            turns: quarter turns counter-clockwise from the memory to upright, 0 to 3.
        """
        right, below = self.left + self.width, self.top + self.height
        if turns == 1:
            return Box(width - below, self.left, self.height, self.width)
        if turns == 2:
            return Box(width - right, height - below, self.width, self.height)
        if turns == 3:
            return Box(self.top, height - right, self.height, self.width)
        return self


@dataclass(frozen=True, slots=True)
class Placement:
    """Which pixels of the source lie where in the model's input."""

    source: Box
    """In pixels of the source image, upright."""
    target: Box
    """In pixels of the model's input; the rest of it is margin."""

    def to_source(self, x: float, y: float) -> tuple[float, float]:
        """Map a point of the model's input to the source; (0, 0) is a corner, not a centre."""
        return (
            self.source.left + (x - self.target.left) * self.source.width / self.target.width,
            self.source.top + (y - self.target.top) * self.source.height / self.target.height,
        )


def placement(width: int, height: int, spec: ImageSpec) -> Placement:
    """Where an image of `width` x `height` pixels goes under `spec`.

    Exact, for ports:

    - `crop`: s = min(width / w, height / h) * crop_fraction in float64; the box is
      floor(w * s + 0.5) x floor(h * s + 0.5), at least 1 and at most the image, and starts at
      floor((width - box width) / 2), likewise down. It fills the input.
    - `stretch`: the whole image fills the input.
    - `letterbox`: s = min(w / width, h / height); the whole image goes into a box of
      floor(width * s + 0.5) x floor(height * s + 0.5), at least 1, centred the same way.

    Args:
        width: of the source, upright, pixels.
        height: of the source, upright, pixels.
        spec: the contract; (h, w) above is its (height, width).
    """
    whole_source, whole_target = Box(0, 0, width, height), Box(0, 0, spec.width, spec.height)
    if spec.fit == "stretch":
        return Placement(whole_source, whole_target)
    if spec.fit == "letterbox":
        scale = min(spec.width / width, spec.height / height)
        return Placement(whole_source, _centred(width * scale, height * scale, whole_target))
    scale = min(width / spec.width, height / spec.height) * spec.crop_fraction
    return Placement(_centred(spec.width * scale, spec.height * scale, whole_source), whole_target)


def _centred(width: float, height: float, inside: Box) -> Box:
    w = min(max(int(width + 0.5), 1), inside.width)
    h = min(max(int(height + 0.5), 1), inside.height)
    return Box((inside.width - w) // 2, (inside.height - h) // 2, w, h)
