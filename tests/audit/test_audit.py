"""A dataset -> findings: each kind found where it was planted, and not where all is well."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from patches import COUNT, SIDE, Patches

from segsmith.audit.agreement import LEAST
from segsmith.audit.audit import Neighbours, audit, decades, missing_classes
from segsmith.data.findings import Finding
from segsmith.data.ingest import ingest


@pytest.fixture
def raw(tmp_path: Path) -> Patches:
    return Patches(tmp_path / "raw")


def found_in(raw: Patches) -> list[Finding]:
    return audit(ingest(raw.write()))


def told(findings: list[Finding], image_id: str) -> list[str]:
    return [found.kind for found in findings if found.image_id == image_id]


def test_where_all_is_well_little_is_said(raw):
    found = found_in(raw)
    assert len(found) <= 3, found
    assert all(one.severity < 0.6 for one in found)


def uniform(raw: Patches) -> None:
    raw.images["p004"] = np.full((SIDE, SIDE), 120, np.uint8)


def nearly_uniform(raw: Patches) -> None:
    raw.images["p004"] = np.random.default_rng(0).integers(119, 122, (SIDE, SIDE), np.uint8)


def noise(raw: Patches) -> None:
    raw.images["p004"] = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), np.uint8)


def blank(raw: Patches) -> None:
    raw.images["p004"] = np.zeros((SIDE, SIDE), np.uint8)


def labelled_blank(raw: Patches) -> None:
    raw.images["p004"] = np.zeros((SIDE, SIDE), np.uint8)
    raw.masks["p004"] = raw.masks["p001"]


def bright(raw: Patches) -> None:
    raw.images["p004"] = np.clip(raw.images["p004"].astype(int) + 140, 0, 254).astype(np.uint8)


def size(raw: Patches) -> None:
    raw.images["p004"], raw.masks["p004"] = np.tile(raw.images["p004"], (2, 1)), np.zeros((2 * SIDE, SIDE), bool)


def bands(raw: Patches) -> None:
    raw.images["p004"] = np.repeat(raw.images["p004"][:, :, None], 3, axis=2)


def levels(raw: Patches) -> None:
    raw.masks["p004"], raw.levels["p004"] = raw.masks["p001"], 1


def rectangle(raw: Patches) -> None:
    raw.masks["p004"] = np.zeros((SIDE, SIDE), bool)
    raw.masks["p004"][10:25, 8:30] = True


def columns(raw: Patches) -> None:
    raw.masks["p004"] = np.zeros((SIDE, SIDE), bool)
    raw.masks["p004"][:, 10:15] = True


def rows(raw: Patches) -> None:
    raw.masks["p004"] = np.zeros((SIDE, SIDE), bool)
    raw.masks["p004"][5:15] = True


def whole(raw: Patches) -> None:
    raw.masks["p004"] = np.ones((SIDE, SIDE), bool)


def pixel(raw: Patches) -> None:
    raw.masks["p004"] = np.zeros((SIDE, SIDE), bool)
    raw.masks["p004"][7, 9] = True


def staircase(raw: Patches) -> None:
    raw.masks["p004"] = np.zeros((SIDE, SIDE), bool)
    raw.masks["p004"][5:20, 5:20] = raw.masks["p004"][20:35, 5:35] = True


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (uniform, "blank"),
        (nearly_uniform, "uniform"),
        (noise, "noise"),
        (blank, "blank"),
        (labelled_blank, "mask-on-blank"),
        (bright, "odd-brightness"),
        (size, "size-differs"),
        (bands, "bands-differ"),
        (levels, "mask-values"),
        (rectangle, "rectangle"),
        (columns, "full-columns"),
        (rows, "full-columns"),
        (whole, "whole-image"),
        (pixel, "speck"),
        (staircase, "straight-sides"),
    ],
)
def test_what_was_planted_is_found_where_it_was(raw: Patches, plant: Callable[[Patches], None], kind: str):
    plant(raw)
    found = found_in(raw)
    assert kind in told(found, "p004")
    assert kind not in [one.kind for one in found if one.image_id != "p004"]


def test_a_transposed_mask_is_found_and_stands_above_what_is_well(raw):
    raw.masks["p006"] = np.ascontiguousarray(raw.masks["p006"].T)
    (found,) = [one for one in found_in(raw) if one.image_id == "p006"]
    assert found.kind in ("mask-transposed", "mask-disagrees")
    assert found.row == 8, "the row of train.csv, header included"


def test_of_many_masks_those_alone_are_transposed_that_belong_so(tmp_path):
    """However many there are, none is named for fitting a little better turned than the rest do."""
    raw = Patches(tmp_path / "raw", LEAST + 40)
    raw.masks["p101"] = raw.masks["p101"].T.copy()
    findings = found_in(raw)
    assert [one.image_id for one in findings if one.kind == "mask-transposed"] == ["p101"]
    (found,) = (one for one in findings if one.image_id == "p101")
    assert "read along the rows" in found.reason
    assert findings[0] == found


def test_masks_all_read_along_the_wrong_axis_are_one_finding(raw):
    raw.masks = {name: np.ascontiguousarray(mask.T) for name, mask in raw.masks.items()}
    (found,) = [one for one in found_in(raw) if one.kind == "all-transposed"]
    assert found.severity == 1
    assert found.image_id == ""


def test_a_mask_that_breaks_off_at_its_neighbours_is_found(raw):
    stripes = np.zeros((SIDE, SIDE), bool)
    stripes[10:20] = True
    for name in raw.masks:
        raw.masks[name] = stripes
    raw.masks["p030"] = ~stripes
    dataset = ingest(raw.write())
    pairs = [Neighbours(n, n + 1, "right") for n in range(COUNT - 1)]
    kinds = [one.image_id for one in audit(dataset, neighbours=pairs) if one.kind == "neighbours-disagree"]
    assert kinds == ["p030"]
    assert not [one for one in audit(dataset) if one.kind == "neighbours-disagree"]


def test_pairs_that_disagree_are_listed_with_the_rest(raw):
    found = audit(ingest(raw.write()), disagreeing=[(2, 3)])
    (one,) = (one for one in found if one.kind == "duplicates-disagree")
    assert (one.image_id, one.other) == ("p003", "p002"), "of few images the later one is named"


def test_a_class_that_a_fold_lacks_is_named(raw):
    dataset = ingest(raw.write())
    folds = np.where(dataset.images["foreground"] > 0, 1, 0)
    assert [one.reason for one in missing_classes(dataset, folds)] == ["fold 0 holds no object of class object"]
    assert missing_classes(dataset, np.where(folds == 0, -1, folds)) == []


def test_a_slip_of_the_hand_stands_above_a_piece_cut_off_at_the_border(raw):
    pixel(raw)
    raw.masks["p008"] = np.zeros((SIDE, SIDE), bool)
    raw.masks["p008"][0, 9] = True
    slip, piece = (one for one in found_in(raw) if one.kind == "speck")
    assert (slip.image_id, piece.image_id) == ("p004", "p008")
    assert slip.severity >= 0.8 > piece.severity


def test_columns_that_touch_no_border_stand_above_what_the_border_cut(raw):
    """A mask that holds both sides of the image and leaves a gap has two free sides as well."""
    columns(raw)
    for name in ("p008", "p009", "p010"):
        raw.masks[name] = np.zeros((SIDE, SIDE), bool)
        raw.masks[name][:, :12] = raw.masks[name][:, 30:] = True
    found = [one for one in found_in(raw) if one.kind == "full-columns"]
    assert found[0].image_id == "p004"
    assert "touch no border" in found[0].reason
    assert "as 1 of" in found[0].reason


def test_a_uniform_image_is_worse_for_being_labelled(raw):
    was = raw.images["p004"]
    nearly_uniform(raw)
    (empty,) = (one for one in found_in(raw) if one.kind == "uniform")
    raw.images["p005"], raw.images["p004"] = raw.images["p004"], was
    (labelled,) = (one for one in found_in(raw) if one.kind == "uniform")
    assert (empty.image_id, labelled.image_id) == ("p004", "p005")
    assert "pixels are labelled" in labelled.reason
    assert labelled.severity > empty.severity


def test_a_decade_is_a_decade():
    """Of an exponential tail a tenth lies beyond each decade; half a hundredth of outliers hardly moves it."""
    values = -np.log10(1 - (np.arange(10_000) + 0.5) / 10_000)
    values[::200] += 50
    out = decades(values, np.ones(len(values), bool), 1e-6)
    for decade in (1, 2):
        assert (out > decade).mean() == pytest.approx(10.0**-decade + 0.005, rel=0.4)
    assert decades(np.array([5.0, 5, 5, 5.1]), np.ones(4, bool), 1.0).max() < 1, "differences of no meaning"
