"""Schemathesis, given the OpenAPI document of a running service, finds nothing that it does not say."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from segsmith.modeling.bundle import Bundle
from segsmith.service.app import make_app
from segsmith.service.limits import Limits

TOKEN = "secret"
EXAMPLES = 20
"""Of each operation, beside those that the document's borders and slips of it ask for."""


@pytest.mark.skipif(find_spec("schemathesis") is None, reason="it is part of the group dev")
def test_every_operation_does_what_it_says(listening, bundle, tmp_path):
    with listening(Bundle.read(bundle), TOKEN) as port:
        done = run_schemathesis(port, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 selected / 6 total" in done.stdout


def run_schemathesis(port: int, at: Path) -> "subprocess.CompletedProcess[str]":
    words = [
        *(str(Path(sys.executable).parent / "schemathesis"), "run", f"http://127.0.0.1:{port}/openapi.json"),
        *("--header", f"Authorization: Bearer {TOKEN}", "--max-examples", str(EXAMPLES), "--seed", "1", "--no-color"),
    ]
    hooks = {"PYTHONPATH": str(Path(__file__).parent), "SCHEMATHESIS_HOOKS": "uploads_for_schemathesis"}
    return subprocess.run(words, env=os.environ | hooks, cwd=at, capture_output=True, text=True, timeout=300)


def test_the_document_names_every_answer(bundle):
    paths = make_app(Bundle.read(bundle), Limits(), TOKEN).openapi()["paths"]
    assert sorted(paths) == ["/health", "/metrics", "/model", "/predict/image", "/predict/raster", "/ready"]
    for path, kinds in (
        ("/predict/image", {"application/json", "image/png"}),
        ("/predict/raster", {"application/json", "image/png", "image/tiff", "application/geo+json"}),
    ):
        responses = paths[path]["post"]["responses"]
        assert set(responses) == {"200", "401", "408", "413", "415", "422", "429", "503"}
        assert set(responses["200"]["content"]) == kinds
