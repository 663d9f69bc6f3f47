"""Files made to harm: each ends in one message and exit code 2, in little memory, and nothing is left behind."""

import io
import json
import os
import pickle
import resource
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import safetensors.torch
import torch

from segsmith.modeling.bundle import Bundle, Decision

HW = (16, 20)
MIB_MORE = 300
"""Memory that a refusal may take beyond what the tests before it took."""


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*HW, 3), np.uint8)


def raw(at: Path, rows: str = "a.png,1 2\nb.png,\n") -> Path:
    for seed, name in enumerate("ab"):
        save(at / "raw" / "train" / f"{name}.png", noise(seed))
    (at / "raw" / "train.csv").write_bytes(f"ImageId,EncodedPixels\n{rows}".encode())
    return at / "raw"


@cache
def huge_png(side: int = 14_200) -> bytes:
    """Two hundred megapixels of zeros, of one bit each, in some kilobytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(bytes((1 + side // 8) * side), 1)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert len(content) < 2**18
    return content


def zip_bomb(path: Path) -> None:
    """A hundred megabytes of zeros in one tenth of one."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file, file.open("data.pkl", "w") as entry:
        entry.write(bytes(10**8))


class Marks:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.path),)


def tiled(path: Path, tile: int, side: int = 64) -> None:
    """A GeoTIFF whose header says its tiles are of so many pixels a side."""
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "crs": "EPSG:32636"}
    profile |= {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"}
    with rasterio.open(path, "w", **profile, transform=rasterio.Affine(0.2, 0, 5e5, 0, -0.2, 6e6)) as file:
        file.write(np.random.default_rng(0).integers(0, 256, (3, side, side), np.uint8))
    content = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<I", content, 4)
    for entry in range(struct.unpack_from("<H", content, at)[0]):
        tag, kind, _ = struct.unpack_from("<HHI", content, here := at + 2 + 12 * entry)
        if tag in (322, 323):  # TileWidth, TileLength
            assert kind in (3, 4)
            struct.pack_into("<HHII", content, here, tag, 4, 1, tile)
    path.write_bytes(content)


def georeferenced(path: Path, pixels: np.ndarray, gsd_m: float = 0.2) -> None:
    profile = {"driver": "GTiff", "count": 3, "height": pixels.shape[1], "width": pixels.shape[2]}
    profile |= {"dtype": pixels.dtype, "crs": "EPSG:32636"}
    with rasterio.open(path, "w", **profile, transform=rasterio.Affine(gsd_m, 0, 5e5, 0, -gsd_m, 6e6)) as file:
        file.write(pixels)


# What is given to inspect, train and recipe


def rows(text: str) -> Callable[[Path], list[object]]:
    return lambda at: ["inspect", raw(at, text), "--to", at / "out"]


def zip_as_raw(at: Path) -> list[object]:
    zip_bomb(at / "raw.zip")
    return ["inspect", at / "raw.zip", "--to", at / "out"]


def huge_image(at: Path) -> list[object]:
    (raw(at) / "train" / "b.png").write_bytes(huge_png())
    return ["inspect", at / "raw", "--to", at / "out"]


def huge_mask(at: Path) -> list[object]:
    for folder in ("images", "masks"):
        for name in "ab":
            save(at / "raw" / folder / f"{name}.png", np.zeros(HW, np.uint8))
    (at / "raw" / "masks" / "b.png").write_bytes(huge_png())
    return ["inspect", at / "raw", "--to", at / "out"]


def postscript(at: Path) -> list[object]:
    (raw(at) / "train" / "b.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 16\n%%EndComments\n")
    return ["inspect", at / "raw", "--to", at / "out"]


def pipe(at: Path) -> list[object]:
    (raw(at) / "train" / "b.png").unlink()
    os.mkfifo(at / "raw" / "train" / "b.png")
    return ["inspect", at / "raw", "--to", at / "out"]


def link_in_a_ring(at: Path) -> list[object]:
    image = raw(at) / "train" / "b.png"
    image.unlink()
    image.symlink_to(image)
    return ["inspect", at / "raw", "--to", at / "out"]


def deep_coco(at: Path) -> list[object]:
    save(at / "raw" / "a.png", noise())
    (at / "raw" / "labels.json").write_text('{"images": ' + "[" * 100_000)
    return ["inspect", at / "raw", "--layout", "coco", "--labels", at / "raw" / "labels.json", "--to", at / "out"]


def recipe(text: str) -> Callable[[Path], list[object]]:
    def set_up(at: Path) -> list[object]:
        (at / "mine.yaml").write_text(text)
        return ["train", at / "no.dataset", at / "run", "--recipe", at / "mine.yaml"]

    return set_up


def overridden(text: str) -> Callable[[Path], list[object]]:
    return lambda at: ["train", at / "no.dataset", at / "run", "--recipe", "salt", text]


LAUGHS = "{}: " + "[" + "".join(f"&{n} [{', '.join([f'*{n - 1}' if n else '1'] * 9)}], " for n in range(12)) + "]"
RUNS_CODE = "name: !!python/object/apply:os.mkdir [harmed]\n"

GIVEN: dict[str, tuple[Callable[[Path], list[object]], str]] = {
    "an id that leads out": (rows("a.png,1 2\n../../b.png,1 2\n"), "row 3: ../../b.png"),
    "an id from the root": (rows("a.png,1 2\n/etc/passwd,1 2\n"), "row 3: /etc/passwd"),
    "an id with a NUL": (rows("a.png,1 2\nb\0.png,1 2\n"), "row 3"),
    "runs without end": (rows("a.png,1 99999999999999999999999\n"), "is beyond any image"),
    "a zip for a folder": (zip_as_raw, "raw.zip"),
    "a huge image": (huge_image, "b.png: more than 134,217,728 pixels"),
    "a huge mask": (huge_mask, "b.png: more than 134,217,728 pixels"),
    "PostScript": (postscript, "b.png: does not decode as an image"),
    "a pipe": (pipe, "b.png"),
    "a link to itself": (link_in_a_ring, "b.png"),
    "JSON without end": (deep_coco, "labels.json"),
    "YAML that runs code": (recipe(RUNS_CODE), "mine.yaml is not YAML: could not determine a constructor"),
    "YAML without end": (recipe("a: " + "[" * 100_000), "mine.yaml is not YAML"),
    "a billion laughs": (recipe(LAUGHS.format("name")), "mine.yaml holds more than 10,000 values"),
    "an override that runs code": (overridden("name=!!python/object/apply:os.mkdir [harmed]"), "is not YAML"),
    "an override of a billion laughs": (overridden(LAUGHS.format("name").replace(": ", "=", 1)), "more than 10,000"),
}


# What is given to predict


def bundle_of(content: bytes) -> Callable[[Path, Path], list[object]]:
    def set_up(at: Path, _: Path) -> list[object]:
        save(at / "images" / "a.png", noise())
        (at / "bad").write_bytes(content)
        return ["predict", at / "bad", at / "images", "--to", at / "out"]

    return set_up


def zip_as_bundle(at: Path, bundle: Path) -> list[object]:
    words = bundle_of(b"")(at, bundle)
    zip_bomb(at / "bad")
    return words


def pickle_as_bundle(at: Path, bundle: Path) -> list[object]:
    return bundle_of(pickle.dumps(Marks(at / "harmed")))(at, bundle)


def checkpoint_as_bundle(at: Path, bundle: Path) -> list[object]:
    buffer = io.BytesIO()
    torch.save({"state_dict": Marks(at / "harmed")}, buffer)
    return bundle_of(buffer.getvalue())(at, bundle)


def changed_bundle(change: Callable[[bytes], bytes]) -> Callable[[Path, Path], list[object]]:
    return lambda at, bundle: bundle_of(change(bundle.read_bytes()))(at, bundle)


def facts_without_end(at: Path, bundle: Path) -> list[object]:
    metadata = {"segsmith": "", "facts": "[" * 100_000}
    with safetensors.safe_open(bundle, "pt") as file:
        metadata["segsmith"] = file.metadata()["segsmith"]
    return bundle_of(safetensors.torch.save({"0.w": torch.zeros(2)}, metadata))(at, bundle)


def asking_for(section: str = "network", **options: object) -> Callable[[Path, Path], list[object]]:
    """A bundle, sound but for options of its recipe."""

    def set_up(at: Path, bundle: Path) -> list[object]:
        return bundle_of(with_options(bundle, section, **options))(at, bundle)

    return set_up


def with_options(bundle: Path, section: str, **options: object) -> bytes:
    with safetensors.safe_open(bundle, "pt") as file:
        metadata = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    facts = json.loads(metadata["facts"])
    facts["recipe"][section] |= options
    return safetensors.torch.save(weights, metadata | {"facts": json.dumps(facts)})


def enlarged_chips(at: Path, bundle: Path) -> list[object]:
    bundle.with_name("chips").write_bytes(with_options(bundle, "data", fit="chip", scales=[16]))
    words = asking_for("predict", scales=[4])(at, bundle.with_name("chips"))
    save(at / "images" / "a.png", np.zeros((1000, 1000, 3), np.uint8))
    return words


def images_of(make: Callable[[Path], None], *words: object) -> Callable[[Path, Path], list[object]]:
    def set_up(at: Path, bundle: Path) -> list[object]:
        (at / "images").mkdir()
        make(at / "images")
        return ["predict", bundle, at / "images", "--to", at / "out", *words]

    return set_up


def sample_of(rows: str) -> Callable[[Path, Path], list[object]]:
    def set_up(at: Path, bundle: Path) -> list[object]:
        save(at / "images" / "a.png", noise())
        (at / "sample.csv").write_bytes(f"ImageId,EncodedPixels\n{rows}".encode())
        return ["predict", bundle, at / "images", "--to", at / "out", "--sample-submission", at / "sample.csv"]

    return set_up


PREDICTED: dict[str, tuple[Callable[[Path, Path], list[object]], str]] = {
    "a zip for a bundle": (zip_as_bundle, "bad: does not read as a bundle"),
    "a pickle for a bundle": (pickle_as_bundle, "bad: does not read as a bundle"),
    "a checkpoint for a bundle": (checkpoint_as_bundle, "bad: does not read as a bundle"),
    "a bundle cut short": (changed_bundle(lambda content: content[:-100]), "bad: does not read as a bundle"),
    "a header without end": (
        changed_bundle(lambda content: struct.pack("<Q", 2**62) + content[8:]),
        "bad: does not read as a bundle",
    ),
    "a broken header": (
        changed_bundle(lambda content: content[:8] + b"\xff" * 64 + content[72:]),
        "bad: does not read as a bundle",
    ),
    "facts without end": (facts_without_end, "bad: written by another version"),
    "a gigantic decoder": (asking_for(decoder_channels=[2**14] * 3), "asks for a network of"),
    "a decoder beyond all numbers": (asking_for(decoder_channels=[2**62] * 3), "does not build"),
    "a gigantic encoder": (asking_for(encoder="tu-vit_gigantic_patch14_224"), "asks for a network of"),
    "a gigantic column": (
        asking_for(decoder_channels=[2**40, 8, 8], hypercolumn=True, architecture="Unet"),
        "does not build",
    ),
    "a gigantic input": (
        asking_for("data", input_hw=[100_000, 100_000]),
        "bad: recipe: data.input_hw=[100000, 100000] and predict.batch_size=16 are 160,000,000,000 pixels at once, "
        "more than 67,108,864; set a smaller data.input_hw\n",
    ),
    "a gigantic batch": (
        asking_for("predict", batch_size=10**9),
        "bad: recipe: data.input_hw=[192, 192] and predict.batch_size=1000000000 are 36,864,000,000,000 pixels at "
        "once, more than 67,108,864; set predict.batch_size=1820 or less\n",
    ),
    "a gigantic scale": (asking_for("predict", scales=[1, 10**9]), "bad: predict.scales.1: "),
    "scales without end": (asking_for("predict", scales=list(range(10**5))), "bad holds more than 10,000 values"),
    "too many scales": (asking_for("predict", scales=[9.0] * 9_000), "bad: predict.scales"),
    "flips without end": (asking_for("predict", flips="all" * 10**5), "bad: predict.flips: "),
    "chips enlarged beyond all": (
        enlarged_chips,
        "an image of 1,000 x 1,000 pixels, enlarged 64 times as the bundle's",
    ),
    "a huge image to predict": (
        images_of(lambda at: (at / "a.png").write_bytes(huge_png())),
        "a.png: more than 134,217,728 pixels",
    ),
    "a pipe to predict": (images_of(lambda at: os.mkfifo(at / "a.png")), "a.png"),
    "a pipe for a raster": (images_of(lambda at: os.mkfifo(at / "a.tif")), "a.tif"),
    "a link to nothing": (images_of(lambda at: (at / "a.png").symlink_to("none.png")), "a.png: no such file"),
    "huge tiles": (images_of(lambda at: tiled(at / "a.tif", 2**20)), "a.tif"),
    "tiles of nothing": (images_of(lambda at: tiled(at / "a.tif", 0)), "a.tif"),
    "not a number": (
        images_of(lambda at: georeferenced(at / "a.tif", np.full((3, 64, 64), np.nan, np.float32))),
        "holds no usable pixel",
    ),
    "infinite": (
        images_of(lambda at: georeferenced(at / "a.tif", np.full((3, 64, 64), np.inf, np.float32))),
        "holds no usable pixel",
    ),
    "a sample that leads out": (sample_of("a.png,1 2\n../../b.png,1 2\n"), "- ../../b.png"),
    "a sample from the root": (sample_of("a.png,1 2\n/etc/passwd,1 2\n"), "- /etc/passwd"),
    "a sample with a NUL": (sample_of("a.png,1 2\nb\0.png,1 2\n"), "sample.csv"),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, make_bundle) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "bundle.safetensors"
    make_bundle().write(path)
    return path


@pytest.fixture
def refuses(tmp_path, command, monkeypatch) -> Callable[[list[object], str], None]:
    """That the words end in one message that says so, in little memory, and nothing is left behind."""

    def refused(words: list[object], says: str) -> None:
        monkeypatch.chdir(tmp_path)
        before = sorted(tmp_path.rglob("*"))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        said = command(*words)
        assert (said.code, said.out) == (2, ""), said
        assert says in said.err
        assert said.err.startswith("segsmith: ")
        assert "Traceback" not in said.err
        assert len(said.err.replace(str(tmp_path), "")) < 3000
        left = [path for path in sorted(tmp_path.rglob("*")) if ".out.progress" not in path.parts]
        assert left == before  # what was done of rasters stays, to go on from
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < MIB_MORE * 1024

    return refused


@pytest.mark.parametrize("name", GIVEN)
def test_what_is_given_is_refused(tmp_path, refuses, name):
    set_up, says = GIVEN[name]
    refuses(set_up(tmp_path), says)


@pytest.mark.parametrize("name", PREDICTED)
def test_what_is_to_be_predicted_is_refused(tmp_path, refuses, bundle, name):
    set_up, says = PREDICTED[name]
    refuses(set_up(tmp_path, bundle), says)


def test_no_command_obeys_a_gigantic_bundle(tmp_path, refuses, make_run):
    """Wherever networks are made of a bundle, and whatever images it asks for."""
    made = make_run([np.eye(32, dtype=bool)] * 6, [np.zeros((1, 32, 32), np.uint8)] * 6, "folds.count=2")
    file = made.folder / "bundle.safetensors"
    decided = replace(Bundle.read(file), decision=Decision(metric="mean_dice"))
    decided.write(file)
    sound = file.read_bytes()
    for section, options, says in (
        ("network", {"decoder_channels": [2**14] * 3}, "asks for a network of"),
        ("data", {"input_hw": [100_000, 100_000]}, f"{file}: recipe: data.input_hw=[100000, 100000]"),
        ("predict", {"batch_size": 10**9}, "and predict.batch_size=1000000000 are"),
    ):
        file.write_bytes(sound)
        file.write_bytes(with_options(file, section, **options))
        for words in (["serve", file, "--port", 0], ["export", made.folder]):
            refuses(words, says)
        if section != "network":
            refuses(["decide", made.folder], says)
