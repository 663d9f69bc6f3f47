"""Made datasets of several kinds -> the recipe that fits each, and why."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from segsmith.data.dataset import Dataset
from segsmith.data.scenes import make_buildings, make_folder, make_salt, make_ships, make_steel
from segsmith.eda.inspect import inspect
from segsmith.errors import DataError
from segsmith.recipe_files import load_recipe
from segsmith.tuning.plan import Plan, plan

MINUTES = 0.05


def planned(raw: Path, minutes: float = MINUTES) -> Plan:
    inspect(raw, raw.with_suffix(".dataset"), audit=False)
    return plan(raw.with_suffix(".dataset"), minutes=minutes)


def test_a_plan_reads_back_as_the_recipe_it_is_and_every_reason_names_an_option(tmp_path):
    make_folder(tmp_path / "cells", images=24, hw=(64, 64), masks="index")
    found = planned(tmp_path / "cells")
    (tmp_path / "recipe.yaml").write_text(found.to_yaml())
    assert load_recipe(tmp_path / "recipe.yaml") == found.recipe
    assert found.to_yaml().startswith("".join(f"# {line}\n" for line in found.told()))
    chosen = yaml.safe_load(found.to_yaml())
    for key, line in zip(found.reasons, found.told(), strict=True):
        value = chosen
        for name in key.split("."):
            value = value[int(name) if name.isdigit() else name]
        assert line.startswith(f"{key}: " if isinstance(value, dict) else f"{key}=")
    assert "network.encoder=resnet18: " in found.to_yaml(), "stated, though it is the default"
    assert "data.input_hw=[64, 64]: " in found.to_yaml()
    assert "are the least that a training is worth, and take" in found.reasons["train.stages.0.epochs"]


def test_kinds_of_cells_exclude_each_other_and_defects_of_steel_overlap(tmp_path):
    make_folder(tmp_path / "cells", images=24, hw=(64, 64), masks="index")
    cells = planned(tmp_path / "cells")
    assert cells.recipe.data.exclusive
    assert cells.recipe.train.stages[0].loss.cross_entropy
    make_steel(tmp_path / "steel", images=60, test_images=2, hw=(64, 160))
    steel = planned(tmp_path / "steel")
    assert "no pixel has two" not in steel.reasons.get("data.exclusive", "")
    assert not steel.recipe.data.exclusive
    assert steel.recipe.train.stages[0].loss.bce


def test_layers_have_an_up_and_down_and_the_sea_has_none(tmp_path):
    make_salt(tmp_path / "salt", train_images=40, test_images=2)
    salt = planned(tmp_path / "salt").recipe
    assert salt.data.fit == "pad"
    assert salt.data.input_hw == (112, 112)
    assert not salt.train.stages[0].augment.vflip
    assert salt.predict.flips == "horizontal"
    make_ships(tmp_path / "ships", train_images=40, test_images=2, size=128)
    ships = planned(tmp_path / "ships")
    assert ships.recipe.train.stages[0].augment.vflip == ships.recipe.train.stages[0].augment.transpose == 0.5
    assert ships.recipe.predict.flips == "both"
    assert ships.recipe.train.stages[0].mix == {"empty": 0.35, "filled": 0.65}
    assert "75% of the images are empty" in ships.reasons["train.stages.0.mix"]


def test_large_scenes_are_cut_at_one_resolution_into_blocks_that_can_be_dealt(tmp_path):
    make_buildings(tmp_path / "town", areas=1, noisy_areas=0, scenes=2, hw=(768, 1100), gsds_m=(0.1, 0.2))
    found = planned(tmp_path / "town")
    data = found.recipe.data
    assert data.fit == "chip"
    assert data.gsd_m == pytest.approx(0.15)
    assert "0.1 to 0.2 metres a pixel" in found.reasons["data.gsd_m"]
    assert found.recipe.decide.metric == "global_iou"


def test_little_time_shows_images_smaller_and_less_often_and_much_time_does_not(tmp_path):
    make_folder(tmp_path / "cracks", images=24, hw=(128, 128), things="cracks")
    little, much = planned(tmp_path / "cracks", 0.01).recipe, planned(tmp_path / "cracks", 1000.0).recipe
    seen = [recipe.train.stages[0] for recipe in (little, much)]
    assert np.prod(little.data.input_hw) < np.prod(much.data.input_hw)
    assert much.data.input_hw == (128, 128)
    assert seen[0].epochs * (seen[0].images_per_epoch or 24) < seen[1].epochs * 24


def test_what_nothing_can_be_planned_for_is_refused(tmp_path):
    make_ships(tmp_path / "ships", train_images=40, test_images=2, size=64)
    inspect(tmp_path / "ships", tmp_path / "labels", assume_hw=(64, 64))
    with pytest.raises(DataError, match=r"labelled images have 0 bands; .*inspect them with their images"):
        plan(tmp_path / "labels")
    inspect(tmp_path / "ships", tmp_path / "all", audit=False)
    images = Dataset.open(tmp_path / "all").images
    empty = tmp_path / "empty.txt"
    empty.write_text("\n".join(images.loc[images["foreground"] > 0, "image_id"]) + "\n")
    inspect(tmp_path / "ships", tmp_path / "none", audit=False, exclude=[str(empty)])
    with pytest.raises(DataError, match="no labelled image holds foreground"):
        plan(tmp_path / "none")


@pytest.mark.parametrize(
    ("minutes", "gain", "batch", "told"),
    [
        (60.0, 0.0, 4, "measured here: 4 100.0 images/s, 8 100.0 images/s, 16 100.0 images/s; larger ones would leave"),
        (
            60.0,
            0.2,
            16,
            "16 140.0 images/s; larger ones would leave less than 500 steps of 270,000 images",
        ),
        (0.5, 0.2, 4, "the smallest; larger ones would leave less than 500 steps of 2,250 images in all, or 8 of 160"),
    ],
)
def test_the_batch_is_the_smallest_that_is_fast_and_leaves_enough_steps(
    tmp_path, monkeypatch, minutes, gain, batch, told
):
    """On a machine that trains 100 images/s, and with each doubling of the batch so much more."""

    def rate(recipe, bands, classes, *, batch=4, steps=3):
        return 100.0 * (1 + gain * np.log2(batch / 4))

    monkeypatch.setattr("segsmith.tuning.plan.training_rate", rate)
    monkeypatch.setattr("segsmith.tuning.find_batch.training_rate", rate)
    make_folder(tmp_path / "cells", images=200, hw=(64, 64), masks="index")
    found = planned(tmp_path / "cells", minutes)
    assert found.recipe.train.batch_size == batch
    assert told in found.reasons["train.batch_size"]
    assert f"{rate(None, 3, 1, batch=batch):.1f} images/s" in found.reasons["train.stages.0.epochs"]
