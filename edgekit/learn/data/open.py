"""The batches of a split, wherever it lies."""

import os

from edgekit.learn.data.ahead import threads_here
from edgekit.learn.data.batch import Batches
from edgekit.learn.data.deal import Deal
from edgekit.learn.data.resident import Resident
from edgekit.learn.data.shards import Sharded
from edgekit.learn.data.source import Images
from edgekit.learn.data.streamed import Streamed
from edgekit.learn.recipe.data import Augment


def open_batches(
    images: Images,
    augment: Augment,
    batch: int,
    seed: int,
    rank: int = 0,
    world: int = 1,
    parts: int = 1,
) -> Batches:
    """Deal out `batch` images a step over all `world` processes; this one is `rank`.

    `parts`: see `Deal`.

    Raises:
        InputError: `batch` cannot be dealt out evenly, or there are fewer images.
    """
    deal = Deal(augment, batch, seed, rank, world, parts)
    threads = threads_here(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))  # torchrun says so
    if isinstance(images.pixels, Sharded):
        return Streamed(images, images.pixels, deal, threads)
    return Resident(images, deal, threads)
