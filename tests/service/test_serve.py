"""`segsmith serve` as a process: many clients at once, kill -9 and again, and an end that leaves nobody unanswered."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from posted import encoded, geotiff, noise
from traced_unchecked import unchecked

from segsmith.files import digest
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.onnx_files import write_onnx
from segsmith.prediction.backends import Exported, Figures, export_folder, machine
from segsmith.service import serve as module

Answer = tuple[int, bytes]


class Served:
    """The command in a process of its own, and where it listens."""

    def __init__(self, bundle: Path, *options: str, temporary: Path):
        words = [sys.executable, "-m", "segsmith", "serve", str(bundle), "--port", "0", *options]
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(temporary)}
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.said)
        assert found, self.said
        self.port = int(found[1])

    def ask(self, path: str, body: bytes | None = None, timeout: float = 60) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET" if body is None else "POST", path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 60
        while self.ask("/ready")[0] != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@contextmanager
def served(bundle: Path, *options: str, temporary: Path) -> Iterator[Served]:
    service = Served(bundle, *options, temporary=temporary)
    try:
        yield service
    finally:
        service.process.kill()
        service.process.wait()
        service.process.stdout.close()


def raw(port: int, request: bytes, *, close: bool = False) -> bytes:
    """What comes back for bytes that no client library would send."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        if close:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                answer += piece
        return answer


@pytest.fixture
def exported(tmp_path, bundle) -> Path:
    """The bundle, with an export beside it that passed and was fast, and is of other weights, to see who answers."""
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install 'segsmith[export]'")
    file = tmp_path / "bundle.safetensors"
    file.write_bytes(bundle.read_bytes())
    of = Bundle.read(file)
    (weights,) = of.members
    other = replace(of, members=({name: -tensor if "head" in name else tensor for name, tensor in weights.items()},))
    (network,) = other.networks()
    folder = export_folder(file)
    folder.mkdir()
    unchecked(write_onnx)(network, of.recipe, folder / "0.onnx", {})
    figures = [Figures("torch", 0, 0.0, 0.5, 0.0, 3.0), Figures("onnxruntime", 0, 0.0, 0.5, 0.0, 1.0)]
    strides = {"0": network.stride}
    known = Exported("0", digest(file), machine(of), 1, "mean_dice", strides, figures=tuple(figures))
    (folder / "export.json").write_text(known.text())
    return file


def test_it_answers_by_the_backend_that_predict_takes(tmp_path, exported, command):
    (tmp_path / "images").mkdir()
    image = tmp_path / "images" / "a.png"
    image.write_bytes(encoded(noise(48, 40)))
    masks = {}
    for wanted, name in (("torch", "torch"), ("auto", "onnxruntime")):
        said = command("predict", exported, image.parent, "--to", tmp_path / wanted, "--backend", wanted)
        with served(exported, "--backend", wanted, temporary=tmp_path) as service:
            told = service.process.stdout.readline()
            assert told.startswith(f"backend {name}: ")
            assert told.split() == re.search(r"backend[^:]*:.*?(?=1 images)", said.out, re.DOTALL)[0].split()
            assert f'segsmith_backend_info{{name="{name}"}} 1.0' in service.ask("/metrics")[1].decode()
            status, masks[name] = service.ask("/predict/image?answer=png", image.read_bytes())
            assert (status, masks[name]) == (200, (tmp_path / wanted / "masks" / "a.png").read_bytes())
    assert masks["torch"] != masks["onnxruntime"], "each answered for itself"


def test_backends_that_cannot_be_used_are_refused_as_by_predict(bundle, tmp_path, command):
    (tmp_path / "a.png").write_bytes(encoded(noise(48, 48)))
    for wanted, says in (("tensorrt", "is none; choose of auto, torch"), ("openvino", "nothing was exported beside")):
        served, predicted = (
            command(*words, "--backend", wanted)
            for words in (("serve", bundle, "--port", 0), ("predict", bundle, tmp_path, "--to", tmp_path / "to"))
        )
        assert (served.code, served.err) == (predicted.code, predicted.err)
        assert says in served.err


def test_it_serves_many_is_killed_serves_again_and_ends_after_the_last_answer(tmp_path, bundle):
    images = [encoded(noise(48, 40 + number, seed=number)) for number in range(4)]
    bad = [b"", images[0][:200], b"<html>", images[0] + b"PK", b"GIF89a" + bytes(100)]
    scene = geotiff(tmp_path / "scene.tif", noise(400, 400))
    with served(bundle, "--requests", "12", "--seconds", "20", temporary=tmp_path) as service:
        service.wait_until_ready()
        expected = [service.ask("/predict/image", image) for image in images]
        assert [status for status, _ in expected] == [200] * 4
        assert len({body for _, body in expected}) == 4

        def client(number: int) -> list[Answer]:
            found = []
            for turn in range(6):
                which = (number + turn) % len(images)
                while (answer := service.ask("/predict/image", images[which]))[0] == 429:
                    found.append(answer)
                    time.sleep(0.02)
                assert answer == expected[which]
            return found

        def vandal(number: int) -> list[Answer]:
            return [service.ask("/predict/image", bad[(number + turn) % len(bad)]) for turn in range(6)]

        def slow(_: int) -> list[Answer]:
            head = b"POST /predict/image HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
            return [(0, raw(service.port, head + images[0][:100], close=True))]

        with ThreadPoolExecutor(32) as clients:
            jobs = [clients.submit(who, number) for number in range(8) for who in (client, client, client, vandal)]
            jobs += [clients.submit(slow, number) for number in range(4)]
            said = [job.result() for job in jobs]
        busy = [answer for of in said[:32] for answer in of if answer[0] == 429]
        assert busy, "24 clients of a service that takes 12 requests were never told to come again"
        refused = [answer for number in range(3, 32, 4) for answer in said[number] if answer[0] != 429]
        assert {status for status, _ in refused} == {422}
        assert all(json.loads(body)["detail"] for _, body in refused)

        # a length that is not that of the body: too long ends in time, too short is an image cut short, or no request
        short = (
            b"POST /predict/image HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\nConnection: close\r\n\r\n" + images[0]
        )
        assert b" 422 " in raw(service.port, short).splitlines()[0]
        wrong = b"POST /predict/image HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"
        assert b" 400 " in raw(service.port, wrong).splitlines()[0]
        assert service.ask("/predict/image", images[1]) == expected[1]

        # killed within a raster, it leaves a folder, which the next one removes
        answering = threading.Thread(target=lambda: suppressed(service.ask, "/predict/raster", scene))
        answering.start()
        deadline = time.monotonic() + 20
        while not list(tmp_path.glob("segsmith-serve-*/*/work/*")):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        service.process.send_signal(signal.SIGKILL)
        service.process.wait()
        answering.join()
        (left,) = tmp_path.glob("segsmith-serve-*")

    with served(bundle, "--seconds", "20", temporary=tmp_path) as service:
        assert service.ask("/predict/image", images[2]) == expected[2], "as before, ready or not"
        assert not left.exists()
        assert len(list(tmp_path.glob("segsmith-serve-*"))) == 1
        with ThreadPoolExecutor(8) as clients:
            jobs = [clients.submit(service.ask, "/predict/image", images[number % 4]) for number in range(7)]
            jobs.append(clients.submit(service.ask, "/predict/raster", scene))
            while int(re.search(r"segsmith_requests_at_once (\d+)", service.ask("/metrics")[1].decode())[1]) == 0:
                time.sleep(0.001)
            service.process.send_signal(signal.SIGTERM)
            answers = [job.result() for job in jobs[:7]]
            status, objects = jobs[7].result()
        assert answers == [expected[number % 4] for number in range(7)]
        assert status == 200
        assert json.loads(objects)["features"]
        assert service.process.wait(20) == 0
        *_, last = service.process.stdout.read().splitlines()
        assert last == "ended; every request that was taken is answered"
        assert not list(tmp_path.glob("segsmith-serve-*"))
        with pytest.raises(ConnectionRefusedError):
            service.ask("/health")


def suppressed(ask, *words: object) -> None:
    with suppress(OSError, http.client.HTTPException):
        ask(*words)


# What it says before it listens


def test_a_missing_extra_is_told_in_a_sentence(monkeypatch, command, bundle):
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "prometheus_client" else find_spec(name))
    said = command("serve", bundle)
    assert (said.code, said.out) == (2, "")
    assert said.err == "segsmith: serve needs prometheus_client, not installed here: pip install 'segsmith[serve]'\n"


def test_an_address_that_is_taken_is_told(command, bundle):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = command("serve", bundle, "--port", port)
    assert said.code == 2
    assert said.err.startswith(f"segsmith: 127.0.0.1:{port}: cannot be listened at (")


def test_an_empty_token_is_none(monkeypatch, command, bundle):
    monkeypatch.setenv("SEGSMITH_TOKEN", " ")
    said = command("serve", bundle)
    assert said.code == 2
    assert "the token is empty, which would let everyone in" in said.err


def test_no_bundle_no_service(command, tmp_path):
    said = command("serve", tmp_path / "none.safetensors")
    assert said.code == 2
    assert "no such file; train writes bundle.safetensors" in said.err
