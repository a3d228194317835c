"""Batches of images that any order can be taken of: in memory, or each in a file of its own."""

from collections.abc import Iterator

import numpy as np

from edgekit.learn.data.ahead import in_order
from edgekit.learn.data.batch import Batch
from edgekit.learn.data.deal import Deal, make_batch
from edgekit.learn.data.source import Images


class Resident:
    """The batches of one process; see `Batches`.

    An epoch deals each image out once, in an order of its own; what does not fill the last batch
    is left out, which is another rest each epoch.
    """

    def __init__(self, images: Images, deal: Deal, threads: int = 1) -> None:
        """Deal out `images`, made ahead by so many threads; they change nothing but the speed.

        Raises:
            InputError: a batch cannot be dealt out evenly, or there are fewer images.
        """
        deal.check(len(images))
        self._images, self._deal, self._threads = images, deal, threads

    @property
    def steps(self) -> int:
        return len(self._images) // self._deal.batch

    @property
    def images(self) -> int:
        return len(self._images)

    @property
    def fingerprint(self) -> str:
        return self._images.fingerprint

    def epoch(self, number: int, size: tuple[int, int], start: int = 0) -> Iterator[Batch]:
        images, deal = self._images, self._deal
        order = np.random.default_rng((deal.seed, number)).permutation(len(images))

        mine = deal.mine(np.arange(deal.batch))

        def make(step: int) -> Batch:
            index = order[step * deal.batch :][: deal.batch][mine]
            return make_batch(images.pixels, images.targets, index, number, step, size, deal)

        steps = range(start, self.steps)
        return in_order(make, steps, self._threads, self._threads + 1, "batches")
