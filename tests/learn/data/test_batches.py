"""What holds for batches wherever the images come from."""

import threading
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.errors import ImageError, InputError
from edgekit.learn.data.ahead import in_order, threads_here
from edgekit.learn.data.batch import Batch, Batches
from edgekit.learn.data.deal import Deal
from edgekit.learn.data.open import open_batches
from edgekit.learn.data.resident import Resident
from edgekit.learn.data.source import Images, read
from edgekit.learn.data.streamed import Order, Streamed
from edgekit.learn.recipe.data import Augment, DataSpec
from tests.learn.data.conftest import Made, numbered, write_shard

Open = Callable[..., Batches]
PLAIN = Augment(min_area=1.0, mirror=0.0)
RICH = Augment(contrast=0.2, hue=0.1, erase=0.3, trivial_augment=True, cutmix=1.0, mixup=0.2)


@pytest.fixture(params=["memory", "files", "shards"])
def images(
    request: pytest.FixtureRequest,
    shards: Path,
    made: Made,
    write: Callable[[Made], Path],
) -> Images:
    """100 images in shards, or 30 in files that fit into memory, or do not."""
    if request.param == "shards":
        return read(DataSpec(shards, buffer=32), ()).train
    return read(DataSpec(write(made), memory=0 if request.param == "files" else 1), ()).train


def same(one: Batch, other: Batch) -> bool:
    tensors = (
        (getattr(batch, name) for batch in (one, other))
        for name in ("pixels", "targets", "index", "view")
    )
    return all(torch.equal(*pair) for pair in tensors) and (
        one.mixing is other.mixing is None
        or (one.mixing.share, one.mixing.box) == (other.mixing.share, other.mixing.box)  # type: ignore[union-attr]
    )


def test_an_epoch_shows_each_image_once(images: Images) -> None:
    batches = open_batches(images, PLAIN, batch=7, seed=3)
    assert batches.steps == len(images) // 7
    assert batches.images == len(images)
    assert batches.fingerprint == images.fingerprint
    orders = []
    for epoch in range(3):
        seen = list(batches.epoch(epoch, (8, 8)))
        assert [len(batch.index) for batch in seen] == [7] * batches.steps
        order = torch.cat([batch.index for batch in seen])
        assert len(order.unique()) == len(order)
        assert int(order.min()) >= 0
        assert int(order.max()) < len(images)
        assert all((batch.view == epoch).all() for batch in seen)
        orders.append(order.tolist())
    assert len({tuple(order) for order in orders}) == 3
    assert all(order != sorted(order) for order in orders)
    assert len({frozenset(order) for order in orders}) == 3, "another rest is left out"


def test_a_batch_has_the_images_that_it_names(images: Images) -> None:
    for batch in open_batches(images, PLAIN, batch=10, seed=3).epoch(1, images.pixels[0].shape[:2]):
        for pixels, target, index in zip(batch.pixels, batch.targets, batch.index, strict=True):
            np.testing.assert_array_equal(pixels.numpy(), images.pixels[int(index)])
            assert target == images.targets[index]


def test_any_step_can_be_gone_on_from(images: Images) -> None:
    whole = list(open_batches(images, RICH, batch=4, seed=5).epoch(2, (12, 10)))
    assert whole[0].pixels.shape == (4, 12, 10, 3)
    again = open_batches(images, RICH, batch=4, seed=5)
    for start in range(again.steps + 1):
        rest = list(again.epoch(2, (12, 10), start))
        assert len(rest) == len(whole) - start
        assert all(map(same, whole[start:], rest))


def test_another_seed_or_epoch_gives_other_batches(images: Images) -> None:
    firsts = [
        next(iter(open_batches(images, PLAIN, 8, seed).epoch(epoch, (8, 8)))).index.tolist()
        for seed in (1, 2)
        for epoch in (0, 1)
    ]
    assert len({tuple(first) for first in firsts}) == 4


@pytest.mark.parametrize("world", [2, 3])
def test_several_processes_share_what_one_would_have(images: Images, world: int) -> None:
    whole = list(open_batches(images, PLAIN, 6, 1).epoch(1, (8, 8), 2))
    shares = [
        list(open_batches(images, PLAIN, 6, 1, rank, world).epoch(1, (8, 8), 2))
        for rank in range(world)
    ]
    for step, batch in enumerate(whole):
        for name in ("pixels", "targets", "index", "view"):
            parts = torch.cat([getattr(share[step], name) for share in shares])
            assert torch.equal(parts, getattr(batch, name)), name


def test_each_part_of_a_step_is_shared(images: Images) -> None:
    (whole,) = islice(open_batches(images, PLAIN, 24, 1).epoch(0, (8, 8)), 1)
    shares = [
        next(iter(open_batches(images, PLAIN, 24, 1, rank, 2, parts=3).epoch(0, (8, 8))))
        for rank in range(2)
    ]
    parts = [torch.cat(part) for part in zip(*(s.index.chunk(3) for s in shares), strict=True)]
    assert torch.equal(torch.cat(parts), whole.index)


@pytest.mark.parametrize("augment", [Augment(mixup=0.5), Augment(cutmix=1.0)])
def test_processes_mix_as_one_does(images: Images, augment: Augment) -> None:
    def mixed(rank: int, world: int) -> list[torch.Tensor]:
        found = []
        for batch in open_batches(images, augment, 8, 1, rank, world).epoch(0, (8, 8)):
            assert batch.mixing is not None
            inputs = batch.pixels.permute(0, 3, 1, 2).float()
            found.append(batch.mixing.inputs(inputs))
        return found

    for one, first, second in zip(mixed(0, 1), mixed(0, 2), mixed(1, 2), strict=True):
        torch.testing.assert_close(one, torch.cat([first, second]), rtol=0, atol=0)


def test_the_number_of_threads_changes_nothing(images: Images) -> None:
    opened = open_batches(images, RICH, 4, 5)
    few, many = (
        Resident(images, Deal(RICH, 4, 5), threads)
        if isinstance(opened, Resident)
        else Streamed(images, images.pixels, Deal(RICH, 4, 5), threads)  # type: ignore[arg-type]
        for threads in (1, 5)
    )
    assert all(map(same, few.epoch(0, (8, 8)), many.epoch(0, (8, 8))))


def test_views_return_where_there_are_only_some(images: Images) -> None:
    batches = open_batches(images, Augment(views=3), len(images), 1)
    views = [next(iter(batches.epoch(epoch, (8, 8)))) for epoch in range(4)]
    for epoch, batch in enumerate(views):
        assert torch.equal(batch.view, (batch.index + epoch) % 3)
    first, last = (batch.pixels[batch.index.argsort()] for batch in (views[0], views[3]))
    assert torch.equal(first, last)


@pytest.mark.parametrize(("batch", "world"), [(9, 2), (10_000, 1)])
def test_a_batch_that_cannot_be_dealt_out(images: Images, batch: int, world: int) -> None:
    with pytest.raises(InputError, match=f"a batch of {batch} cannot be dealt out to {world}"):
        open_batches(images, PLAIN, batch, 1, 0, world)


def test_stopping_early_leaves_no_thread(images: Images) -> None:
    before = threading.active_count()
    for _ in open_batches(images, PLAIN, 2, 1).epoch(0, (8, 8)):
        break
    assert threading.active_count() == before


def test_an_error_arrives_where_the_batch_is_asked_for(shards: Path) -> None:
    images = read(DataSpec(shards), ()).train
    path = shards / "train-000001.tar"
    path.write_bytes(path.read_bytes().replace(b"\x89PNG", b"\0\0\0\0"))
    with pytest.raises(ImageError, match="train-000001.tar: the image at byte"):
        list(open_batches(images, PLAIN, 10, 1).epoch(0, (8, 8)))


@pytest.mark.parametrize(
    ("count", "buffer"), [(1, 1), (100, 1), (100, 32), (1000, 64), (999, 4096)]
)
def test_an_order_is_a_permutation_window_by_window(count: int, buffer: int) -> None:
    order = Order(count, buffer, 1, 2)
    windows = list(order.windows())
    assert [place for place, _ in windows] == np.cumsum([0, *(len(w) for _, w in windows)])[
        :-1
    ].tolist()
    everything = np.concatenate([numbers for _, numbers in windows])
    np.testing.assert_array_equal(np.sort(everything), np.arange(count))
    assert max(len(numbers) for _, numbers in windows) <= max(buffer, 32)
    for start in range(0, count, 7):
        rest = np.concatenate([numbers for _, numbers in order.windows(start)])
        place = next(order.windows(start))[0]
        assert place <= start
        np.testing.assert_array_equal(rest, everything[place:])


def test_a_window_mixes_distant_images() -> None:
    _, numbers = next(iter(Order(100_000, 1024, 1, 0).windows()))
    chunks = np.unique(numbers // 32)
    assert len(chunks) == 32
    assert np.ptp(chunks) > 0.7 * 100_000 / 32
    assert np.abs(np.diff(numbers)).mean() > 10_000, "and in no order within"


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    def peak(shards: int) -> int:
        for number in range(shards):
            samples = numbered(40, side=64)
            noise = np.random.default_rng(number)
            big = ({**sample, "bin": noise.bytes(30_000)} for sample in samples)
            write_shard(tmp_path / f"train-{number:06}.tar", iter(big))
        images = read(DataSpec(tmp_path, validation_share=0.1, buffer=64), ()).train
        batches = open_batches(images, PLAIN, 16, 1)
        for _ in batches.epoch(0, (8, 8)):
            break  # what is made once
        tracemalloc.start()
        for _ in batches.epoch(1, (8, 8)):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    small, large = peak(2), peak(12)
    assert large < 1.3 * small + 50_000


def test_threads_are_half_the_cores() -> None:
    assert threads_here(10_000) == 1
    assert 1 <= threads_here() <= 8


def test_work_is_done_ahead_and_no_further() -> None:
    asked: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            asked.append(number)
            yield number

    results = in_order(lambda number: number * 2, items(), threads=2, ahead=3)
    assert next(results) == 0
    assert asked == [0, 1, 2, 3]
    assert list(results) == list(range(2, 20, 2))
