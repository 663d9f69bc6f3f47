"""The typed recipe: what loads, what it says of itself, and how a mistake is pointed at."""

import json
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from segsmith.errors import RecipeError
from segsmith.recipe import Data, Network, Recipe
from segsmith.recipe_files import load_recipe, override, recipe_names, recipe_schema, to_yaml

BUSY = [
    "name=all sorts",
    "data.input_hw=[64, 96]",
    "folds.held_out=1",
    "network.encoder_weights=null",
    "network.decoder_channels=[64, 32, 16]",
    "network.heads={border: {kind: mask, loss: {dice: 1}}}",
    "data.sources={tier 2: {weight: 0.5, trust: 0.25}, 'yes': {}}",
    "train.stages=[{epochs: 2}, {start_from: last, optimizer: {lr: 1e-7}, mix: {single: 1}}]",
    "train.select_by=global_iou",
    "decide.areas=[0, 10, 100]",
    "predict.crf={reach_px: 5}",
    "search={over: {seed: [1, 2], network.dropout: {low: 0, high: 0.5}}}",
]
"""Overrides that set something of every kind: texts, lists, nulls, sections in lists, small numbers."""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "job.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refused(folder: Path, text: str | bytes, overrides: tuple[str, ...] = ()) -> str:
    """What the user reads, the file's folder left out."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(folder, text), overrides)
    return str(caught.value).replace(f"{folder}/", "")


def sections(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section of a recipe and its dotted path, found in the annotations."""
    yield path, model
    for name, field in model.model_fields.items():
        parts = [field.annotation, *typing.get_args(field.annotation)]
        for part in parts:
            if isinstance(part, type) and not isinstance(part, types.GenericAlias) and issubclass(part, BaseModel):
                yield from sections(part, f"{path}.{name}".lstrip("."))


SECTIONS = list(sections(Recipe))


# What loads


def test_an_empty_file_is_the_default_recipe(tmp_path):
    assert load_recipe(written(tmp_path, "")) == Recipe()
    assert load_recipe(written(tmp_path, "# nothing yet\n")) == Recipe()


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_load_under_their_own_name(name):
    assert load_recipe(name).name == name


def test_there_are_shipped_recipes():
    assert "salt" in recipe_names()
    assert recipe_names() == sorted(recipe_names())


def test_a_file_states_only_what_differs(tmp_path):
    recipe = load_recipe(written(tmp_path, "train:\n  batch_size: 3\n  stages:\n  - epochs: 7\n  - loss: {dice: 2}\n"))
    assert recipe.train.batch_size == 3
    assert [stage.epochs for stage in recipe.train.stages] == [7, 10]
    assert recipe.train.stages[1].loss.dice == 2
    assert recipe.train.stages[1].loss.bce == 0
    assert recipe.train.stages[0].loss.bce == 1


def test_numbers_may_be_written_with_an_exponent(tmp_path):
    text = "train:\n  stages:\n  - optimizer: {lr: 1e-4}\n"  # YAML 1.1 takes 1e-4 for a text
    assert load_recipe(written(tmp_path, text)).train.stages[0].optimizer.lr == 1e-4


@pytest.mark.parametrize("explained", [False, True])
@pytest.mark.parametrize("source", [*recipe_names(), "busy"])
def test_a_written_recipe_loads_equal(tmp_path, source, explained):
    recipe = override(Recipe(), BUSY) if source == "busy" else load_recipe(source)
    assert load_recipe(written(tmp_path, to_yaml(recipe, explained=explained))) == recipe


@pytest.mark.parametrize("explained", [False, True])
@pytest.mark.parametrize(
    "texts",
    [
        ("null", "yes", "1e5", "- 1"),
        ("a # b", "a: b", "it's", 'say "so"'),
        ("# a", "&a", "*a", "!a"),
        ("{a}", "[a, b]", "a, b", "%a"),
        (" a ", "a\n\n b: c\n", "\t", "\r\n"),
        ("", "...", "---", "\\n"),
        ("é", "\N{GRINNING FACE}", "2026-01-01", "a  " * 200),
    ],
)
def test_any_text_survives_writing(tmp_path, texts, explained):
    name, label, encoder, weights = texts
    network = Network(encoder=encoder, encoder_weights=weights)
    recipe = Recipe(name=name, data=Data(classes=(label,)), network=network)
    assert load_recipe(written(tmp_path, to_yaml(recipe, explained=explained))) == recipe


@pytest.mark.parametrize("explained", [False, True])
def test_a_written_mix_keeps_its_order(tmp_path, explained):
    recipe = override(Recipe(), ["train.stages.0.mix={multi: 1, 'class:rust': 2, empty: 1}"])
    again = load_recipe(written(tmp_path, to_yaml(recipe, explained=explained)))
    assert list(again.train.stages[0].mix) == ["multi", "class:rust", "empty"]


def test_every_option_is_stated_and_explained():
    lines = to_yaml(override(Recipe(), BUSY), explained=True).splitlines()
    for _, model in SECTIONS:
        for name, field in model.model_fields.items():
            assert any(
                line.strip().removeprefix("- ").startswith(f"{name}:") and line.endswith(f"# {field.description}")
                for line in lines
            ), name
    assert not any("#" in line for line in to_yaml(Recipe()).splitlines())


def test_a_recipe_is_frozen():
    recipe = Recipe()
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        recipe.train.stages[0].loss.bce = 0.5


# What it says of itself


@pytest.mark.parametrize(("path", "model"), SECTIONS, ids=[path or "recipe" for path, _ in SECTIONS])
def test_every_option_has_one_sentence(path, model):
    for name, field in model.model_fields.items():
        assert field.description, f"{path}.{name}"
        assert field.description.endswith("."), f"{path}.{name}: {field.description}"
        assert "\n" not in field.description


def test_all_sections_are_seen():
    assert {"train.stages.schedule", "decide"} <= {path for path, _ in SECTIONS}


def test_the_schema_tells_an_editor_all(tmp_path):
    schema = json.loads(json.dumps(recipe_schema(), allow_nan=False))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    objects = [schema, *schema["$defs"].values()]
    assert len(objects) == len({model for _, model in SECTIONS})
    for each in objects:
        assert each["additionalProperties"] is False
        for name, option in each["properties"].items():
            assert option["description"], name
    known = {f"#/$defs/{name}" for name in schema["$defs"]}
    assert references(schema) == known


def references(tree: object) -> set[str]:
    if isinstance(tree, dict):
        here = {tree["$ref"]} if "$ref" in tree else set()
        return here.union(*map(references, tree.values()))
    return set().union(*map(references, tree)) if isinstance(tree, list) else set()


# Overrides


@pytest.mark.parametrize(
    ("overrides", "path", "value"),
    [
        (["train.batch_size=8"], "train.batch_size", 8),
        (["train.batch_size=8", "train.batch_size=4"], "train.batch_size", 4),
        ([" train.batch_size = 8"], "train.batch_size", 8),
        (["name=a=b"], "name", "a=b"),
        (["data.input_hw=[64, 32]"], "data.input_hw", (64, 32)),
        (["data.input_hw.1=64"], "data.input_hw", (256, 64)),
        (["decide.areas=[0, 5]"], "decide.areas", (0, 5)),
        (["decide.areas=[0, 5]", "decide.areas=null"], "decide.areas", None),
        (["train.stages.0.epochs=3"], "train.stages.0.epochs", 3),
        (["train.stages=[{}, {}]", "train.stages.1.epochs=7"], "train.stages.1.epochs", 7),
        (["train.stages.0.loss={dice: 1}"], "train.stages.0.loss.dice", 1),
        (["train.stages.0.mix.empty=0.5"], "train.stages.0.mix.empty", 0.5),  # a section that was null
        (["train.stages.0.mix={}", "train.stages.0.mix=null"], "train.stages.0.mix", None),
    ],
)
def test_overrides(overrides, path, value):
    found = override(Recipe(), overrides)
    for key in path.split("."):
        found = found[int(key)] if key.isdigit() else found[key] if isinstance(found, dict) else getattr(found, key)
    assert found == value


def test_an_override_leaves_the_rest_and_the_given_recipe():
    recipe = load_recipe("salt")
    changed = override(recipe, ["train.stages.0.augment.hflip=0.125"])
    assert changed != recipe
    assert override(changed, [f"train.stages.0.augment.hflip={recipe.train.stages[0].augment.hflip}"]) == recipe
    assert recipe == load_recipe("salt")


def test_of_two_overrides_of_a_key_the_last_is_at_fault():
    with pytest.raises(RecipeError, match=r"^override 'train\.workers=-1': train\.workers: "):
        override(Recipe(), ["train.workers=2", "train.workers=-1"])
    with pytest.raises(RecipeError, match=r"^override 'data\.input_hw\.1=0': data\.input_hw\.1: "):
        override(Recipe(), ["data.input_hw=[64, 32]", "data.input_hw.1=0"])


def test_overrides_come_after_the_file(tmp_path):
    assert load_recipe(written(tmp_path, "seed: 3\n"), ["seed=4"]).seed == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.batch_size", "override 'train.batch_size' is not KEY=VALUE, such as train.batch_size=8"),
        ("=8", "override '=8' is not KEY=VALUE"),
        ("train..batch_size=8", "override 'train..batch_size=8' is not KEY=VALUE"),
        ("train.batch_size=[", "override 'train.batch_size=[': the value is not YAML"),
        (
            "train.batch_size=0",
            "override 'train.batch_size=0': train.batch_size: Input should be greater than or equal to 1",
        ),
        ("train.batch_size=many", "(got 'many')"),
        ("train.batch_sise=8", "train.batch_sise: unknown key; did you mean 'batch_size'?"),
        ("trian.batch_size=8", "trian: unknown key; did you mean 'train'?"),
        ("train.stages.0.optimiser.lr=1", "train.stages.0.optimiser: unknown key; did you mean 'optimizer'?"),
        (
            "train.stages.0.mix.qqq=1",
            "train.stages.0.mix.qqq: no such stratum; strata are empty, single",
        ),
        ("data.sources={tier: {wieght: 1}}", "data.sources.tier.wieght: unknown key; did you mean 'weight'?"),
        ("train.stages.2.epochs=8", "train.stages has entries 0 to 0, not '2'"),
        ("train.stages.-1.epochs=8", "train.stages has entries 0 to 0, not '-1'"),
        ("train.stages.first.epochs=8", "train.stages has entries 0 to 0, not 'first'"),
        ("train.batch_size.x=8", "train.batch_size is a value (16) and has no key 'x'"),
        ("train=null", "override 'train=null': train: holds options of its own, as train.KEY=VALUE (got None)"),
        ("train.stages=[]", "train.stages: Tuple should have at least 1 item"),
        ("decide.metric=mean_dise", "did you mean 'mean_dice'?"),
        (
            "folds.stratify_by=foo",
            "'folds.stratify_by=foo': folds.stratify_by: Input should be 'classes', 'objects' or 'coverage', or a list "
            "(got 'foo')",
        ),
        ("folds.stratify_by=[classes,foo]", "folds.stratify_by.1: Input should be 'classes', 'objects' or 'coverage'"),
        ("folds.validation=-1", "folds.validation: Input should be greater than or equal to 0, or 'all' (got -1)"),
        ("train.mlflow=7", "train.mlflow: Input should be a valid boolean, unable to interpret input, or a valid"),
        ("network.decoder=8", "network.decoder: unknown key; did you mean 'encoder' or 'decoder_channels'?"),
        ("network=resnet18", "network: holds options of its own, as network.KEY=VALUE (got 'resnet18')"),
        ("network.heads={a: {kind: border}, b: {kind: border}}", "a and b are both of kind border; one is enough"),
        ("network.heads={a: {kind: mask, width_px: 2}}", "width_px is for kind border, and means nothing to kind mask"),
        (
            "network.heads={a: {kind: border, loss: {cross_entropy: 1}}}",
            "borders of several classes may overlap; set bce",
        ),
        ("decide.separate=distance", "decide.separate=distance is tuned for f2_objects"),
        ("network.heads={Any: {}}", "network.heads.Any: a name is of small letters, digits and _, a letter first"),
        (
            "network.heads={any: {kind: presence, loss: {bce: 1}}}",
            "loss is for kind mask or deep or border, and means nothing to",
        ),
        ("network.heads={any: {kind: deep, share: 2}}", "share is for kind mask, and means nothing to kind deep"),
        ("train.stages.0.start_from=averaged", "start_from=averaged, but there is no stage before it"),
        ("folds.held_out=0", "override 'folds.held_out=0': folds: held_out and validation are both fold 0"),
        ("predict.scales=[1, 1]", "predict.scales=[1.0, 1.0] names an enlargement twice"),
        ("predict.scales=[0.1]", "predict.scales.0: Input should be greater than or equal to 0.25 (got 0.1)"),
        ("decide.gate=presence", "decide.gate=presence asks a head that is not there; add network.heads="),
    ],
)
def test_a_wrong_override_is_quoted(text, message):
    with pytest.raises(RecipeError) as caught:
        override(Recipe(), ["seed=1", text])
    assert message in str(caught.value)
    assert text in str(caught.value)
    assert "seed=1" not in str(caught.value)


# Mistakes in a file

MANY = """\
name: many
train:
  batch_size: x
  stages:
  - epochs: 0
    optimizer:
      lr: -1

  - schedule:
      # the usual slip
      name: onecyle
    bogus: 1
folds: {count: 3,
        validation: 7}
"""


def test_every_mistake_is_told_with_its_line(tmp_path):
    assert sorted(refused(tmp_path, MANY).splitlines()) == sorted(
        [
            "job.yaml, line 3: train.batch_size: Input should be a valid integer, unable to parse string as an integer"
            " (got 'x')",
            "job.yaml, line 5: train.stages.0.epochs: Input should be greater than or equal to 1 (got 0)",
            "job.yaml, line 7: train.stages.0.optimizer.lr: Input should be greater than 0 (got -1)",
            "job.yaml, line 11: train.stages.1.schedule.name: Input should be 'constant', 'step', 'plateau',"
            " 'onecycle', 'cosine', 'cyclic' or 'noam' (got 'onecyle'); did you mean 'onecycle'?",
            "job.yaml, line 12: train.stages.1.bogus: unknown key; valid keys: epochs, start_from, images_per_epoch,"
            " input_hw, mix, hard, loss, heads, optimizer, schedule, augment, augment_last, last_epochs, swa,"
            " snapshots, stop_after",
            "job.yaml, line 13: folds: validation=7 but folds are numbered 0 to 2",
        ]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sede: 1\n", "job.yaml, line 1: sede: unknown key; did you mean 'seed'?"),
        ("\n\ntrain:\n  batchsize: 1\n", "job.yaml, line 4: train.batchsize: unknown key; did you mean 'batch_size'?"),
        ("seed: 1\nname: 3\n", "job.yaml, line 2: name: Input should be a valid string (got 3)"),
        ("data:\n  input_hw: [64]\n", "job.yaml, line 2: data.input_hw.1: Field required"),
        ("data:\n  input_hw:\n  - 64\n  - 0\n", "job.yaml, line 4: data.input_hw.1: Input should be greater than"),
        ("data:\n  classes: []\n", "job.yaml, line 2: data.classes: Tuple should have at least 1 item"),
        ("train:\n", "job.yaml, line 1: train: holds options of its own, as train.KEY=VALUE (got None)"),
        ("train: {stages: [{mix: {empty: 0, single: 0, multi: 0}}]}", "train.stages.0.mix: all shares are 0"),
        ("train: {stages: [{loss: {bce: 0}}]}", "train.stages.0.loss: all losses have weight 0"),
        ("train: {stages: [{loss: {positive_weight: .inf}}]}", "loss.positive_weight: Input should be a finite number"),
        ("train: {stages: [{optimizer: {lr: .nan}}]}", "optimizer.lr: Input should be"),
        ("folds: {count: 3, validation: 3}", "folds: validation=3 but folds are numbered 0 to 2"),
        ("folds: {validation: all, by_heart: true}", "by_heart=true trains on every image at once; set validation=0"),
        (
            "data: {normalise: mean_image}\npredict: {scales: [1, 2]}",
            "predict.scales=[1.0, 2.0] shows images at other sizes, but data.normalise=mean_image",
        ),
        ("folds: {count: 2, held_out: 1}", "folds: with a held-out fold, count must be at least 3"),
        ("data: {input_hw: [64, 32]}\npredict: {flips: all}", "predict.flips=all transposes images, but data.input_hw"),
        (
            "data: {input_hw: [64, 32]}\ntrain: {stages: [{augment: {transpose: 1}}]}",
            "augment.transpose needs a square",
        ),
        ("seed: 1\nname: x\nseed: 2\n", "job.yaml, line 3: seed already stands in line 1"),
        (
            "train:\n  workers: 1\n  stages:\n  - epochs: 1\n    epochs: 2\n",
            "line 5: train.stages.0.epochs already stands",
        ),
        ("train: [1, 2\n", "job.yaml is not YAML"),
        ("train:\n\tworkers: 1\n", "job.yaml is not YAML"),
        ("a: 1\n---\nb: 2\n", "job.yaml is not YAML"),
        ("name: !!python/name:os.system\n", "job.yaml is not YAML"),
        ("- train\n", "job.yaml must hold keys and values, not a list"),
        ("salt\n", "job.yaml must hold keys and values, not a str"),
        ("1: 2\n", "job.yaml, line 1: 1: Keys should be strings"),
        (b"name: caf\xe9\n", "job.yaml is not YAML: it is no UTF-8 text"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path, text, message):
    assert message in refused(tmp_path, text)


def test_a_line_is_that_of_the_file_after_an_override(tmp_path):
    assert refused(tmp_path, "seed: 1\ntrain: {workers: -1}\n", ("seed=3",)).startswith(
        "job.yaml, line 2: train.workers"
    )


def test_a_mistake_in_an_override_is_not_put_to_the_file(tmp_path):
    assert refused(tmp_path, "seed: 1\n", ("seed=-3",)).startswith("override 'seed=-3': seed:")


def test_an_unknown_name_suggests_the_nearest(tmp_path):
    with pytest.raises(
        RecipeError, match=r"no recipe 'slat': neither a file nor a shipped recipe; did you mean 'salt'\?"
    ):
        load_recipe("slat")
    with pytest.raises(RecipeError, match=r"no recipe 'qqqqq': .*; shipped recipes: .*salt"):
        load_recipe("qqqqq")
    with pytest.raises(RecipeError, match="neither a file nor a shipped recipe"):
        load_recipe(tmp_path)


def test_folds_validate_in_turn_but_the_held_out_one():
    recipe = override(Recipe(), ["folds.count=4", "folds.validation=all"])
    assert recipe.folds.validated == (0, 1, 2, 3)
    assert override(recipe, ["folds.held_out=2"]).folds.validated == (0, 1, 3)
    assert override(recipe, ["folds.validation=1"]).folds.validated == (1,)


def test_the_search_of_the_docs_is_a_recipe(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text()
    block = next(text for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if text.startswith("search:"))
    search = load_recipe(written(tmp_path, block)).search
    assert search is not None
    assert search.over["network.encoder"].choices == ("resnet18", "resnet34")
    assert search.over["train.stages.0.optimizer.lr"].low == 1e-4


def test_what_two_options_make_wrong_together_is_not_blamed_on_a_third():
    said = ["data.fit=chip", "data.input_hw=[64, 64]", "data.stride=30", "data.blank_most=0.4"]
    with pytest.raises(RecipeError, match=r"^override 'data\.stride=30': data: stride=30 does not divide input_hw"):
        load_recipe("ships-demo", said)
