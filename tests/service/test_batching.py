"""Images of many requests go through the networks together, and none pays for another."""

import asyncio
import time

import numpy as np
import pytest
from posted import noise

from segsmith.prediction.probabilities import Predicted
from segsmith.service.batching import Batches, NetworkThread

NONE = np.empty(0, np.uint8)


class Networks:
    """Say of an image that it is what it is; of a black one they cannot."""

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds
        self.batches: list[int] = []

    def __call__(self, images, extra) -> list[Predicted]:
        self.batches.append(len(images))
        time.sleep(self.seconds)
        if not all(image.any() for image in images):
            raise ValueError("black")
        return [Predicted(image[None, :, :, 0]) for image in images]


def together(networks: Networks, images, *, size: int = 4, gather_s: float = 0.02, timeout: float | None = None):
    """What is said of images that arrive at once; an exception in its place."""

    async def ask(batches: Batches, image: np.ndarray) -> Predicted:
        async with asyncio.timeout(timeout):
            return await batches.predicted(image, NONE)

    async def work():
        batches = Batches(networks, NetworkThread(), size, gather_s, told.append)
        running = asyncio.create_task(batches.run())
        found = await asyncio.gather(*(ask(batches, image) for image in images), return_exceptions=True)
        running.cancel()
        return found

    told: list[int] = []
    found = asyncio.run(work())
    assert [of for of in told if of] == told
    return found, told


def test_images_that_arrive_together_go_together_each_to_its_own_answer():
    images = [noise(8, 8 + number, seed=number) for number in range(10)]
    found, told = together(networks := Networks(), images)
    assert told == networks.batches == [4, 4, 2]
    for image, predicted in zip(images, found, strict=True):
        assert (predicted.levels[0] == image[:, :, 0]).all()


def test_one_alone_waits_as_it_is_told_to_and_goes_without_others():
    began = time.monotonic()
    together(networks := Networks(), [noise(8, 8)], gather_s=0.2)
    assert networks.batches == [1]
    assert time.monotonic() - began > 0.15


def test_an_image_that_cannot_be_predicted_fails_alone():
    images = [noise(8, 8), np.zeros((8, 8, 3), np.uint8), noise(8, 8, seed=1)]
    found, _ = together(Networks(), images)
    assert (found[0].levels[0] == images[0][:, :, 0]).all()
    assert (found[2].levels[0] == images[2][:, :, 0]).all()
    assert isinstance(found[1], ValueError)


def test_what_is_no_longer_waited_for_is_not_computed():
    networks = Networks(seconds=0.3)
    found, _ = together(networks, [noise(8, 8)] * 10, size=2, timeout=0.1)
    assert all(isinstance(one, TimeoutError) for one in found)
    assert networks.batches == [2]


def test_the_thread_of_the_networks_may_ask_itself():
    thread = NetworkThread()
    assert thread(lambda: thread(lambda: 3)) == 3
    with pytest.raises(ZeroDivisionError):
        thread(lambda: 1 // 0)
