"""Flips, sizes and files of probabilities. `Echo` answers with the image itself: a pixel tells where it came from."""

import itertools
import signal
import time
from dataclasses import replace
from unittest.mock import patch

import cv2
import numpy as np
import pytest
import torch
from by_hand import files_in, scenes
from processes import in_child
from torch import Tensor, nn

from segsmith.data.dataset import Dataset
from segsmith.data.ingest_masks import ingest
from segsmith.errors import DataError, ModelError
from segsmith.modeling.bundle import Part
from segsmith.networks.networks import Outputs
from segsmith.prediction.average import averaged_levels
from segsmith.prediction.crf import refined
from segsmith.prediction.network_calls import TorchCall
from segsmith.prediction.probabilities import VIEWS, Predictor, ProbabilityFiles, predict_chips
from segsmith.samples.chips import Chips, cut

SQUARE = ("data.input_hw=[32,32]", "predict.batch_size=4")


class Echo(nn.Module):
    """Its logits are the first band, -4 to 4; it notes the size of each batch it was given."""

    def __init__(self):
        super().__init__()
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> Outputs:
        self.batches.append(len(images))
        return {"mask": (images[:, :1].float() - 127.5) / 32}


def echoed(image: np.ndarray) -> np.ndarray:
    logits = (torch.from_numpy(image[:, :, 0]).float() - 127.5) / 32
    return (torch.sigmoid(logits) * 255).round().to(torch.uint8).numpy()


def noise(*hw: int, bands: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*hw, bands), np.uint8)


def call_of(network: nn.Module, predictor: Predictor) -> TorchCall:
    return TorchCall(network, predictor.recipe, predictor.hardware)


def echo(bundle) -> Predictor:
    predictor = Predictor(bundle)
    predictor.networks = [call_of(Echo(), predictor)]
    return predictor


@pytest.mark.parametrize(("flips", "count"), [("none", 1), ("horizontal", 2), ("both", 4), ("all", 8)])
def test_every_view_is_undone_exactly(make_bundle, flips, count):
    predictor = echo(make_bundle(*SQUARE, f"predict.flips={flips}"))
    image = noise(32, 32)
    (found,) = predictor([image])
    assert found.shape == (1, 32, 32)
    assert found.dtype == np.uint8
    assert (found[0] == echoed(image)).all()
    assert len(predictor.networks[0].network.batches) == count


@pytest.mark.parametrize("together", [1, 2, 3, 5])
def test_what_is_said_of_an_image_does_not_depend_on_the_others(make_bundle, together):
    """To the last bit of its probabilities: alone, or in whichever batch."""
    predictor = Predictor(make_bundle(*SQUARE, "predict.flips=none"))
    chips = np.stack([noise(32, 32, seed=seed) for seed in range(5)])
    none = np.empty(0, np.uint8)
    each = np.concatenate([predictor.of_chips(chips[n : n + together], none) for n in range(0, 5, together)])
    assert each.shape == (5, 1, 32, 32)
    assert (each == predictor.of_chips(chips, none)).all()


@pytest.mark.parametrize(
    ("flips", "transposes", "verticals", "horizontals"),
    [("horizontal", [0], [0], [0, 1]), ("both", [0], [0, 1], [0, 1]), ("all", [0, 1], [0, 1], [0, 1])],
)
def test_flips_are_averaged_as_by_hand(make_bundle, flips, transposes, verticals, horizontals):
    image = noise(32, 32)
    one_view = Predictor(make_bundle(*SQUARE, "predict.flips=none"))
    views = []
    for transposed, upside_down, mirrored in itertools.product(transposes, verticals, horizontals):
        seen = image.transpose(1, 0, 2) if transposed else image
        seen = seen[::-1] if upside_down else seen
        (view,) = one_view([np.ascontiguousarray(seen[:, ::-1] if mirrored else seen)])
        plane = view[0, :, ::-1] if mirrored else view[0]
        plane = plane[::-1] if upside_down else plane
        views.append((plane.T if transposed else plane).astype(int))

    (found,) = Predictor(make_bundle(*SQUARE, f"predict.flips={flips}"))([image])
    assert len(views) == len(VIEWS[flips])
    assert np.ptp(views, axis=0).max() > 10, "the network sees the views differently"
    assert np.abs(found[0] - np.mean(views, axis=0)).max() <= 1, "but for rounding"


def test_averages_are_refined_where_the_recipe_says_so(make_bundle):
    plain, crf = (
        Predictor(make_bundle(*SQUARE, "predict.flips=horizontal", option))
        for option in ("predict.crf=null", "predict.crf={alike: 3, reach_px: 4}")
    )
    image = np.random.default_rng(3).integers(0, 256, (*plain.recipe.data.input_hw, 3), np.uint8)
    (before,), (after,) = plain([image]), crf([image])
    expected = refined(before / np.float32(255), image, crf.recipe.predict.crf, exclusive=False)
    assert np.abs(after - before.astype(int)).max() > 3, "or nothing was asked of it"
    assert np.abs(after - 255 * expected).max() <= 3  # levels were rounded before


def test_probabilities_are_averaged_and_not_logits(make_bundle):
    class Moody(Echo):
        """Sure of yes in the first view, of no in the second."""

        def forward(self, images: Tensor) -> Outputs:
            self.batches.append(len(images))
            return {"mask": torch.full((len(images), 1, *images.shape[2:]), 2.0 if len(self.batches) == 1 else -50.0)}

    predictor = Predictor(make_bundle(*SQUARE, "predict.flips=horizontal"))
    predictor.networks = [call_of(Moody(), predictor)]
    (found,) = predictor([noise(32, 32)])
    assert (found == round(255 / (1 + np.exp(-2.0)) / 2)).all()


def test_probabilities_of_several_networks_are_averaged(make_bundle):
    """As those of each of them alone, and the decision stays one."""
    one = make_bundle(*SQUARE)
    (weights,) = one.members
    torch.manual_seed(1)
    other = {
        name: torch.randn_like(tensor) / 3 if "segmentation_head" in name else tensor
        for name, tensor in weights.items()
    }
    image = noise(40, 24)
    (first,), (second,), (both,) = (
        Predictor(replace(one, members=members))([image]) for members in ((weights,), (other,), (weights, other))
    )
    assert np.abs(first.astype(int) - second).max() > 20, "the networks see different things"
    assert np.abs(both - (first.astype(int) + second) / 2).max() <= 1.5, "but for rounding"


@pytest.mark.parametrize("how", ["geometric", "median"])
def test_other_averages_are_of_every_network_and_flip(make_bundle, how):
    class Constant(Echo):
        def __init__(self, logit: float):
            super().__init__()
            self.logit = logit

        def forward(self, images: Tensor) -> Outputs:
            return {"mask": torch.full((len(images), 1, *images.shape[2:]), self.logit)}

    predictor = Predictor(make_bundle(*SQUARE, f"predict.average={how}"))
    predictor.networks = [call_of(Constant(logit), predictor) for logit in (-4.0, 1.0, 1.5)]
    (found,) = predictor([noise(32, 32)])
    logit = {"geometric": -0.5, "median": 1.0}[how]
    assert (found == round(255 / (1 + np.exp(-logit)))).all()


# Scales


@pytest.mark.parametrize(
    ("fit", "alike"),
    [
        (["data.fit=resize", "data.input_hw=[64,64]"], ["data.input_hw=[32,32]"]),
        (["data.fit=pad", "data.input_hw=[64,64]"], ["data.input_hw=[32,32]", "data.resize_hw=[20,25]"]),
        (["data.fit=chip", "data.input_hw=[32,32]"], ["data.scales=[0.5]"]),
    ],
)
def test_a_scale_is_what_a_network_for_images_of_that_size_would_see(make_bundle, fit, alike):
    image = noise(40, 50)
    options = (*fit, "predict.flips=none", "predict.batch_size=4")
    (plain,) = Predictor(make_bundle(*options))([image])
    (halved,) = Predictor(make_bundle(*options, "predict.scales=[0.5]"))([image])
    (expected,) = Predictor(make_bundle(*options, *alike))([image])
    assert (halved == expected).all()
    assert np.abs(plain.astype(int) - halved).max() > 5, "the network sees other things"
    (both,) = Predictor(make_bundle(*options, "predict.scales=[0.5,1]"))([image])
    assert np.abs(both - (plain.astype(float) + halved) / 2).max() <= 1, "but for rounding"


# Combined bundles


def test_parts_see_images_as_each_of_them_does(make_bundle):
    """Of other input sizes and ways to fit, weighted; what is combined of their files is the same, but for rounding."""
    resized = make_bundle(*SQUARE, "predict.flips=all")
    padded = make_bundle("data.fit=pad", "data.input_hw=[64,64]", "predict.scales=[0.5,1]")
    images = [noise(40, 24), noise(32, 50, seed=1)]
    alone = [Predictor(bundle)(images) for bundle in (resized, padded)]
    assert np.abs(alone[0][0].astype(int) - alone[1][0]).max() > 10
    for how in ("mean", "geometric", "median"):
        combined = replace(
            make_bundle(f"predict.average={how}"), members=(), parts=(Part(0.25, resized), Part(0.75, padded))
        )
        for found, *each in zip(Predictor(combined)(images), *alone, strict=True):
            assert np.abs(found.astype(int) - averaged_levels(each, [0.25, 0.75], how)).max() <= 1


@pytest.mark.parametrize("hw", [(13, 11), (32, 11), (31, 32), (32, 32)])
@pytest.mark.parametrize("padding", ["reflect", "zero"])
def test_padded_images_come_back_as_they_were(make_bundle, hw, padding):
    image = noise(*hw)
    (found,) = echo(make_bundle(*SQUARE, "data.fit=pad", f"data.padding={padding}", "predict.flips=all"))([image])
    assert found.shape == (1, *hw)
    assert (found[0] == echoed(image)).all()


@pytest.mark.parametrize("hw", [(40, 24), (20, 24), (64, 64)])
def test_resized_images_come_back_at_their_own_size(make_bundle, hw):
    down, right = np.mgrid[0 : hw[0], 0 : hw[1]]
    ramp = (255 * (2 * down / hw[0] + right / hw[1]) / 3).astype(np.uint8)
    (found,) = echo(make_bundle(*SQUARE))([np.dstack([ramp, ramp, ramp])])
    assert found.shape == (1, *hw)
    assert np.abs(found[0].astype(int) - echoed(ramp[:, :, None]))[2:-2, 2:-2].max() <= 6


def test_images_of_several_sizes_pass_in_one_batch(make_bundle):
    images = [noise(13, 11), noise(30, 32, seed=1), noise(32, 9, seed=2)]
    found = echo(make_bundle(*SQUARE, "data.fit=pad"))(images)
    for image, probabilities in zip(images, found, strict=True):
        assert (probabilities[0] == echoed(image)).all()


def test_images_stream_in_order_a_batch_at_a_time(make_bundle):
    predictor = echo(make_bundle(*SQUARE, "data.fit=pad", "predict.flips=none"))
    taken = []

    def items():
        for number in range(10):
            taken.append(number)
            yield number, noise(8 + number, 9, seed=number), np.empty(0, np.uint8)

    stream = predictor.stream(items())
    first = next(stream)
    assert taken == [0, 1, 2, 3], "no more than a batch is held"
    found = [first, *stream]
    assert [number for number, _, _ in found] == list(range(10))
    assert predictor.networks[0].network.batches == [4, 4, 2]
    for number, image, predicted in found:
        assert predicted.presence is None
        assert (image == noise(8 + number, 9, seed=number)).all()
        assert (predicted.levels[0] == echoed(image)).all()
    assert list(predictor.stream([])) == []


@pytest.mark.parametrize(("bands", "others"), [(3, 1), (3, 4), (1, 3)])
def test_another_number_of_bands_is_refused(make_bundle, bands, others):
    predictor = Predictor(make_bundle(*SQUARE, bands=bands))
    with pytest.raises(ModelError, match=rf"{others} bands?, the model was trained on {bands}"):
        predictor([noise(32, 32, bands=bands), noise(32, 32, bands=others)])


def test_an_image_too_large_to_pad_is_refused(make_bundle):
    with pytest.raises(DataError, match=r"33 x 20 pixels .* data\.input_hw 32 x 32"):
        Predictor(make_bundle(*SQUARE, "data.fit=pad"))([noise(33, 20)])


# Files


def test_files_hold_every_class_exactly(tmp_path):
    files = ProbabilityFiles(tmp_path / "probabilities", ("ship", "wake"))
    planes = np.stack([noise(7, 9)[:, :, 0], noise(7, 9, seed=1)[:, :, 0]])
    files.write("a.jpg", planes)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")) == [
        "probabilities/ship/a.jpg.png",
        "probabilities/wake/a.jpg.png",
    ]
    assert (files.read("a.jpg") == planes).all()
    assert files.has("a.jpg")
    files.path("a.jpg", "wake").unlink()
    assert not files.has("a.jpg"), "one class of two"


def test_what_a_presence_head_says_stands_beside_them(tmp_path, make_bundle):
    bundle = make_bundle(*SQUARE, "network.heads={present: {kind: presence}}")
    (alone,) = Predictor(bundle).predict([noise(32, 32)])
    outputs = bundle.networks()[0](torch.from_numpy(noise(32, 32).transpose(2, 0, 1)[None].copy()))
    mirrored = bundle.networks()[0](torch.from_numpy(noise(32, 32)[:, ::-1].transpose(2, 0, 1)[None].copy()))
    expected = (outputs["present"].sigmoid() + mirrored["present"].sigmoid()) / 2
    assert alone.presence.tolist() == [round(255 * float(expected))]
    files = ProbabilityFiles(tmp_path / "probabilities", ("ship",))
    files.write("a.jpg", alone.levels, alone.presence)
    assert (files.presence("a.jpg") == alone.presence).all()
    assert files.presence("b.jpg") is None
    assert files_in(tmp_path).keys() == {
        "presence", "presence/a.jpg.png", "probabilities", "probabilities/ship", "probabilities/ship/a.jpg.png"
    }  # fmt: skip


@pytest.fixture
def undone(make_run, make_bundle):
    """A run of ten images without a probability file, its dataset, and where the files go."""
    truths, planes = scenes(10, (12, 14))
    made = make_run(truths, planes, *SQUARE)
    files = ProbabilityFiles(made.folder / "probabilities", ("ship",))
    for image_id in made.truths:
        files.path(image_id, "ship").unlink()
    return Dataset.open(made.dataset), files, list(made.truths)


def test_what_is_there_is_not_made_again(undone, make_bundle):
    dataset, files, ids = undone
    kept = np.full((1, 12, 14), 77, np.uint8)
    files.write(ids[2], kept)
    predictor = echo(make_bundle(*SQUARE, "predict.flips=none"))
    predict_chips(predictor, cut(dataset, predictor.recipe.data), [5, 2, 7], files, "images")
    assert predictor.networks[0].network.batches == [2]
    assert [image_id for image_id in ids if files.has(image_id)] == [ids[2], ids[5], ids[7]]
    assert (files.read(ids[2]) == kept).all()
    predict_chips(predictor, cut(dataset, predictor.recipe.data), [5, 2, 7], files, "images")
    assert predictor.networks[0].network.batches == [2]


def test_nothing_is_predicted_where_labels_are_left_open(tmp_path, make_bundle):
    pixels, levels = noise(12, 14), np.zeros((12, 14), np.uint8)
    levels[2:5, 3:9], levels[3:9, 7:], levels[11] = 1, 255, 2
    for name, written in (("images", pixels), ("masks", levels)):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "a.png"), written)
    dataset = ingest(tmp_path)
    predictor = echo(make_bundle(*SQUARE, "data.fit=pad", "predict.flips=none"))
    files = ProbabilityFiles(tmp_path / "probabilities", ("ship",))
    predict_chips(predictor, cut(dataset, predictor.recipe.data), [0], files, "images")
    expected = np.where(levels == 255, 0, echoed(pixels[:, :, ::-1]))
    assert np.abs(files.read("a")[0].astype(int) - expected).max() <= 1
    assert not files.read("a")[0][levels == 255].any()


def test_killed_between_two_files_only_whole_ones_are_there(undone, make_bundle):
    dataset, files, ids = undone
    whole = Predictor(make_bundle(*SQUARE))
    expected = whole([dataset.image(index) for index in range(10)])
    read = Chips.read

    def waiting(chips, index):
        if index == 6:  # in the second batch of four
            time.sleep(600)
        return read(chips, index)

    def work():
        with patch.object(Chips, "read", waiting):
            predict_chips(whole, cut(dataset, whole.recipe.data), list(range(10)), files, "images")

    assert in_child(work, kill_when=lambda: files.has(ids[3])) == -signal.SIGKILL
    assert [image_id for image_id in ids if files.has(image_id)] == ids[:4]
    predict_chips(whole, cut(dataset, whole.recipe.data), list(range(10)), files, "images")
    for image_id, probabilities in zip(ids, expected, strict=True):
        assert np.abs(files.read(image_id).astype(int) - probabilities).max() <= 1, "batched otherwise"
