"""Batches of images that lie in memory, made ahead by threads."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from edgekit.errors import InputError
from edgekit.learn.data.augment import render
from edgekit.learn.data.batch import Batch, Mixing
from edgekit.learn.data.source import Images
from edgekit.learn.recipe.data import Augment


class Resident:
    """The batches of one process of `world`; see `Batches`.

    An epoch deals each image out once, in an order of its own; what does not fill the last batch
    is left out, which is another rest each epoch.
    """

    def __init__(
        self,
        images: Images,
        how: Augment,
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        ahead: int = 2,
    ) -> None:
        """Deal out `batch` images a step over all `world` processes.

        Raises:
            InputError: `batch` cannot be dealt out evenly, or there are fewer images.
        """
        if batch % world or batch > len(images):
            raise InputError(
                f"a batch of {batch} cannot be dealt out to {world} processes from {len(images)} "
                "images; give a batch that they can share evenly, and no larger than the images"
            )
        self._images, self._how, self._batch, self._seed = images, how, batch, seed
        self._share = slice(rank * batch // world, (rank + 1) * batch // world)
        self._ahead = ahead

    @property
    def steps(self) -> int:
        return len(self._images) // self._batch

    @property
    def images(self) -> int:
        return len(self._images)

    @property
    def fingerprint(self) -> str:
        return self._images.fingerprint

    def epoch(self, number: int, size: tuple[int, int], start: int = 0) -> Iterator[Batch]:
        order = np.random.default_rng((self._seed, number)).permutation(len(self._images))
        waiting: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:
            for step in range(start, self.steps):
                waiting.append(pool.submit(self._make, order, number, step, size))
                if len(waiting) > self._ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _make(self, order: np.ndarray, epoch: int, step: int, size: tuple[int, int]) -> Batch:
        index = order[step * self._batch :][: self._batch][self._share]
        views = self._how.views
        view = (index + epoch) % views if views else np.full(len(index), epoch)
        return Batch(
            pixels=torch.from_numpy(
                render(self._images.pixels, index, view, size, self._how, self._seed)
            ),
            targets=torch.from_numpy(self._images.targets[index]),
            index=torch.from_numpy(index),
            view=torch.from_numpy(view),
            mixing=self._mixing(epoch, step, len(index)),
        )

    def _mixing(self, epoch: int, step: int, count: int) -> Mixing | None:
        how = self._how
        if not how.mixup and not how.cutmix:
            return None
        rng = np.random.default_rng((self._seed, epoch, step))
        order = torch.from_numpy(rng.permutation(count))
        if how.mixup and not (how.cutmix and rng.random() < 0.5):
            return Mixing(order, float(rng.beta(how.mixup, how.mixup)), None)
        side = np.sqrt(1 - rng.beta(how.cutmix, how.cutmix))
        left, top = rng.uniform(0, 1 - side, 2)
        box = (float(left), float(top), float(left + side), float(top + side))
        return Mixing(order, 1 - float(side) ** 2, box)
