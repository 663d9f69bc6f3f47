"""Claim: 64 clients for 60 s, no error but 429, memory flat, at least 80 % of the images/s of `predict`.

    python benchmarks/service_load.py [--clients N] [--seconds S] [--images N] [--turns N] [--side PIXELS]

`segsmith serve` runs as a process of its own; clients are threads of this one, each with a connection that it keeps,
and share the machine with it. Every answer is run lengths, compared with the rows that `predict` wrote of the image.
The load is cut into turns; before each, `predict` goes through the same images, while the service has nothing to do, so
that what else the machine is busy with falls on both. It writes no masks and overlays, and went through them before, so
that what a first batch costs falls on neither; reading the bundle and building its network, which the service did when
it began, is measured by itself and taken off. Images are made ships as PNG, the network is that of `ships-demo`
with random weights, flipped once (4 MB of weights or 45 make no difference to what is compared here).

On a machine that others use, images/s also tell how many threads either side can put in the queue for a processor; the
processor time of an image does not, so that is told as well (without that of the clients).

Memory is the resident set of the service: what it has grown to after the first turn, and after the last.
"""

import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from segsmith.data.ingest_rle import LAYOUTS
from segsmith.data.scenes import make_ships
from segsmith.delivery.predict import predict
from segsmith.modeling.bundle import Bundle, Cell, Decision
from segsmith.networks.networks import build_network
from segsmith.prediction.probabilities import Predictor
from segsmith.recipe_files import load_recipe


def make_bundle(path: Path, image: np.ndarray) -> None:
    """It finds a few objects in such images."""
    recipe = load_recipe("ships-demo", ["network.encoder_weights=null"])
    torch.manual_seed(0)
    network = build_network(recipe.network, 1, (0.5,) * 3, (0.25,) * 3)
    layout = next(layout for layout in LAYOUTS if layout.name == "rle-objects")
    facts = {"recipe": recipe, "mean": (0.5,) * 3, "std": (0.25,) * 3, "classes": ("ship",), "layout": layout}
    bundle = Bundle((network.state_dict(),), fingerprint="0", **facts)
    level = int(np.percentile(Predictor(bundle)([image])[0], 97))
    Bundle((network.state_dict(),), fingerprint="0", decision=Decision((Cell(level, 40),)), **facts).write(path)


class Load:
    """Clients that ask one after the other until told to end."""

    def __init__(self, port: int, images: dict[str, bytes], expected: dict[str, list[str]]):
        self.port, self.images, self.expected = port, list(images.items()), expected
        self.statuses: Counter[str] = Counter()
        self.waited: list[float] = []
        self._lock = threading.Lock()

    def run(self, clients: int, seconds: float) -> float:
        """Images answered a second."""
        answered, until = self.statuses["200"], time.perf_counter() + seconds
        threads = [threading.Thread(target=self._client, args=(number, until)) for number in range(clients)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (self.statuses["200"] - answered) / (time.perf_counter() - began)

    def _client(self, number: int, until: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        turn = number
        while (asked := time.perf_counter()) < until:
            name, content = self.images[turn % len(self.images)]
            turn += 1
            try:
                connection.request("POST", "/predict/image", content)
                answer = connection.getresponse()
                body, status = answer.read(), str(answer.status)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                body, status = b"", type(error).__name__
            if status == "200" and json.loads(body)["classes"][0]["runs"] != self.expected[name]:
                status = "another mask"
            with self._lock:
                self.statuses[status] += 1
                self.waited.append(time.perf_counter() - asked)
            if status == "429":
                time.sleep(1)
        connection.close()


def resident_mb(process: int) -> float:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1]) / 1024


def processor_s(process: int) -> float:
    """What a process has used of processors so far, all threads together."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--side", type=int, default=256)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_ships(folder / "raw", train_images=40, test_images=options.images, size=options.side)
        (folder / "images").mkdir()
        for path in sorted((folder / "raw" / "test_v2").iterdir()):
            cv2.imwrite(str(folder / "images" / f"{path.stem}.png"), cv2.imread(str(path)))
        images = {path.name: path.read_bytes() for path in sorted((folder / "images").iterdir())}
        make_bundle(folder / "bundle", cv2.imread(str(next((folder / "images").iterdir()))))

        words = [sys.executable, "-m", "segsmith", "serve", str(folder / "bundle"), "--port", "0"]
        environment = {key: value for key, value in os.environ.items() if key != "SEGSMITH_TOKEN"}
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as service:
            port = int(re.search(r":(\d+) \(", service.stdout.readline())[1])
            alone, served, memory = [], [], []
            work_alone, work_served = [], []
            predict(folder / "bundle", folder / "images", folder / "out", masks=False, overlays=False)
            rows = pd.read_csv(folder / "out" / "submission.csv", keep_default_na=False)
            print(f"{sum(rows.EncodedPixels != '') / len(images):.1f} objects an image")
            expected = {name: [text for text in of if text] for name, of in rows.groupby("ImageId")["EncodedPixels"]}
            load = Load(port, images, expected)
            for turn in range(options.turns):
                began, worked = time.perf_counter(), time.process_time()
                Predictor(Bundle.read(folder / "bundle"))
                began += 2 * (set_up := time.perf_counter() - began)
                worked += 2 * (time.process_time() - worked)
                predict(folder / "bundle", folder / "images", folder / "out", masks=False, overlays=False)
                alone.append(len(images) / (time.perf_counter() - began))
                work_alone.append((time.process_time() - worked) / len(images))
                worked, answered = processor_s(service.pid), load.statuses["200"]
                served.append(load.run(options.clients, options.seconds / options.turns))
                work_served.append((processor_s(service.pid) - worked) / (load.statuses["200"] - answered))
                memory.append(resident_mb(service.pid))
                print(
                    f"turn {turn + 1}: predict {alone[-1]:.2f}, service {served[-1]:.2f} images/s, {memory[-1]:.0f} MB"
                )
                print(f"  predict was set up in {set_up:.1f} s before", flush=True)
            service.terminate()
            code = service.wait()
        ratios = sorted(one / other for one, other in zip(served, alone, strict=True))
        print(f"{options.clients} clients, {options.seconds:g} s: {dict(load.statuses)}, ended with {code}")
        print(f"service / predict: median {ratios[len(ratios) // 2]:.0%} ({ratios[0]:.0%} to {ratios[-1]:.0%})")
        print(f"processor time an image: predict {np.median(work_alone):.3f} s, service {np.median(work_served):.3f} s")
        print(f"answered within {np.median(load.waited):.2f} s (median), {np.quantile(load.waited, 0.99):.2f} s (99 %)")
        print(f"memory after each turn: {', '.join(f'{mb:.0f}' for mb in memory)} MB")


if __name__ == "__main__":
    main()
