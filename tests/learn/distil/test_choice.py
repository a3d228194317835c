"""Which outputs of a teacher are the recipe's classes."""

import pytest
import torch
from torch import Tensor

from edgekit.errors import SpecError
from edgekit.learn.distil.choice import Chosen, outputs_of
from edgekit.learn.recipe.data import ClassSpec

CLASSES = (ClassSpec("n1", "cat", 285), ClassSpec("n2", "dog", 0), ClassSpec("n3", "fox", 999))
PIXELS = torch.zeros(2, 2, 2, 3, dtype=torch.uint8)


class Says:
    """A teacher of a few words."""

    name, digest, size = "big", "0" * 64, (2, 2)

    def __init__(self, outputs: int, labels: tuple[str, ...] = (), said: Tensor = PIXELS) -> None:
        self.outputs, self.labels, self._said = outputs, labels, said

    def answer(self, pixels: Tensor) -> Tensor:
        return self._said

    def close(self) -> None: ...


def test_its_outputs_are_the_classes() -> None:
    assert outputs_of(CLASSES, Says(3), "classes") == (0, 1, 2)
    assert outputs_of(CLASSES, Says(3, ("x", "y", "z")), "classes") == (0, 1, 2)


def test_they_are_found_by_their_labels() -> None:
    assert outputs_of(CLASSES, Says(3, ("fox", "dog", "cat")), "classes") == (2, 1, 0)
    assert outputs_of(CLASSES, Says(5, ("a", "fox", "dog", "a", "cat")), "classes") == (4, 2, 1)


def test_a_label_that_is_there_twice_says_nothing() -> None:
    with pytest.raises(SpecError, match="5 outputs, the recipe 3 classes"):
        outputs_of(CLASSES, Says(5, ("cat", "fox", "dog", "cat", "a")), "classes")


def test_imagenets_thousand_and_with_a_background() -> None:
    assert outputs_of(CLASSES, Says(1000), "imagenet") == (285, 0, 999)
    assert outputs_of(CLASSES, Says(1001), "imagenet") == (286, 1, 1000)


def test_another_number_of_outputs_is_refused() -> None:
    with pytest.raises(SpecError, match='1001 outputs.*or outputs = "imagenet"'):
        outputs_of(CLASSES, Says(1001), "classes")
    with pytest.raises(SpecError, match='3 outputs, which are not ImageNet.*"classes"'):
        outputs_of(CLASSES, Says(3), "imagenet")


@pytest.mark.parametrize("place", [-1, 1000])
def test_a_class_without_a_place_in_imagenet_is_named(place: int) -> None:
    with pytest.raises(SpecError, match="class 'owl' has no place in ImageNet"):
        outputs_of((*CLASSES, ClassSpec("n4", "owl", place)), Says(1000), "imagenet")


def test_only_the_classes_are_answered() -> None:
    said = torch.tensor([[1.0, -2, 3, 4], [5, 6, 7, 8]])
    found = Chosen(Says(4, said=said), (3, 1), PIXELS).logits(PIXELS)
    assert torch.equal(found, torch.tensor([[4.0, -2], [8, 6]]))


def test_probabilities_become_logarithms() -> None:
    said = torch.tensor([[0.75, 0.25, 0], [0.1, 0.2, 0.7]])
    found = Chosen(Says(3, said=said), (1, 0, 2), PIXELS).logits(PIXELS)
    torch.testing.assert_close(found.softmax(1), said[:, [1, 0, 2]], atol=2e-6, rtol=1e-5)
