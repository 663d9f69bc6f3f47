"""Images and chips that a first look rules out are not looked at again; all others are as without one."""

from dataclasses import replace

import numpy as np
import pytest

from segsmith.data.windows import Window
from segsmith.errors import ModelError
from segsmith.modeling.bundle import Bundle, Decision, Part, Skip
from segsmith.prediction.chip_rows import ChipBatch
from segsmith.prediction.first_look import Passed, check_skip, worthwhile
from segsmith.prediction.network_calls import torch_calls
from segsmith.prediction.probabilities import Predictor

SQUARE = ("data.input_hw=[32,32]", "predict.batch_size=4")
NO_NUMBERS = np.empty(0, np.uint8)


class Counted:
    """A network's calls, with the sizes of what it was given."""

    def __init__(self, call):
        self.call, self.stride, self.device = call, call.stride, call.device
        self.seen: list[tuple[int, int]] = []

    def __call__(self, images):
        self.seen += [tuple(images.shape[2:])] * len(images)
        return self.call(images)


def counted_calls(bundle: Bundle, place: str = "") -> list[Counted]:
    return [Counted(call) for call in torch_calls(bundle, place)]


def noise(*hw: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8)


def skip_below(below: float, scale: float = 0.5) -> Skip:
    return Skip(loss=0.1, below=below, scale=scale, filled=(9,), looked_at=20, skipped=5, objects=12, lost=1)


def middle(bundle: Bundle, images: list[np.ndarray], scale: float = 0.5) -> tuple[Skip, list[bool]]:
    """What skips half of some images, as the network sees them, and which are kept."""
    values = Predictor(bundle).first_look(images, [NO_NUMBERS] * len(images), scale)
    below = float(np.sort(values)[len(values) // 2])
    return skip_below(below, scale), (values >= below).tolist()


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_images_are_skipped_or_as_without_a_first_look(make_bundle, scale):
    """Two networks, four flips and two scales see those alone that are kept."""
    one = make_bundle(
        *SQUARE, "data.fit=resize", "predict.flips=both", "predict.scales=[1,1.5]", "predict.batch_size=9"
    )
    other = {name: tensor * 1.02 if tensor.is_floating_point() else tensor for name, tensor in one.members[0].items()}
    bundle = replace(one, members=(one.members[0], other))
    images = [noise(32, 32, seed=number) for number in range(9)]
    skip, kept = middle(bundle, images, scale)
    plain, skipping = (Predictor(bundle, counted_calls, skip=of) for of in (None, skip))
    whole, found = plain.predict(images), skipping.predict(images)
    assert sum(kept) == 5
    for keep, before, after in zip(kept, whole, found, strict=True):
        assert before.levels.any()
        assert (after.levels == (before.levels if keep else 0)).all()
        assert after.passed == (Passed(1, 0) if keep else Passed(0, 1))
    assert len(plain.networks[0].seen) == len(plain.networks[1].seen) == 9 * 4 * 2
    first, second = (network.seen for network in skipping.networks)
    assert len(second) == 5 * 4 * 2
    looked_at = (16, 16) if scale == 0.5 else (32, 32)
    assert first == [looked_at] * 9 + second


def test_what_is_skipped_does_not_depend_on_what_comes_together(make_bundle):
    bundle = make_bundle(*SQUARE, "data.fit=resize")
    images = [noise(32, 32, seed=number) for number in range(11)]
    skip, kept = middle(bundle, images)
    predictor = Predictor(bundle, skip=skip)
    found = [of.levels for _, _, of in predictor.stream((0, image, NO_NUMBERS) for image in images)]
    assert [bool(levels.any()) for levels in found] == kept
    for image, levels in zip(images, found, strict=True):
        assert (predictor([image])[0] == levels).all()


def test_at_a_limit_of_0_all_is_as_without(make_bundle):
    for fit in ("resize", "chip"):
        bundle = make_bundle(*SQUARE, f"data.fit={fit}")
        images = [noise(50, 70, seed=number) for number in range(2)]
        for expected, found in zip(
            Predictor(bundle)(images), Predictor(bundle, skip=skip_below(0.0)).predict(images), strict=True
        ):
            assert (found.levels == expected).all()
            assert found.passed.skipped == 0


def test_of_parts_the_first_one_looks(make_bundle):
    first, second = (make_bundle(f"data.input_hw=[{side},{side}]", "data.fit=resize") for side in (32, 64))
    both = replace(first, members=(), parts=(Part(0.5, first), Part(0.5, second)))
    images = [noise(32, 32, seed=number) for number in range(5)]
    skip, kept = middle(first, images)
    predictor = Predictor(both, counted_calls, skip=skip)
    assert [bool(levels.any()) for levels in predictor(images)] == kept
    looks, others = (part.networks[0].seen for part in predictor.parts)
    assert looks.count((16, 16)) == 5
    assert set(others) == {(64, 64)}


def test_batches_are_filled_up_again_within_a_row_of_chips():
    """Chips are told apart by their level; those of an odd one go."""

    def batch(levels: list[int], top: int, **end) -> ChipBatch:
        windows = [Window(top, level, 2, 2) for level in levels]
        return ChipBatch(
            windows, np.full((len(levels), 2, 2, 1), np.array(levels)[:, None, None, None], np.uint8), top, **end
        )

    given = [
        batch([0, 2, 5], 0), batch([4, 7, 6], 0), batch([8], 0, blank=3, last=True),
        batch([], 10, last=True), batch([1, 3], 20, last=True), batch([0, 2, 4], 30, last=True),
    ]  # fmt: skip
    found = list(worthwhile(given, lambda pixels: pixels[:, 0, 0, 0] % 2 == 0, 3))
    assert [[window.left for window in of.windows] for of in found] == [[0, 2, 4], [6, 8], [], [], [0, 2, 4]]
    for of in found:
        assert of.pixels[:, 0, 0, 0].tolist() == [window.left for window in of.windows]
    assert [(of.rows, of.last, of.skipped, of.blank) for of in found] == [
        (0, False, 0, 0), (0, True, 2, 3), (10, True, 0, 0), (20, True, 2, 0), (30, True, 0, 0),
    ]  # fmt: skip


def test_what_cannot_be_skipped_is_refused(make_bundle):
    with pytest.raises(ModelError, match=r"a\.st: was decided without.*first: segsmith decide RUN --skip-loss 0\.01"):
        check_skip(make_bundle(), "a.st", by_chips=False)
    allowed = Decision(skip=skip_below(0.1))
    scales = replace(make_bundle("predict.scales=[1,2]"), decision=allowed)
    assert check_skip(scales, "a.st", by_chips=False).below == 0.1
    with pytest.raises(ModelError, match=r"several scales \(predict\.scales\).*predict without skipping"):
        check_skip(scales, "a.st", by_chips=True)
    parts = replace(make_bundle(), members=(), parts=(Part(1.0, make_bundle()),), decision=allowed)
    with pytest.raises(ModelError, match="several runs combined"):
        check_skip(parts, "a.st", by_chips=True)
