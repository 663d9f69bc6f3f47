"""A dataset -> findings: each kind found where it was planted, and not where all is well."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from segsmith.data import rle
from segsmith.data.audit import Neighbours, audit, decades
from segsmith.data.dataset import Dataset
from segsmith.data.examine import examine
from segsmith.data.findings import BrokenFilesError, Finding, printed, to_csv, worst_first
from segsmith.data.ingest import ingest
from segsmith.errors import DataError

SIDE = 40
COUNT = 120


def picture(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright slanted ellipse on darker, soft ground, and its mask; every fourth is without one."""
    draw = np.random.default_rng([7, number])
    grey = 90 + 12 * cv2.GaussianBlur(draw.normal(0, 6, (SIDE, SIDE)), (0, 0), 2) + draw.normal(0, 3, (SIDE, SIDE))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    if number % 4:
        centre, axes = draw.integers([8, 20], [18, 32]), draw.integers([4, 7], [6, 11])
        cv2.ellipse(mask, (centre.tolist(), (2 * axes).tolist(), float(draw.integers(20, 70))), 1, -1)
        grey[mask > 0] += 80
    return np.clip(grey, 0, 255).astype(np.uint8), mask > 0


class Raw:
    """A raw folder of pictures; what a test changes is written before it is read."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.images: dict[str, np.ndarray] = {}
        self.masks: dict[str, np.ndarray] = {}
        for number in range(COUNT):
            self.images[f"p{number:03}"], self.masks[f"p{number:03}"] = picture(number)
        self.levels = dict.fromkeys(self.masks, 255)

    def write(self) -> Path:
        for folder in ("train", "masks"):
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
        rows = ["id,rle_mask"]
        for name, image in self.images.items():
            cv2.imwrite(str(self.folder / "train" / f"{name}.png"), image)
            cv2.imwrite(str(self.folder / "masks" / f"{name}.png"), self.masks[name] * np.uint8(self.levels[name]))
            rows.append(f"{name},{rle.to_text(rle.encode(self.masks[name]))}")
        (self.folder / "train.csv").write_text("\n".join(rows) + "\n")
        return self.folder

    def found(self) -> list[Finding]:
        return audit(ingest(self.write()))


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    return Raw(tmp_path / "raw")


def told(findings: list[Finding], image_id: str) -> list[str]:
    return [found.kind for found in findings if found.image_id == image_id]


def test_where_all_is_well_little_is_said(raw):
    found = raw.found()
    assert len(found) <= 3, found
    assert all(one.severity < 0.6 for one in found)


def uniform(raw: Raw) -> None:
    raw.images["p004"] = np.full((SIDE, SIDE), 120, np.uint8)


def nearly_uniform(raw: Raw) -> None:
    raw.images["p004"] = np.random.default_rng(0).integers(119, 122, (SIDE, SIDE), np.uint8)


def noise(raw: Raw) -> None:
    raw.images["p004"] = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), np.uint8)


def blank(raw: Raw) -> None:
    raw.images["p004"] = np.zeros((SIDE, SIDE), np.uint8)


def labelled_blank(raw: Raw) -> None:
    raw.images["p004"] = np.zeros((SIDE, SIDE), np.uint8)
    raw.masks["p004"] = raw.masks["p001"]


def bright(raw: Raw) -> None:
    raw.images["p004"] = np.clip(raw.images["p004"].astype(int) + 140, 0, 254).astype(np.uint8)


def size(raw: Raw) -> None:
    raw.images["p004"], raw.masks["p004"] = np.tile(raw.images["p004"], (2, 1)), np.zeros((2 * SIDE, SIDE), bool)


def bands(raw: Raw) -> None:
    raw.images["p004"] = np.repeat(raw.images["p004"][:, :, None], 3, axis=2)


def levels(raw: Raw) -> None:
    raw.masks["p004"], raw.levels["p004"] = raw.masks["p001"], 1


def rectangle(raw: Raw) -> None:
    raw.masks["p004"] = np.zeros((SIDE, SIDE), bool)
    raw.masks["p004"][10:25, 8:30] = True


def columns(raw: Raw) -> None:
    raw.masks["p004"] = np.zeros((SIDE, SIDE), bool)
    raw.masks["p004"][:, 10:15] = True


def rows(raw: Raw) -> None:
    raw.masks["p004"] = np.zeros((SIDE, SIDE), bool)
    raw.masks["p004"][5:15] = True


def whole(raw: Raw) -> None:
    raw.masks["p004"] = np.ones((SIDE, SIDE), bool)


def pixel(raw: Raw) -> None:
    raw.masks["p004"] = np.zeros((SIDE, SIDE), bool)
    raw.masks["p004"][7, 9] = True


def staircase(raw: Raw) -> None:
    raw.masks["p004"] = np.zeros((SIDE, SIDE), bool)
    raw.masks["p004"][5:20, 5:20] = raw.masks["p004"][20:35, 5:35] = True


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (uniform, "uniform"),
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
def test_what_was_planted_is_found_where_it_was(raw: Raw, plant: Callable[[Raw], None], kind: str):
    plant(raw)
    found = raw.found()
    assert kind in told(found, "p004")
    assert kind not in [one.kind for one in found if one.image_id != "p004"]


def test_a_transposed_mask_is_found_and_stands_above_what_is_well(raw):
    raw.masks["p006"] = np.ascontiguousarray(raw.masks["p006"].T)
    (found,) = [one for one in raw.found() if one.image_id == "p006"]
    assert found.kind in ("mask-transposed", "mask-disagrees")
    assert found.row == 8, "the row of train.csv, header included"


def test_masks_all_read_along_the_wrong_axis_are_one_finding(raw):
    raw.masks = {name: np.ascontiguousarray(mask.T) for name, mask in raw.masks.items()}
    (found,) = [one for one in raw.found() if one.kind == "all-transposed"]
    assert found.severity == 1
    assert found.image_id == ""


def test_a_mask_that_breaks_off_at_its_neighbours_is_found(raw):
    stripes = np.zeros((SIDE, SIDE), bool)
    stripes[10:20] = True
    for name in raw.masks:
        raw.masks[name] = stripes
    raw.masks["p050"] = ~stripes
    dataset = ingest(raw.write())
    pairs = [Neighbours(n, n + 1, "right") for n in range(COUNT - 1)]
    kinds = [one.image_id for one in audit(dataset, neighbours=pairs) if one.kind == "neighbours-disagree"]
    assert kinds == ["p050"]
    assert not [one for one in audit(dataset) if one.kind == "neighbours-disagree"]


def test_what_others_found_is_listed_with_the_rest(raw):
    dataset = ingest(raw.write())
    folds = np.where(dataset.images["foreground"] > 0, 1, 0)
    found = audit(dataset, folds=folds, disagreeing=[(2, 3)])
    assert [one.reason for one in found if one.kind == "class-missing"] == ["fold 0 holds no object of class object"]
    assert {one.image_id for one in found if one.kind == "duplicates-disagree"} == {"p002", "p003"}


def test_a_decade_is_a_decade():
    """Of an exponential tail a tenth lies beyond each decade; half a hundredth of outliers hardly moves it."""
    values = -np.log10(1 - (np.arange(10_000) + 0.5) / 10_000)
    values[::200] += 50
    out = decades(values, np.ones(len(values), bool), 1e-6)
    for decade in (1, 2):
        assert (out > decade).mean() == pytest.approx(10.0**-decade + 0.005, rel=0.4)
    assert decades(np.array([5.0, 5, 5, 5.1]), np.ones(4, bool), 1.0).max() < 1, "differences of no meaning"


# Leaving out


def examined(folder: Path, names: list[str]) -> tuple[Dataset, list[Finding]]:
    found = examine(lambda out: ingest(folder, exclude=out), names)
    return found.dataset, found.findings


def test_broken_files_stop_everything_unless_left_out(raw):
    folder = raw.write()
    for file in (folder / "train" / "p003.png", folder / "masks" / "p005.png"):
        file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(BrokenFilesError, match="--exclude undecodable"):
        examined(folder, [])
    dataset, found = examined(folder, ["undecodable"])
    assert {one.image_id for one in found if one.kind == "undecodable"} == {"p003", "p005"}
    assert found[0].kind == "undecodable"
    assert not {"p003", "p005"} & set(dataset.images["image_id"])
    assert len(dataset) == COUNT - 2
    assert "left out: 2 images (undecodable)" in dataset.notes


def test_a_mask_that_contradicts_the_table_can_be_left_out(raw):
    folder = raw.write()
    cv2.imwrite(str(folder / "masks" / "p005.png"), np.zeros((SIDE, SIDE), np.uint8))
    with pytest.raises(BrokenFilesError, match="--exclude mask-mismatch"):
        examined(folder, ["undecodable"])
    dataset, _ = examined(folder, ["mask-mismatch"])
    assert len(dataset) == COUNT - 1


def test_findings_and_listed_ids_are_left_out_and_counted(raw, tmp_path):
    rectangle(raw)
    (tmp_path / "bad.txt").write_text("p010\np011\n\n")
    dataset, found = examined(raw.write(), ["rectangle", str(tmp_path / "bad.txt")])
    assert set(raw.images) - set(dataset.images["image_id"]) == {"p004", "p010", "p011"}
    assert {"left out: 2 images (listed in bad.txt)", "left out: 1 images (rectangle)"} <= set(dataset.notes)
    assert told(found, "p004") == ["rectangle"]
    assert dataset.mask(4).any() == raw.masks["p005"].any()


@pytest.mark.parametrize("name", ["rectangles", "no-such-file.txt"])
def test_an_unknown_name_is_refused(raw, name):
    with pytest.raises(DataError, match=f"'{name}' is neither a kind of finding nor a file of ids"):
        examined(raw.write(), [name])


def test_nothing_left_is_refused(raw, tmp_path):
    (tmp_path / "all.txt").write_text("\n".join(raw.images))
    with pytest.raises(DataError, match="images are left out"):
        examined(raw.write(), [str(tmp_path / "all.txt")])


# The list


def test_the_list_is_short_and_the_worst_comes_first():
    found = worst_first(
        [
            *(Finding("speck", 0.3, f"s{n}", f"s{n}.png", "mask is speck: 1 pixels") for n in range(5)),
            Finding("undecodable", 1.0, "u", "u.png", "u.png: does not decode"),
        ]
    )
    assert [one.kind for one in found] == ["undecodable"] + 5 * ["speck"]
    lines = printed(found)
    assert [line.split(":")[0] for line in lines] == ["undecodable", "speck"]
    assert "5 images have a mask of a few pixels: s0, s1, s2 ...; check" in lines[1]
    assert printed(found, lines=1)[1] == "and 1 more kinds of findings: see findings.csv"
    assert to_csv(found).splitlines()[1].startswith("undecodable,1.000,u,u.png,,u.png: does not decode,")


def test_a_finding_of_no_kind_is_refused():
    with pytest.raises(ValueError, match="Received: odd"):
        Finding("odd", 0.5, "", "", "")
    with pytest.raises(ValueError, match=r"Received: 1\.5"):
        Finding("speck", 1.5, "", "", "")
