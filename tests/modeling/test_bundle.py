"""Weights and all that stands around them -> one file -> the same again; files that are no bundle."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_type_hints

import pytest
import safetensors
import safetensors.torch
import torch

from segsmith.data.dataset import Layout
from segsmith.data.rasters import Levels
from segsmith.errors import ModelError
from segsmith.modeling.bundle import Bundle, Cell, Decision, Dial, Part
from segsmith.networks.networks import build_network
from segsmith.recipe import Recipe
from segsmith.recipe_files import override
from segsmith.samples.sight import Sight

MEAN, STD = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
DECISION = Decision(
    cells=(Cell(97, 12), Cell(1, 0, gate=30, depth=8)),
    separate_by="border",
    gate_by="top_k",
    gate_pixels=7,
    fill_holes=True,
    metric="mean_iou_map",
    score=0.75,
    cross_fitted_score=0.74,
    areas=(0, 12),
    surfaces=(((0.1, 0.2), (0.7, 0.75)), ((0.3, 0.3), (0.3, 0.4))),
    gates=(((0, 0.75),), ((0, 0.3), (30, 0.4))),
    parts=((Cell(97, 12), Cell(1)), (Cell(1, 0), Cell(2))),
    dials=(Dial(0.05, 40, 0.02, 0.5, None),),
    temperature=1.5,
)


@pytest.fixture
def bundle(tiny: Recipe) -> Bundle:
    torch.manual_seed(0)
    return Bundle(
        members=(build_network(tiny.network, 1, MEAN, STD).state_dict(),),
        recipe=tiny,
        mean=MEAN,
        std=STD,
        classes=("ship",),
        layout=Layout("rle-objects", "ImageId", "EncodedPixels", one_row_per="object", id_has_suffix=True),
        fingerprint="0123456789abcdef",
    )


@pytest.fixture
def file(bundle: Bundle, tmp_path: Path) -> Path:
    bundle.write(tmp_path / "bundle.safetensors")
    return tmp_path / "bundle.safetensors"


def rewritten(file: Path, **metadata: str) -> None:
    """Write the file again with other metadata."""
    with safetensors.safe_open(file, "pt") as opened:
        known = opened.metadata()
    safetensors.torch.save_file(safetensors.torch.load_file(file), file, known | metadata)


@pytest.mark.parametrize("decision", [Decision(), DECISION, replace(DECISION, cross_fitted_score=None)])
def test_what_is_written_is_read(bundle, tmp_path, decision):
    sight = Sight(0.5, (0.1, 0.3), (Levels((1.0, 2.0, 3.0), (90.0, 91.0, 92.0)), Levels((0.0,) * 3, (1.0,) * 3)))
    written = replace(bundle, decision=decision, sight=sight)
    written.write(tmp_path / "bundle.safetensors")
    read = Bundle.read(tmp_path / "bundle.safetensors")

    assert read.decision == decision
    for name in get_type_hints(Bundle).keys() - {"members"}:
        assert getattr(read, name) == getattr(written, name), name
    assert_same_members(read, written)


def assert_same_members(read: Bundle, written: Bundle) -> None:
    assert len(read.members) == len(written.members)
    for found, weights in zip(read.members, written.members, strict=True):
        assert found.keys() == weights.keys()
        for name, tensor in weights.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor), name


def test_networks_come_back_in_their_order(bundle, tmp_path):
    """More than ten of them: numbers, not names, are what is sorted."""
    (weights,) = bundle.members
    several = tuple({name: tensor + number for name, tensor in weights.items()} for number in range(12))
    written = replace(bundle, members=several)
    written.write(tmp_path / "bundle.safetensors")
    read = Bundle.read(tmp_path / "bundle.safetensors")
    assert_same_members(read, written)
    for network, expected in zip(read.networks(), several, strict=True):
        assert all(torch.equal(tensor, expected[name]) for name, tensor in network.state_dict().items())


def test_a_bundle_is_its_network(bundle, file):
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    (network,), (expected,) = Bundle.read(file).networks(), bundle.networks()
    assert not network.training
    with torch.inference_mode():
        assert torch.equal(network(images)["mask"], expected(images)["mask"])


def test_a_bundle_needs_no_other_file(bundle, tmp_path):
    """The encoder weights that training began with may be gone."""
    began_with = override(bundle.recipe, ["network.encoder_weights=gone.safetensors"])
    replace(bundle, recipe=began_with).write(tmp_path / "bundle.safetensors")
    Bundle.read(tmp_path / "bundle.safetensors").networks()


def test_a_decision_can_be_stored_in_the_file_it_was_read_from(file):
    """As decide does: the weights come from the file that is replaced."""
    read = Bundle.read(file)
    replace(read, decision=DECISION).write(file)
    again = Bundle.read(file)
    assert again.decision == DECISION
    assert_same_members(again, read)


def test_the_threshold_is_the_level_as_a_probability():
    assert Cell().threshold == pytest.approx(0.502, abs=1e-3)
    assert Cell(level=51).threshold == 0.2


def test_no_file(tmp_path):
    with pytest.raises(ModelError, match=r"gone: no such file; train writes bundle\.safetensors into its run folder"):
        Bundle.read(tmp_path / "gone")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\3\4" + bytes(100), bytes(1000), b"\xff" * 1000])
def test_a_file_of_something_else(tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(ModelError, match="other: does not read as a bundle"):
        Bundle.read(tmp_path / "other")


def test_a_folder(tmp_path):
    with pytest.raises(ModelError, match="does not read as a bundle"):
        Bundle.read(tmp_path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_other_safetensors(tmp_path, metadata):
    safetensors.torch.save_file({"weight": torch.ones(3)}, tmp_path / "model.safetensors", metadata)
    with pytest.raises(ModelError, match=r"model\.safetensors: safetensors, but no segsmith bundle"):
        Bundle.read(tmp_path / "model.safetensors")


def test_a_bundle_of_an_older_format_says_so(file):
    rewritten(file, segsmith="2")
    with pytest.raises(
        ModelError, match=r"a bundle of format 2, and this version of segsmith reads format 4; train again"
    ):
        Bundle.read(file)


@pytest.mark.parametrize("kept", [0.01, 0.3, 0.9, 0.9999])
def test_a_file_cut_short(file, kept):
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ModelError, match="does not read as a bundle"):
        Bundle.read(file)


@pytest.mark.parametrize("change", ["without recipe", "without decision", "other option", "other decision", "no JSON"])
def test_facts_of_another_version(bundle, file, change):
    facts = {
        "recipe": bundle.recipe.model_dump(mode="json"),
        "mean": MEAN,
        "std": STD,
        "classes": bundle.classes,
        "layout": asdict(bundle.layout),
        "fingerprint": bundle.fingerprint,
        "extra": bundle.extra,
        "decision": asdict(bundle.decision),
    }
    rewritten(file, facts=json.dumps(facts))
    Bundle.read(file)  # these are the facts; now change them
    if change.startswith("without"):
        del facts[change.split()[1]]
    elif change == "other option":
        facts["recipe"] |= {"colour": "blue"}
    elif change == "other decision":
        facts["decision"] |= {"colour": "blue"}
    rewritten(file, facts="{" if change == "no JSON" else json.dumps(facts))
    with pytest.raises(ModelError, match=r"(?s)written by another version of segsmith .*; train again"):
        Bundle.read(file)


def test_weights_that_do_not_fit(bundle):
    """Of another network, and with one of them missing."""
    other = override(bundle.recipe, ["network.decoder_channels=[8, 8, 16]"])
    with pytest.raises(ModelError, match="the bundle's weights do not fit its recipe"):
        replace(bundle, recipe=other).networks()
    fewer = dict(list(bundle.members[0].items())[:-1])
    with pytest.raises(ModelError, match="the bundle's weights do not fit its recipe"):
        replace(bundle, members=(fewer,)).networks()


def test_a_bundle_of_bundles_is_one_file(bundle, tmp_path):
    """Each with its own recipe and weights, and bundles of bundles among them."""
    (weights,) = bundle.members
    one, *others = [{name: tensor + number for name, tensor in weights.items()} for number in range(4)]
    several = replace(bundle, members=tuple(others[:2]))
    nested = replace(bundle, members=(), parts=(Part(0.25, several), Part(0.75, replace(bundle, members=(one,)))))
    recipe = override(bundle.recipe, ["data.input_hw=[64,64]"])
    smaller = replace(bundle, members=(others[2],), recipe=recipe)
    written = replace(bundle, members=(), parts=(Part(0.5, nested), Part(0.5, smaller)), decision=DECISION)
    written.write(tmp_path / "bundle.safetensors")
    read = Bundle.read(tmp_path / "bundle.safetensors")
    assert (read.members, read.decision) == ((), DECISION)
    assert [part.weight for part in read.parts] == [0.5, 0.5]
    assert [part.weight for part in read.parts[0].bundle.parts] == [0.25, 0.75]
    assert read.parts[1].bundle.recipe.data.input_hw == (64, 64)
    assert_same_members(read.parts[0].bundle.parts[0].bundle, several)
    assert_same_members(read.parts[1].bundle, smaller)


def test_networks_of_a_fold_are_told_by_their_place(bundle):
    in_turn = override(bundle.recipe, ["folds.count=4", "folds.held_out=1", "folds.validation=all"])
    (weights,) = bundle.members
    several = tuple({name: tensor + number for name, tensor in weights.items()} for number in range(6))
    for fold, expected in ((0, several[:2]), (2, several[2:4]), (3, several[4:])):
        assert replace(bundle, recipe=in_turn, members=several).of_fold(fold).members == expected
