"""Networks compiled for this machine: they say what PyTorch says, and no other code than this user's own is run."""

import json
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import patch

import cv2
import numpy as np
import pytest
from traced_unchecked import unchecked

from segsmith.delivery.export import export
from segsmith.errors import ModelError
from segsmith.modeling.bundle import Bundle, Cell, Decision
from segsmith.modeling.compiled_files import missing_compiler, write_package
from segsmith.modeling.onnx_files import write_onnx
from segsmith.prediction.backends import choose_backend, export_folder, runtime_calls
from segsmith.prediction.probabilities import Predictor

OPTIONS = ("data.input_hw=[32,32]", "train.precision=fp32", "predict.flips=none", "predict.batch_size=3")


def noise(*hw: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8)


@pytest.fixture(scope="module")
def made(make_run, make_bundle):
    """A decided run whose masks are about half of each image."""
    truths = [np.random.default_rng(seed).random((32, 32)) > 0.5 for seed in range(4)]
    made = make_run(truths, [np.zeros((1, 32, 32), np.uint8)] * 4, *OPTIONS, "folds.count=2")
    level = int(np.median(Predictor(make_bundle(*OPTIONS))([noise(32, 32)])[0]))
    file = made.folder / "bundle.safetensors"
    replace(Bundle.read(file), decision=Decision((Cell(level),), metric="mean_dice")).write(file)
    return made


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """Where the user's key lies."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_STATE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def compiled(made):
    """Its bundle, exported once: that takes most of a minute."""
    if missing := missing_compiler():
        pytest.skip(missing)
    with (
        patch("segsmith.delivery.export.write_onnx", unchecked(write_onnx)),
        patch("segsmith.delivery.export.write_package", unchecked(write_package)),
    ):
        return export(made.folder, compiled=True)


@pytest.fixture
def fresh(made, compiled, tmp_path):
    """A copy of the exported run that may be changed: its bundle."""
    file = tmp_path / "bundle.safetensors"
    file.write_bytes((made.folder / "bundle.safetensors").read_bytes())
    shutil.copytree(compiled.folder, export_folder(file))
    return file


def changed_facts(file, change) -> None:
    facts = json.loads((export_folder(file) / "export.json").read_text())
    change(facts)
    (export_folder(file) / "export.json").write_text(json.dumps(facts))


def fastest(facts) -> None:
    for of in facts["figures"]:
        of.update(seconds_per_image=1.0 if of["backend"] == "aotinductor" else 2.0, score_change=0.0)


def chosen(file, wanted="auto"):
    return choose_backend(file, Bundle.read(file), wanted)


def test_it_says_what_torch_says_of_any_number_and_size(compiled, made):
    figures = compiled.exported.of("aotinductor")
    assert figures is not None, compiled.unchecked
    assert figures.passes
    assert figures.largest_difference <= 1
    bundle = Bundle.read(made.folder / "bundle.safetensors")
    calls = runtime_calls(compiled.folder, "aotinductor", compiled.exported.strides)
    images = [noise(32, 32), noise(70, 51, seed=1), noise(33, 40, seed=2), noise(64, 64, seed=3)]
    for options in ({"flips": "all"}, {"scales": (1.0, 1.5)}, {"batch_size": 1}):
        recipe = bundle.recipe.model_copy(update={"predict": bundle.recipe.predict.model_copy(update=options)})
        changed = replace(bundle, recipe=recipe)
        by_torch, found = Predictor(changed)(images), Predictor(changed, calls)(images)
        assert max(np.ptp(levels) for levels in by_torch) > 10, "there is something to say"
        for one, beside in zip(found, by_torch, strict=True):
            assert np.abs(one.astype(int) - beside).max() <= 1


def test_predict_takes_it_by_name_and_where_it_is_the_fastest(fresh, tmp_path, command):
    changed_facts(fresh, fastest)
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), noise(32, 32))
    for wanted, why in (("aotinductor", "as asked for"), ("auto", "2.0 times as fast as PyTorch")):
        said = command("predict", fresh, tmp_path / "images", "--to", tmp_path / wanted, "--backend", wanted)
        assert said.code == 0, said.err
        assert f"backend aotinductor: {why}" in said.out


def another_key(file, home, patched):
    patched.setenv("XDG_STATE_HOME", str(file.parent / "another"))
    (file.parent / "another" / "segsmith").mkdir(parents=True)
    (file.parent / "another" / "segsmith" / "export.key").write_bytes(b"k" * 32)


def no_key(file, home, patched):
    patched.setenv("XDG_STATE_HOME", str(file.parent / "nothing"))


def other_code(file, home, patched):
    with (export_folder(file) / "0.pt2").open("ab") as package:
        package.write(b"\0")


def no_code(file, home, patched):
    (export_folder(file) / "0.pt2").unlink()


def a_pipe(file, home, patched):
    no_code(file, home, patched)
    os.mkfifo(export_folder(file) / "0.pt2")


def no_signatures(file, home, patched):
    changed_facts(file, lambda facts: facts.pop("signatures"))


def no_signature(file, home, patched):
    changed_facts(file, lambda facts: facts["signatures"].update({"0.pt2": "\u00e9"}))


def other_torch(file, home, patched):
    patched.setattr("segsmith.prediction.packages.torch", SimpleNamespace(__version__="1.0"))


@pytest.mark.parametrize(
    "change", [another_key, no_key, other_code, no_code, a_pipe, no_signatures, no_signature, other_torch]
)
def test_code_of_others_is_not_run(fresh, home, monkeypatch, change):
    changed_facts(fresh, fastest)
    change(fresh, home, monkeypatch)
    with patch("torch._inductor.aoti_load_package", side_effect=AssertionError("it was loaded")):
        with pytest.raises(
            ModelError, match=r"--backend aotinductor: 0\.pt2 is machine code that you did not export here"
        ):
            chosen(fresh, "aotinductor")
        found = chosen(fresh)
        assert found.name != "aotinductor"
        assert "0.pt2 is machine code that you did not export here" in found.why


def test_an_export_that_names_no_networks_is_refused(fresh):
    changed_facts(fresh, lambda facts: facts.update(strides={}))
    with pytest.raises(ModelError, match=r"tells of no network 0; export again"):
        Predictor(Bundle.read(fresh), chosen(fresh, "aotinductor").calls)


def test_the_key_is_the_users_alone(compiled, home):
    (key,) = home.rglob("*.key")
    assert key.stat().st_mode & 0o077 == 0
    assert key.read_bytes().hex() not in (compiled.folder / "export.json").read_text()


def test_where_there_is_no_compiler_it_says_so_and_goes_on(made, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with (
        patch("segsmith.delivery.export.write_onnx", unchecked(write_onnx)),
        patch("segsmith.delivery.export.export_folder", lambda file: file.with_suffix(".without")),
    ):
        done = export(made.folder, images=1, compiled=True)
    assert done.exported.of("aotinductor") is None
    assert done.exported.of("onnxruntime") is not None
    assert "aotinductor: there is no C++ compiler no-such-compiler (apt-get install g++, or set CXX)" in done.unchecked
    assert not list(done.folder.glob("*.pt2"))
