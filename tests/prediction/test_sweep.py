"""An image swept by chips: as it would be whole, whatever the place where a sweep begins."""

import threading
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from segsmith.data.rasters import read_window
from segsmith.data.windows import PANEL
from segsmith.prediction.blending import Blend
from segsmith.prediction.chip_rows import ChipRows
from segsmith.prediction.probabilities import Predictor
from segsmith.prediction.sweep import Sweep

FCNN = ("network.architecture=FCNN", "network.encoder=resnet18", "network.encoder_depth=null")
CHIPS = ("data.fit=chip", "data.input_hw=[32,32]", "predict.batch_size=3", "predict.flips=none")
NO_NUMBERS = np.empty(0, np.uint8)


@dataclass
class Picture:
    """An image of noise with a hole; it notes what is read of it, and by which threads."""

    pixels: np.ndarray
    valid: np.ndarray

    def __post_init__(self):
        self.times = np.zeros(self.valid.shape, int)
        self.threads = set()

    @staticmethod
    def of(*hw: int) -> "Picture":
        return Picture(np.random.default_rng(0).integers(0, 256, (*hw, 3), np.uint8), np.ones(hw, bool))

    def read(self, window):
        self.times[window.rows, window.columns] += 1
        self.threads.add(threading.current_thread())
        return self.pixels[window.rows, window.columns], self.valid[window.rows, window.columns]


def test_away_from_borders_as_if_the_image_were_one_chip(make_bundle):
    """For a network that sees no further than a chip's margin."""
    bundle = make_bundle(*CHIPS, *FCNN, "network.decoder_channels=null", "data.input_hw=[128,128]")
    predictor = Predictor(bundle)
    picture = Picture.of(300, 340)
    rows = ChipRows((300, 340), (128, 128), (64, 64))
    blend, strips = Blend(rows.hw, rows.chip_hw, rows.stride_hw, 1), []
    for batch in rows.batches(picture.read, 3):
        blend.add(batch.windows, predictor.of_chips(batch.pixels, NO_NUMBERS))
        strips += blend.pop_finished(batch.rows)
    found = np.concatenate([strip.values for strip in strips], axis=1)
    batch = torch.from_numpy(picture.pixels.transpose(2, 0, 1)[None].copy())
    with torch.inference_mode():
        whole = predictor.networks[0](batch).planes[0].numpy()
    inside = (slice(None), slice(8, -8), slice(8, -8))
    assert whole[inside].std() > 0.005
    assert np.abs(found - whole)[inside].max() < 1e-4


@pytest.mark.parametrize("hw", [(100, 70), (237, 151), (41, 30)])
def test_strips_are_the_same_wherever_a_sweep_begins(make_bundle, hw):
    predictor = Predictor(make_bundle(*CHIPS))
    picture = Picture.of(100, 70)
    sweep = Sweep(predictor.recipe, 1, (100, 70), hw)
    strips = list(sweep.values(picture.read, predictor.of_chips, NO_NUMBERS))
    assert [strip.number for strip in strips] == list(range(len(sweep.rows.tops)))
    assert [strip.top for strip in strips] == sweep.edges[:-1]
    assert np.concatenate([strip.values for strip in strips], axis=1).shape == (1, *hw)
    for first in range(len(strips)):
        for again, strip in zip(
            sweep.values(picture.read, predictor.of_chips, NO_NUMBERS, first), strips[first:], strict=True
        ):
            assert again[:2] == strip[:2]
            assert again[3:] == strip[3:]
            assert (again.values == strip.values).all()


def test_each_pixel_is_read_once_and_beside_the_computing(make_bundle):
    predictor = Predictor(make_bundle(*CHIPS))
    picture = Picture.of(150, 90)
    assert sum(strip.chips for strip in Sweep(predictor.recipe, 1, (150, 90), (150, 90)).values(
        picture.read, predictor.of_chips, NO_NUMBERS
    )) == 9 * 5  # fmt: skip
    assert (picture.times == 1).all()
    assert threading.current_thread() not in picture.threads


def test_chips_without_a_valid_pixel_are_not_computed(make_bundle):
    predictor = Predictor(make_bundle(*CHIPS))
    picture = Picture.of(160, 160)
    picture.valid[:] = False
    picture.valid[70, 90] = True
    seen = []

    def of_chips(pixels, extra):
        seen.extend(pixels)
        return predictor.of_chips(pixels, extra)

    strips = list(Sweep(predictor.recipe, 1, (160, 160), (160, 160)).values(picture.read, of_chips, NO_NUMBERS))
    assert len(seen) == 4, "half-overlapping chips around one pixel"
    assert sum(strip.chips for strip in strips) == 4
    assert sum(strip.blank for strip in strips) == 81 - 4
    assert sum(strip.values.shape[1] for strip in strips) == 160


def test_wide_images_are_read_in_panels_and_cut_alike():
    wide = Picture.of(20, PANEL + 100)
    (batch,) = ChipRows((20, PANEL + 100), (16, PANEL + 200), (8, PANEL)).batches(wide.read, 9, first_row=16)
    assert (batch.pixels[0, :12, : PANEL + 100] == wide.pixels[8:]).all()
    assert not batch.pixels[0, 12:].any()
    assert not batch.pixels[0, :, PANEL + 100 :].any()


def test_what_reading_raises_is_raised(make_bundle, tmp_path):
    predictor = Predictor(make_bundle(*CHIPS))
    sweep = Sweep(predictor.recipe, 1, (100, 70), (100, 70))
    with pytest.raises(Exception, match=r"none\.tif: no such file"):
        list(sweep.values(lambda window: read_window(tmp_path / "none.tif", window), predictor.of_chips, NO_NUMBERS))
