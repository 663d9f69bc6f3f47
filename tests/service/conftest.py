"""A bundle with something to find, and a service of it in this process."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from posted import OPTIONS, noise

from segsmith.data.rasters import Levels
from segsmith.modeling.bundle import Bundle
from segsmith.prediction.probabilities import Predictor
from segsmith.samples.sight import Sight

pytest.importorskip("prometheus_client", reason="the service is an extra: pip install 'segsmith[serve]'")

import uvicorn
from starlette.testclient import TestClient

from segsmith.service.app import make_app
from segsmith.service.limits import Limits


@pytest.fixture(scope="session")
def bundle(tmp_path_factory, make_bundle) -> Path:
    """It finds some objects in noise, the smallest of which go."""
    path = tmp_path_factory.mktemp("served") / "bundle.safetensors"
    level = int(np.percentile(Predictor(make_bundle(*OPTIONS))([noise(48, 48)])[0], 80))
    made = make_bundle(*OPTIONS, level=level, smallest_area=6)
    replace(made, sight=Sight(gsd_m=(0.2, 0.2), levels=(Levels((100.0,) * 3, (1100.0,) * 3),))).write(path)
    return path


@pytest.fixture(scope="session")
def serving(bundle):
    """`with serving(pixels=100) as client`: a service with these limits."""

    @contextmanager
    def serve(of: Bundle | None = None, token: str | None = None, **limits: float) -> Iterator[TestClient]:
        app = make_app(of or Bundle.read(bundle), Limits(**limits), token)
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client

    return serve


@pytest.fixture(scope="module")
def client(serving) -> Iterator[TestClient]:
    with serving() as client:
        yield client


@contextmanager
def in_a_thread(of: Bundle, token: str | None = None) -> Iterator[int]:
    """The port of a service of a bundle, that listens as the command does."""
    server = uvicorn.Server(uvicorn.Config(make_app(of, Limits(), token), http="h11", log_level="critical"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def listening():
    return in_a_thread
