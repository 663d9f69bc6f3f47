"""Details of two images -> symmetry and shift: what the Fourier transform says equals trying every shift by hand."""

import cv2
import numpy as np
import pytest

from segsmith.audit.fitting import COARSE, details, promises, register, symmetric, tiny_details


def texture(seed: int, hw: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    fields = [cv2.GaussianBlur(rng.normal(size=hw), (0, 0), sigma) * sigma for sigma in (2, 4, 9)]
    return np.clip(128 + 60 * sum(fields), 0, 255).astype(np.uint8)[:, :, None]


def tiny(image: np.ndarray) -> np.ndarray:
    return tiny_details(details(image, float(max(image.shape)), COARSE))


def by_hand(first: np.ndarray, second: np.ndarray) -> float:
    """Best correlation times root of the overlapping share, over every shift that leaves three tenths to compare."""
    first, second = first.astype(float), second.astype(float)
    best = 0.0
    for dy in range(-second.shape[0] + 1, first.shape[0]):
        for dx in range(-second.shape[1] + 1, first.shape[1]):
            a = first[max(0, dy) : second.shape[0] + dy, max(0, dx) : second.shape[1] + dx]
            b = second[max(0, -dy) :, max(0, -dx) :][: a.shape[0], : a.shape[1]]
            share = a.size / min(first.size, second.size)
            if share >= 0.3:
                best = max(best, (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum() * 1 / share))
    return best


@pytest.mark.parametrize(("first_hw", "second_hw"), [((80, 80), (80, 80)), ((60, 80), (60, 80)), ((80, 72), (70, 80))])
def test_promises_are_the_best_of_all_shifts(first_hw, second_hw):
    first, other = tiny(texture(0, first_hw)), tiny(texture(1, second_hw))
    (found,) = promises(first, [other])
    assert found == pytest.approx([by_hand(first, symmetric(other, s)) for s in range(8)], abs=1e-3)


def test_others_do_not_change_a_promise():
    first, *others = (tiny(texture(n, hw)) for n, hw in enumerate([(60, 80), (60, 80), (80, 80), (60, 80), (80, 60)]))
    together = promises(first, others)
    assert [promises(first, [other])[0].tolist() for other in others] == together.tolist()


@pytest.mark.parametrize("symmetry", range(8))
@pytest.mark.parametrize("hw", [(90, 90), (70, 100)])
def test_the_symmetry_and_shift_that_were_made_are_found(hw, symmetry):
    scene = texture(2, (hw[0] + 9, hw[1] + 9))
    first = scene[:-9, :-9]
    moved = scene[9:, 5:-4]
    undo = (0, 3, 2, 1, 4, 5, 6, 7)[symmetry]
    images = [first, symmetric(moved, undo)]
    (promise,) = promises(tiny(first), [tiny(images[1])])
    fit = register(lambda index, size: details(images[index], float(max(hw)), size), 0, 1, promise)
    assert fit is not None
    assert fit.symmetry == symmetry == int(promise.argmax())
    assert np.abs(np.array(fit.shift_yx) * max(hw) / 128 - (9, 5)).max() <= 1
    assert fit.similarity > 0.8


def test_flat_pictures_promise_nothing():
    flat = np.zeros((32, 32), np.int8)
    assert promises(flat, [flat, tiny(texture(3, (80, 80)))]).max() == 0
