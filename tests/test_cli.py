"""The command line as a person meets it: the journey in order; for a mistake one message, and nothing left behind."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from segsmith.cli.printed import TrainingLine
from segsmith.recipe_files import load_recipe, recipe_names

COMMANDS = ["demo", "recipe", "inspect", "plan", "chips", "preview", "find-rate", "find-batch", "train", "search"]
COMMANDS += ["cache", "combine", "decide", "evaluate", "compare", "view", "runs", "review", "correct", "mine"]
COMMANDS += ["label", "teach", "export", "predict", "check", "serve"]
JOBS = ["buildings", "houses", "salt", "ships", "steel"]
RECIPES = sorted([*JOBS, *(f"{job}-best" for job in JOBS), "ships-demo"])
HW = (16, 20)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, hidden or not: what each file holds, None for a folder."""
    paths = (path for path in folder.rglob("*") if path.is_dir() or path.is_file())
    return {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes() for path in paths}


def save(path: Path, image: np.ndarray) -> None:
    _, content = cv2.imencode(path.suffix, image)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.tobytes())


def raw_ships(raw: Path, rows: str) -> Path:
    """A raw folder of two images, a.png and b.png, and these rows."""
    for seed, name in enumerate("ab"):
        save(raw / "train" / f"{name}.png", np.random.default_rng(seed).integers(0, 256, (*HW, 3), np.uint8))
    (raw / "train.csv").write_text(f"ImageId,EncodedPixels\n{rows}")
    return raw


# Help


def test_help_lists_the_commands_in_the_order_of_the_journey(command):
    said = command("--help")
    assert (said.code, said.err) == (0, "")
    assert re.findall(r"^  ([\w-]+) +[A-Z]", said.out, re.MULTILINE)[-len(COMMANDS) :] == COMMANDS
    assert command("recipe", "--help").out.index("list") < command("recipe", "--help").out.index("schema")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "recipe"])
def test_every_command_explains_itself(command, name):
    said = command(name, "--help")
    assert (said.code, said.err) == (0, "")
    assert f"Usage: segsmith {name}" in said.out


def test_help_loads_nothing_heavy():
    """In a fresh interpreter, as the installed script is; this is what keeps it under half a second."""
    script = """
import sys
from segsmith.cli import main
sys.argv = ["segsmith", "--help"]
try:
    main()
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert "predict" in done.stdout
    loaded = set(done.stderr.split())
    assert "typer" in loaded
    assert not loaded & {"torch", "pandas", "numpy", "cv2", "timm", "lightning", "pyarrow", "pydantic", "PIL"}


def test_the_installed_script_and_the_module_are_the_same():
    script = Path(sys.executable).with_name("segsmith")
    if not script.exists():
        pytest.skip("segsmith is not installed into this environment")
    said = [
        subprocess.run([*start, "recipe", "list"], capture_output=True, text=True, timeout=120, check=True).stdout
        for start in ([script], [sys.executable, "-m", "segsmith"])
    ]
    assert said[0] == said[1] == "".join(f"{name}\n" for name in recipe_names())


# The journey


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "inspect",
            [
                r"layout rle-objects: .*\.csv has the columns ImageId,EncodedPixels",
                r"  50 labelled images, 38 empty \(76\.0%\), \d+ objects, \d\.\d\d% of pixels are foreground",
                r"  sizes 96x96: 56",
                r"dataset .*dataset, report .*dataset/report\.html",
            ],
        ),
        (
            "train",
            [
                r"stage 1: 32 images an epoch in batches of \d \(\d+% empty, \d+% single, \d+% multi\)",
                r"  single images must repeat: each is drawn \d+\.\d\d times an epoch",
                r"stage 1 epoch   1  loss \d\.\d{4}  validation \d\.\d{4}  mean_dice \d\.\d{4} at \d\.\d\d .* images/s",
                r"bundle .*run/bundle\.safetensors; next: segsmith decide .*run",
            ],
        ),
        (
            "decide",
            [
                r"ship: threshold \d\.\d{3}, smallest object \d+ pixels",
                r"mean_dice \d\.\d{4} on the validation fold, \d\.\d{4} when cross-fitted; all empty \d\.\d{4}",
                r"stored in the bundle; next: segsmith evaluate .*run",
            ],
        ),
        (
            "evaluate",
            [
                r" *10 images of the held-out fold, decision tuned on other images *",
                r"│ mean_dice +│ +\d\.\d{4} │ \d\.\d{4} to \d\.\d{4} │ +\d\.\d{4} │",
                r"│ global_recall +│ +\d\.\d{4} │ \d\.\d{4} to \d\.\d{4} │ +0\.0000 │",
                r"worst: \w+\.jpg \(Dice \d\.\d{3}\), .*",
                r"report .*run/report\.html",
            ],
        ),
        (
            "predict",
            [r"6 images, \d with foreground, \d+ rows", r"read back and checked: .*prediction/submission\.csv"],
        ),
    ],
)
def test_what_each_command_says(journey, name, lines):
    said = journey.said[name]
    assert "segsmith: " not in said.err, "nothing went wrong; a slow machine may say how far a loop is"
    for line in lines:
        assert re.search(f"^{line}$", said.out, re.MULTILINE), f"{line}\nis not in\n{said.out}"


def test_every_command_said_where_it_wrote(journey):
    for path in (
        journey.dataset / "report.html",
        journey.run / "bundle.safetensors",
        journey.run / "report.html",
        journey.prediction / "submission.csv",
    ):
        assert path.is_file()
        assert any(str(path) in said.out for said in journey.said.values())


def test_going_on_with_a_finished_run_changes_nothing(journey, command, smallest):
    bundle = (journey.run / "bundle.safetensors").read_bytes()
    said = command("train", journey.dataset, journey.run, "-r", "ships-demo", *smallest("ships-demo"))
    assert said.code == 0
    assert (journey.run / "bundle.safetensors").read_bytes() == bundle


def test_the_cache_is_told_and_removed_as_the_docs_say(journey, command, monkeypatch, tmp_path):
    """And the training that filled it said nothing of it."""
    assert journey.said["train"].err == ""
    page = (Path(__file__).parents[1] / "docs" / "commands.md").read_text()
    lines = [line.split()[1:] for line in page.splitlines() if line.startswith("segsmith cache")]
    monkeypatch.chdir(tmp_path)
    (folder,) = {line[1] for line in lines}
    shutil.copytree(journey.dataset, folder)
    told, removed = (command(*line) for line in lines)
    assert re.search(r"cache/\w+\.samples: 50 samples of 64 x 64 pixels, [\d.]+ kB \(.* last used 0 days ago", told.out)
    assert re.search(rf"^[\d.]+ kB removed from {folder}/cache$", removed.out, re.MULTILINE)
    assert command("cache", folder).out == f"no decoded samples in {folder}/cache\n"
    shutil.copytree(journey.dataset / "cache", tmp_path / "elsewhere")
    assert "50 samples" in command("cache", "elsewhere").out, "a folder that train.cache names"


def test_inspect_names_the_dataset_after_the_raw_folder(tmp_path, monkeypatch, command):
    raw_ships(tmp_path / "ships", "a.png,1 2\nb.png,\n")
    monkeypatch.chdir(tmp_path)
    said = command("inspect", "ships")
    assert said.code == 0
    assert (tmp_path / "ships.dataset" / "report.html").is_file()
    assert "dataset ships.dataset, report ships.dataset/report.html" in said.out


def test_names_are_printed_as_they_are(tmp_path, command):
    """Square brackets and colons are code to the library that prints."""
    raw = tmp_path / "[bold]a[" / "b] :ship:"
    raw_ships(raw, "a.png,1 2\nb.png,\n")
    (raw / "[red]").mkdir()
    save(raw / "[red]" / "x.png", np.zeros((*HW, 3), np.uint8))
    out = raw.with_name("out] :ship:")
    said = command("inspect", raw, "--to", out)
    assert (said.code, said.err) == (0, "")
    assert f"dataset {out}, report {out / 'report.html'}\n" in said.out
    assert "unlabelled: 1 in [red]" in said.out
    missing = raw / "[red] :cat:"
    assert command("inspect", missing).err == f"segsmith: {missing}: no such folder\n"


def test_ctrl_c_ends_with_130_and_a_word(monkeypatch, command):
    def stop() -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr("segsmith.recipe_files.recipe_names", stop)
    said = command("recipe", "list")
    assert said.code == 130
    assert said.err == "segsmith: stopped; nothing half-written was left behind\n"


# The line of a training


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Makes standard output a terminal of so many columns."""

    def of(columns: int) -> Terminal:
        monkeypatch.delenv("COLUMNS", raising=False)
        monkeypatch.setattr("os.get_terminal_size", lambda *_: os.terminal_size((columns, 24)))
        monkeypatch.setattr("sys.stdout", Terminal())
        return sys.stdout

    return of


def step(**changes) -> Any:
    """Of two epochs of 96 images each, after 48 images at 12 a second."""
    from segsmith.modeling.training import Step
    from segsmith.samples.sampling import EpochPlan

    plan = EpochPlan((np.arange(40), np.arange(8)), (0.75, 0.25), ("empty", "multi"), 8, 12, seed=0, stage=0)
    told = {"stage": 0, "epoch": 0, "step": 6, "plan": plan, "loss": 0.5, "images_seen": 48, "images_in_all": 192}
    told |= {"images_per_second": 12.0, "last_epoch": None, "epoch_is_over": False}
    return Step(**told | changes)


EPOCH = {"stage": 1, "epoch": 1, "images": 96, "lr": 1e-3, "loss": 0.61, "validation_loss": 0.62, "mean_dice": 0.7,
         "threshold": 0.5, "images_per_second": 11.0}  # fmt: skip


@pytest.mark.parametrize("columns", [80, 100, 200, 0])
def test_a_terminal_shows_how_far_a_training_is(terminal, columns):
    shown = terminal(columns)
    watch = TrainingLine()
    watch(step(last_epoch=EPOCH))
    *plan, line = shown.getvalue().split("\r")
    assert "stage 1: 96 images an epoch in batches of 8 (75% empty, 25% multi)\n" in plan
    assert "  empty images must repeat: each is drawn 1.80 times an epoch\n" in plan
    assert "  multi images must repeat: each is drawn 3.00 times an epoch\n" in plan
    assert len(line) == (columns or 80) - 1
    assert re.match(r"█+░+  25%  0:12 left  loss 0\.5000  mean_dice 0\.7000  12\.0 images/s", line)
    if columns >= 100:
        assert line.rstrip().endswith("epoch 1 step 6/12")


def test_a_terminal_keeps_a_line_for_each_epoch(terminal):
    shown = terminal(100)
    watch = TrainingLine()
    watch(step())
    watch(step(step=7))
    assert "step 7" not in shown.getvalue(), "no more than five times a second"
    watch(step(epoch=1, step=0, last_epoch=EPOCH, epoch_is_over=True))
    line = "stage 1 epoch   1  loss 0.6100  validation 0.6200  mean_dice 0.7000 at 0.50  11.0 images/s\n"
    assert shown.getvalue().endswith(f"\r{' ' * 99}\r{line}")
    assert shown.getvalue().count("an epoch in batches") == 1


def test_what_a_fold_cannot_judge_is_told_once_before_the_first_scores(terminal):
    shown = terminal(100)
    watch = TrainingLine()
    watch(step(warnings=("the validation fold holds nothing of class rust",)))
    watch(step(stage=1, warnings=("the validation fold holds nothing of class rust",)))
    before, after = shown.getvalue().split("the validation fold holds nothing of class rust\n")
    assert "stage 1" not in before
    assert "stage 1" in after


# Recipes


def test_recipes_are_listed(command):
    assert command("recipe", "list").out.split() == recipe_names() == RECIPES


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_shown_loads_again(command, tmp_path, name):
    said = command("recipe", "show", name, "train.stages.0.epochs=3")
    (tmp_path / "mine.yaml").write_text(said.out)
    assert load_recipe(tmp_path / "mine.yaml") == load_recipe(name, ["train.stages.0.epochs=3"])
    assert "epochs: 3  # Epochs of this stage." in said.out
    again = command("recipe", "show", tmp_path / "mine.yaml")
    assert again.out == said.out


def test_the_schema_is_json(command):
    schema = json.loads(command("recipe", "schema").out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(schema["properties"]) == set(type(load_recipe("salt")).model_fields)
    assert schema["additionalProperties"] is False


# Mistakes


@dataclass(frozen=True)
class Place:
    """Where a mistake is set up, and what with."""

    folder: Path
    journey: Any
    command: Callable[..., Any]
    monkeypatch: pytest.MonkeyPatch

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def inspect(self, rows: str, *words: object) -> list[object]:
        """Inspect a raw folder with these rows."""
        return ["inspect", raw_ships(self / "raw", rows), "--to", self / "out", *words]

    def train(self, *words: object) -> list[object]:
        """Train on the dataset of the journey."""
        return ["train", self.journey.dataset, self / "run", *words]

    def run(self) -> Path:
        """A copy of the run of the journey."""
        return Path(shutil.copytree(self.journey.run, self / "run"))

    def write(self, name: str, text: str) -> Path:
        (self / name).parent.mkdir(parents=True, exist_ok=True)
        (self / name).write_text(text)
        return self / name


SetUp = Callable[[Place], list[object]]


def rows(text: str) -> SetUp:
    return lambda at: at.inspect(text)


def csv_of(text: str) -> SetUp:
    def set_up(at: Place) -> list[object]:
        words = at.inspect("")
        at.write("raw/train.csv", text)
        return words

    return set_up


def broken_image(at: Place) -> list[object]:
    words = at.inspect("a.png,1 2\nb.png,\n")
    image = at / "raw/train/b.png"
    image.write_bytes(image.read_bytes()[:-60])
    return words


def salt(text: str, mask_hw: tuple[int, int] = HW) -> SetUp:
    def set_up(at: Place) -> list[object]:
        words = at.inspect("")
        at.write("raw/train.csv", f"id,rle_mask\n{text}")
        save(at / "raw/masks/a.png", np.zeros(mask_hw, np.uint8))
        save(at / "raw/masks/b.png", np.zeros(HW, np.uint8))
        return words

    return set_up


def onto(name: str) -> SetUp:
    def set_up(at: Place) -> list[object]:
        at.write(name, "mine")
        return at.inspect("a.png,1 2\n")

    return set_up


def sized(text: str) -> SetUp:
    return lambda at: at.inspect("a.png,1 2\n", f"--assume-size={text}")


def trained_on(text: str) -> SetUp:
    def set_up(at: Place) -> list[object]:
        assert at.command(*at.inspect(text)).code == 0
        return ["train", at / "out", at / "run", "-r", "ships-demo", "folds.count=3"]

    return set_up


def trained_with(*words: object) -> SetUp:
    return lambda at: at.train("-r", "ships-demo", *words)


def recipe_of(text: str) -> SetUp:
    return lambda at: at.train("-r", at.write("mine.yaml", text))


def no_dataset(at: Place) -> list[object]:
    (at / "empty").mkdir()
    return ["train", at / "empty", at / "run", "-r", "ships-demo"]


def without_network(at: Place) -> list[object]:
    at.monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    at.monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(at / "cache"))
    return at.train("-r", "ships", *(f"train.stages.{stage}.mix=null" for stage in range(3)))


def run_of_another_recipe(at: Place) -> list[object]:
    return ["train", at.journey.dataset, at.run(), "-r", "ships-demo"]


def run_among_others(at: Place) -> list[object]:
    at.write("run/mine.txt", "mine")
    return at.train("-r", "ships-demo")


def unfinished(name: str, *words: object) -> SetUp:
    def set_up(at: Place) -> list[object]:
        (at.run() / "bundle.safetensors").unlink()
        return [name, at / "run", *words]

    return set_up


def undecided(at: Place) -> list[object]:
    from segsmith.modeling.bundle import Bundle, Decision

    path = at.run() / "bundle.safetensors"
    replace(Bundle.read(path), decision=Decision()).write(path)
    return ["evaluate", at / "run"]


def predicted(bundle: str = "", images: str = "", sample: str | None = None, out: str = "") -> SetUp:
    """Predict the journey's images with its run, but for what is said."""

    def set_up(at: Place) -> list[object]:
        if out:
            at.write(f"out/{out}", "mine")
        wanted = ["--sample-submission", at.write("sample.csv", sample)] if sample is not None else []
        return [
            "predict",
            at / bundle if bundle else at.journey.run,
            at / images if images else at.journey.raw / "test_v2",
            *("--to", at / "out"),
            *wanted,
        ]

    return set_up


def bundle_of_text(at: Place) -> list[object]:
    at.write("bundle", "weights")
    return predicted(bundle="bundle")(at)


def predicted_image(image: np.ndarray | None) -> SetUp:
    """Predict a sound image and this one; None for one that breaks off."""

    def set_up(at: Place) -> list[object]:
        save(at / "images/a.png", np.zeros((*HW, 3), np.uint8))
        if image is None:
            (at / "images/b.png").write_bytes((at / "images/a.png").read_bytes()[:40])
        else:
            save(at / "images/b.png", image)
        return predicted(images="images")(at)

    return set_up


WRONG_SIZES = ("768", "axb", "0x5", "-1x5", "768x768x3", "5x", "²x3", "7,68x768", "3000000000x2", "70000x70000", " ")
WRONG_KEY = "name: mine\ntrain:\n  batch_sise: 8\n"
WRONG_TYPE = "train:\n  stages:\n    - epochs: 2\n    - epochs: many\n"

MISTAKES: dict[str, tuple[SetUp, str]] = {
    # inspect
    "raw folder missing": (lambda at: ["inspect", at / "raw"], "raw: no such folder"),
    "no csv": (lambda at: ["inspect", at.folder], "no layout recognised; looked for"),
    "empty csv": (csv_of(""), "train.csv: empty file"),
    "csv without rows": (csv_of("ImageId,EncodedPixels\n"), "train.csv: has no rows below its header"),
    "wrong columns": (csv_of("Image,Pixels\na.png,1 2\n"), "train.csv: Image,Pixels"),
    "unknown id": (rows("a.png,1 2\nq.png,\n"), "row 3: q.png"),
    "broken image": (broken_image, "b.png: does not decode as an image"),
    "runs odd": (rows("a.png,1 2 3\n"), "row 2, a.png: 3 numbers, an odd count"),
    "runs zero": (rows("a.png,1 0\n"), "row 2, a.png: pair '1 0' has no length"),
    "runs before the image": (rows("a.png,0 4\n"), "pair '0 4' starts before pixel 1"),
    "runs negative": (rows("a.png,1 -4\n"), "pair '1 -4' has no length"),
    "runs overlapping": (rows("a.png,1 5 3 4\n"), "pair '3 4' overlaps the pair before it"),
    "runs unsorted": (rows("a.png,30 2 10 2\n"), "pair '10 2' does not start after the pair before it"),
    "runs beyond the image": (rows("b.png,\na.png,319 3\n"), "row 3, a.png: pair '319 3' ends beyond the image"),
    "runs of letters": (rows("a.png,one two\n"), "row 2, a.png: 'one' is not a whole number"),
    "row twice": (rows("a.png,1 2\na.png,1 2\n"), "row 3: a.png with the same pixels as row 2"),
    "id twice": (salt("a,\nb,\na,\n"), "row 4: a already stands in row 2"),
    "mask of another size": (salt("a,\nb,\n", mask_hw=(9, 9)), "a.png: is 9 x 9 pixels, its image 16 x 20"),
    "no such labels": (lambda at: at.inspect("", "--labels", at / "none.csv"), "none.csv: no such file"),
    "dataset among others": (onto("out/mine.txt"), "out: holds mine.txt, which inspect did not write"),
    "dataset onto a file": (onto("out"), "out: is a file, where a folder is to stand"),
    **{f"size {text}": (sized(text), f"--assume-size '{text}' is not HEIGHTxWIDTH") for text in WRONG_SIZES},
    "size too small": (sized("1x1"), "row 2, a.png: pair '1 2' ends beyond the image, which has 1 x 1"),
    # train
    "no such dataset": (lambda at: ["train", at / "no", at / "run", "-r", "salt"], "no: no dataset"),
    "not a dataset": (no_dataset, "empty: no dataset (dataset.json is missing); make one with: segsmith inspect"),
    "all images empty": (trained_on("a.png,\nb.png,\n"), "there is nothing to learn"),
    "one image only": (trained_on("a.png,1 2\n"), "1 labelled image cannot be split into 3 folds"),
    "no such recipe": (lambda at: at.train("-r", "ship-demo"), "no recipe 'ship-demo': "),
    "wrong key": (recipe_of(WRONG_KEY), "mine.yaml, line 3: train.batch_sise: unknown key; did you mean 'batch_size'?"),
    "wrong type": (recipe_of(WRONG_TYPE), "mine.yaml, line 4: train.stages.1.epochs: "),
    "no yaml": (recipe_of("a: [1"), "mine.yaml is not YAML"),
    "wrong override": (trained_with("train.epoch=3"), "override 'train.epoch=3': train.epoch: unknown key"),
    "no override": (trained_with("epochs"), "override 'epochs' is not KEY=VALUE"),
    "no such encoder": (trained_with("network.encoder=resnet19"), "no encoder 'resnet19'; did you mean resnet18"),
    "no such weights": (trained_with("network.encoder_weights=w.pth"), "w.pth: no such file"),
    "no network": (without_network, "ImageNet weights of resnet18 could not be downloaded"),
    "illegal size": (trained_with("data.input_hw=[100,100]"), "[100, 100] is not a multiple of 32"),
    "run of another recipe": (run_of_another_recipe, "run: holds a run of another recipe"),
    "run among others": (run_among_others, "run: holds mine.txt, and no run; choose a new folder"),
    # decide and evaluate
    "decide nothing": (lambda at: ["decide", at / "run"], "run: no run here (recipe.yaml is missing)"),
    "evaluate nothing": (lambda at: ["evaluate", at / "run"], "run: no run here (recipe.yaml is missing)"),
    "decide too early": (unfinished("decide"), "run: its training is not finished"),
    "evaluate too early": (unfinished("evaluate"), "run: its training is not finished"),
    "evaluate undecided": (undecided, "run: not decided yet; first: segsmith decide"),
    "no such metric": (lambda at: ["decide", at.run(), "--metric", "mean_dise"], "did you mean 'mean_dice'?"),
    "borders nobody learnt": (
        lambda at: ["decide", at.run(), "--metric", "f2_objects", "--separate", "border"],
        "decide.separate=border needs a head that learns borders, and network.heads has none; add",
    ),
    "apart for no metric of objects": (
        lambda at: ["decide", at.run(), "--separate", "distance"],
        "objects are taken apart (separate=distance) where it is decided by f2_objects",
    ),
    # predict
    "predict too early": (unfinished("predict", "images"), "bundle.safetensors: no such file"),
    "no such bundle": (predicted(bundle="none.safetensors"), "none.safetensors: no such file"),
    "not a bundle": (bundle_of_text, "bundle: does not read as a bundle"),
    "no such images": (predicted(images="none"), "none: no such file or folder"),
    "no images": (predicted(images="."), "no image files"),
    "broken image to predict": (predicted_image(None), "b.png: does not decode as an image"),
    "grey image": (predicted_image(np.zeros(HW, np.uint8)), "b.png: number of bands is 1, the model was trained on 3"),
    "unknown id in the sample": (predicted(sample="ImageId,EncodedPixels\nq.jpg,1 2\n"), "that are not in"),
    "columns of the sample": (predicted(sample="id,rle_mask\nq,1 2\n"), "sample.csv: columns id,rle_mask"),
    "sample without rows": (predicted(sample="ImageId,EncodedPixels\n"), "sample.csv: has no rows"),
    "empty sample": (predicted(sample=""), "sample.csv: columns none"),
    "prediction among others": (predicted(out="mine.txt"), "out: holds mine.txt, which no prediction wrote"),
    # cache
    "cache of nothing": (lambda at: ["cache", "nowhere"], "nowhere: no such folder"),
    # recipe
    "show no such recipe": (lambda at: ["recipe", "show", "sips"], "did you mean 'ships'?"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_one_message_and_leaves_nothing(tmp_path, command, journey, monkeypatch, name):
    set_up, says = MISTAKES[name]
    words = set_up(Place(tmp_path, journey, command, monkeypatch))
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    said = command(*words)
    assert said.code == 2, said
    assert says in said.err
    assert said.err.startswith("segsmith: ")
    assert said.err.count("segsmith: ") == 1
    assert "Traceback" not in said.err
    assert said.out == ""
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["inspect", "predict"])
def test_the_folder_one_stands_in_is_refused(tmp_path, command, journey, monkeypatch, name):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    arguments = [journey.raw] if name == "inspect" else [journey.run, journey.raw / "test_v2"]
    said = command(name, *arguments, "--to", ".")
    assert (said.code, list((tmp_path / "here").iterdir())) == (2, [])
    assert "is the folder you stand in" in said.err


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "run"],
        ["evaluate", "run", "--on", "train"],
        ["demo", "--images", "3"],
        ["fly"],
        ["inspect", "--fast"],
    ],
)
def test_a_command_line_that_does_not_parse_says_how_it_is_used(tmp_path, monkeypatch, command, words):
    monkeypatch.chdir(tmp_path)
    said = command(*words)
    assert said.code == 2
    assert said.err.startswith("Usage: segsmith")
    assert "Traceback" not in said.err
    assert list(tmp_path.iterdir()) == []
