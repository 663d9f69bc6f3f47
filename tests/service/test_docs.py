"""What docs/service.md shows does what it says."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from posted import encoded, geotiff, noise

from segsmith.modeling.bundle import Bundle
from segsmith.service.limits import Limits

PAGE = (Path(__file__).parents[2] / "docs" / "service.md").read_text()
CURL = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_questions_of_the_page_are_answered(listening, bundle, tmp_path):
    (tmp_path / "image.png").write_bytes(encoded(noise(48, 48)))
    geotiff(tmp_path / "scene.tif", noise(48, 48))
    assert len(CURL) == 4
    with listening(Bundle.read(bundle)) as port:
        here = {"http://127.0.0.1:8000": f"http://127.0.0.1:{port}", "curl ": "curl -sS --fail "}
        said = [subprocess.check_output(["bash", "-c", replaced(line, here)], cwd=tmp_path) for line in CURL]
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert json.loads(shown).keys() == json.loads(said[0]).keys()
    assert json.loads(shown)["classes"][0].keys() == json.loads(said[0])["classes"][0].keys()
    assert (tmp_path / "mask.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "objects.geojson").read_text())["type"] == "FeatureCollection"
    assert (tmp_path / "mask.tif").read_bytes().startswith(b"II*\0")


def replaced(text: str, words: dict[str, str]) -> str:
    for old, new in words.items():
        assert old in text
        text = text.replace(old, new)
    return text


def test_the_defaults_of_the_page_are_those_of_the_command():
    told = dict(re.findall(r"\| `--([a-z-]+)` \| ([\d ]+\d)", PAGE))
    limits = Limits()
    assert {name: float(value.replace(" ", "")) for name, value in told.items()} == {
        "upload-mb": limits.upload_mb, "pixels": limits.pixels, "requests": limits.requests,
        "memory-mb": limits.memory_mb, "seconds": limits.seconds,
    }  # fmt: skip
