"""A decided run -> its networks for other runtimes, whole or not there, that say what PyTorch says; which predicts."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import onnx
import pytest
from by_hand import files_in
from traced_unchecked import unchecked

from segsmith.delivery.export import export
from segsmith.delivery.predict import predict
from segsmith.errors import ModelError, RunError
from segsmith.files import digest
from segsmith.modeling.bundle import Bundle, Cell, Decision, Part
from segsmith.modeling.onnx_files import write_int8, write_onnx
from segsmith.prediction.backends import EXPORTED, Exported, choose_backend, export_folder, machine, runtime_calls
from segsmith.prediction.probabilities import Predictor

FLOAT = ("onnxruntime", "openvino")
OPTIONS = ("data.input_hw=[32,32]", "train.precision=fp32", "predict.flips=none", "predict.batch_size=3")


def noise(*hw: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8)


def decided(folder: Path, level: int = 128) -> Path:
    """The run, as if it had been decided."""
    file = folder / "bundle.safetensors"
    replace(Bundle.read(file), decision=Decision((Cell(level),), metric="mean_dice")).write(file)
    return file


@pytest.fixture(scope="module", autouse=True)
def sizes_may_be_symbols() -> Iterator[None]:
    with patch("segsmith.delivery.export.write_onnx", unchecked(write_onnx)):
        yield


@pytest.fixture(scope="module")
def made(make_run, make_bundle):
    """A run whose masks are about half of each image, so that nothing of them is settled."""
    truths = [np.random.default_rng(seed).random((32, 32)) > 0.5 for seed in range(8)]
    made = make_run(truths, [np.zeros((1, 32, 32), np.uint8)] * 8, *OPTIONS, "folds.count=2")
    level = int(np.median(Predictor(make_bundle(*OPTIONS))([noise(32, 32)])[0]))
    decided(made.folder, level)
    return made


@pytest.fixture(scope="module")
def exported(made):
    return export(made.folder)


def changed_figures(folder: Path, **of_backend: dict[str, float]) -> None:
    """Other figures than those that were measured, by backend."""
    file = folder / "export.json"
    facts = json.loads(file.read_text())
    for figures in facts["figures"]:
        figures.update(of_backend.get(figures["backend"].replace("-", "_"), {}))
    file.write_text(json.dumps(facts))


@pytest.fixture
def fresh(made, exported, tmp_path):
    """A copy of the exported run that may be changed: its bundle."""
    file = tmp_path / "bundle.safetensors"
    file.write_bytes((made.folder / "bundle.safetensors").read_bytes())
    export_folder(file).mkdir()
    for one in exported.folder.iterdir():
        (export_folder(file) / one.name).write_bytes(one.read_bytes())
    return file


def chosen(file: Path, wanted: str = "auto"):
    return choose_backend(file, Bundle.read(file), wanted)


# What is written


def test_every_export_says_what_torch_says_and_tells_its_figures(exported, made):
    figures = {of.backend: of for of in exported.exported.figures}
    assert list(figures) == ["torch", *(name for name in EXPORTED if name != "aotinductor")]
    for name in FLOAT:
        assert figures[name].largest_difference <= 1
        assert figures[name].passes
        assert figures[name].changed_pixels < 0.01
    assert figures["torch"].score_change == 0
    assert 0.3 < figures["torch"].score < 0.7, "masks of noise on noise"
    assert all(of.seconds_per_image > 0 for of in figures.values())
    assert exported.exported.images == 4, "those of one fold of two"
    assert exported.exported.bundle == digest(made.folder / "bundle.safetensors")
    assert Exported.read(exported.folder) == exported.exported


def test_files_say_whose_they_are_and_any_size_goes_in(exported):
    model = onnx.load(exported.folder / "0.onnx")
    onnx.checker.check_model(model)
    facts = {one.key: one.value for one in model.metadata_props}
    assert facts["bundle"] == exported.exported.bundle
    assert facts["planes"] == "ship"
    (images,), (planes,) = model.graph.input, model.graph.output
    assert (images.name, images.type.tensor_type.elem_type) == ("images", onnx.TensorProto.UINT8)
    assert (planes.name, planes.type.tensor_type.elem_type) == ("planes", onnx.TensorProto.FLOAT)
    assert [dim.dim_value for dim in images.type.tensor_type.shape.dim] == [0, 3, 0, 0], "but for bands, all free"


@pytest.mark.parametrize("name", FLOAT)
def test_sizes_flips_scales_and_chips_are_as_with_torch(exported, made, name):
    """Of a bundle that differs in nothing but how it is predicted, so that the same files serve."""
    bundle = Bundle.read(made.folder / "bundle.safetensors")
    images = [noise(32, 32), noise(40, 24, seed=1), noise(70, 51, seed=2), noise(33, 32, seed=3)]
    calls = runtime_calls(exported.folder, name, exported.exported.strides)
    for data, options in (
        ({}, {"flips": "all"}),
        ({}, {"scales": (1.0, 1.5)}),
        ({"fit": "chip"}, {"flips": "horizontal"}),
    ):
        recipe = bundle.recipe
        changed = replace(
            bundle,
            recipe=recipe.model_copy(
                update={
                    "data": recipe.data.model_copy(update=data),
                    "predict": recipe.predict.model_copy(update=options),
                }
            ),
        )
        by_torch, found = Predictor(changed)(images), Predictor(changed, calls)(images)
        assert max(np.ptp(levels) for levels in by_torch) > 10, "there is something to say"
        for one, beside in zip(found, by_torch, strict=True):
            assert np.abs(one.astype(int) - beside).max() <= 1


def test_networks_of_parts_and_all_heads_are_exported(make_run, make_bundle):
    truths = [np.random.default_rng(seed).random((32, 32)) > 0.5 for seed in range(4)]
    made = make_run(truths, [np.zeros((1, 32, 32), np.uint8)] * 4, *OPTIONS, "folds.count=2")
    file = made.folder / "bundle.safetensors"
    plain = Bundle.read(file)
    headed = make_bundle(*OPTIONS, "network.heads={seen: {kind: presence}, edge: {kind: border}}")
    (weights,) = headed.members
    one, two, three = (
        {name: tensor * factor if "bias" in name else tensor.clone() for name, tensor in weights.items()}
        for factor in (1, -2, 3)
    )
    parts = (Part(1.0, replace(headed, members=(one, two))), Part(2.0, replace(headed, members=(three,))))
    decision = Decision((Cell(128),), metric="mean_dice")
    replace(plain, recipe=headed.recipe, members=(), parts=parts, decision=decision).write(file)
    done = export(made.folder, images=2)
    written = {path.stem for path in done.folder.glob("*.onnx")}
    assert {name for name in written if "int8" not in name} == {"part-0.0", "part-0.1", "part-1.0"}
    bundle = Bundle.read(file)
    for name in FLOAT:
        calls = runtime_calls(done.folder, name, done.exported.strides)
        (by_torch,) = Predictor(bundle).predict([noise(32, 32)])
        (found,) = Predictor(bundle, calls).predict([noise(32, 32)])
        assert by_torch.levels.shape == found.levels.shape == (2, 32, 32), "ships, and their borders"
        assert np.abs(by_torch.levels.astype(int) - found.levels).max() <= 1
        assert np.abs(by_torch.presence.astype(int) - found.presence).max() <= 1


# int8


def test_int8_that_changes_the_score_is_kept_out_with_its_figures(made, tmp_path):
    """Its ranges from images that are all black, while those to predict are not."""
    folder = export_folder(made.folder / "bundle.safetensors")
    before = files_in(folder) if folder.exists() else None
    try:
        with patch(
            "segsmith.delivery.export.write_int8",
            lambda file, images, to: write_int8(file, [np.zeros_like(one) for one in images], to),
        ):
            done = export(made.folder)
        bad = [of for of in done.exported.figures if of.backend.endswith("-int8")]
        assert [of.passes for of in bad] == [False, False]
        assert all(of.largest_difference > 5 for of in bad)
        assert not list(done.folder.glob("*int8*"))
        with pytest.raises(ModelError, match=r"changes the score by [+-]0\.\d+, to 0\.\d+, more than 0\.002"):
            chosen(made.folder / "bundle.safetensors", "onnxruntime-int8")
        assert not chosen(made.folder / "bundle.safetensors").name.endswith("int8")
    finally:
        if before:
            for name, content in before.items():
                (folder / name).write_bytes(content)


# Whole or not there


def test_killed_half_way_leaves_nothing(make_run):
    truths = [np.eye(32, dtype=bool)] * 4
    made = make_run(truths, [np.zeros((1, 32, 32), np.uint8)] * 4, *OPTIONS, "folds.count=2")
    with pytest.raises(RunError, match="not decided yet"):
        export(made.folder)
    decided(made.folder)
    with patch("segsmith.delivery.export.compared", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        export(made.folder)
    assert not [path for path in made.folder.iterdir() if "export" in path.name]


def test_missing_packages_are_told(made, exported):
    with (
        patch("segsmith.delivery.export.find_spec", lambda name: None if name == "onnxscript" else name),
        pytest.raises(ModelError, match=r"export needs onnxscript: pip install 'segsmith\[export\]'"),
    ):
        export(made.folder)


# Which is chosen


def test_auto_takes_the_fastest_that_passed(fresh):
    folder = export_folder(fresh)
    slow = {"seconds_per_image": 4.0, "score_change": 0.0}
    changed_figures(
        folder, torch=slow, onnxruntime=slow, openvino=slow | {"seconds_per_image": 2.0},
        onnxruntime_int8={"seconds_per_image": 1.0, "score_change": 0.0021}, openvino_int8=slow,
    )  # fmt: skip
    assert (chosen(fresh).name, chosen(fresh).why) == ("openvino", "2.0 times as fast as PyTorch when it was exported")
    changed_figures(folder, torch={"seconds_per_image": 1.5})
    assert chosen(fresh).name == "torch"
    assert "nothing is faster" in chosen(fresh).why


def test_auto_goes_without_what_is_not_installed_and_says_so(fresh):
    fast = {"seconds_per_image": 1e-9, "score_change": 0.0}
    changed_figures(export_folder(fresh), openvino=fast, onnxruntime=fast | {"seconds_per_image": 1e-8})
    with patch("segsmith.prediction.network_calls.find_spec", lambda name: None if name == "openvino" else name):
        found = chosen(fresh)
        assert found.name == "onnxruntime"
        assert "openvino is not installed (pip install 'segsmith[openvino]')" in found.why
        with pytest.raises(ModelError, match="--backend openvino: openvino is not installed"):
            chosen(fresh, "openvino")


def test_what_belongs_to_another_bundle_or_machine_is_not_taken(fresh):
    folder = export_folder(fresh)
    changed_figures(folder, onnxruntime={"seconds_per_image": 1e-9})
    facts = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps(facts | {"machine": "a faster one"}))
    assert chosen(fresh).name == "torch"
    assert f"timed on a faster one, and this is {machine(Bundle.read(fresh))}" in chosen(fresh).why
    assert chosen(fresh, "onnxruntime").name == "onnxruntime", "whoever names one knows"
    decided(fresh.parent, level=7)
    assert chosen(fresh).name == "torch"
    for wanted in ("onnxruntime", "openvino"):
        with pytest.raises(ModelError, match="was exported from another bundle"):
            chosen(fresh, wanted)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"figures": 3}', '{"figures": [{"backend": "torch"}]}'])
def test_an_export_that_does_not_read_is_refused_by_name(fresh, content):
    (export_folder(fresh) / "export.json").write_text(content)
    assert chosen(fresh).name == "torch"
    assert "export again" in chosen(fresh).why
    with pytest.raises(ModelError, match=r"export\.json: .*export again"):
        chosen(fresh, "openvino")


@pytest.mark.parametrize("name", FLOAT)
def test_a_network_that_does_not_read_is_refused_by_name(fresh, name):
    (export_folder(fresh) / "0.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match=r"0\.onnx: .* does not read it .*export again"):
        Predictor(Bundle.read(fresh), chosen(fresh, name).calls)


def test_nothing_exported(fresh, tmp_path):
    lone = tmp_path / "lone.safetensors"
    lone.write_bytes(fresh.read_bytes())
    assert (chosen(lone).name, "nothing was exported" in chosen(lone).why) == ("torch", True)
    with pytest.raises(ModelError, match="--backend onnxruntime: nothing was exported"):
        chosen(lone, "onnxruntime")
    with pytest.raises(ModelError, match="--backend tensorrt: is none; choose of auto, torch, onnxruntime"):
        chosen(lone, "tensorrt")


# In the journey


def test_predict_goes_by_the_export(fresh, tmp_path, command):
    (tmp_path / "images").mkdir()
    for seed in range(3):
        cv2.imwrite(str(tmp_path / "images" / f"{seed}.png"), noise(32, 32, seed=seed))
    by_torch = predict(fresh, tmp_path / "images", tmp_path / "torch", backend="torch")
    assert (by_torch.backend, by_torch.why) == ("torch", "as asked for")
    changed_figures(export_folder(fresh), openvino={"seconds_per_image": 1e-9})
    said = command("predict", fresh, tmp_path / "images", "--to", tmp_path / "auto")
    assert said.code == 0, said.err
    assert "backend openvino: " in said.out
    for seed in range(3):
        one, beside = (cv2.imread(str(tmp_path / name / "masks" / f"{seed}.png")) for name in ("torch", "auto"))
        assert 0.1 < (beside > 0).mean() < 0.9
        assert (one != beside).mean() < 0.01


def test_openvino_does_not_report_to_its_makers(exported):
    assert "openvino" in sys.modules, "or nothing was asked of it"
    assert sys.modules["openvino_telemetry"] is None
