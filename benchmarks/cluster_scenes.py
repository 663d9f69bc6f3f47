"""Claim: 200 scenes of mixed sizes keep both of two Dask workers busy to the end, and are the same files to the byte.

    python benchmarks/cluster_scenes.py FOLDER [--scenes N] [--longest PIXELS] [--threads N]

Made scenes, between 64 pixels a side and `--longest`, most of them small, are predicted with a tiny network by this
process, and by the workers of `--cluster local`, which share its cores. All have imported the libraries before. How
busy each worker is until the last scene ends is told by Dask's own records of tasks. For comparison the measured times
are dealt out in another order, that of the names, to two workers that never wait in between.
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from raster_memory import digest, make_bundle, make_raster

from segsmith.cluster import opened_cluster
from segsmith.delivery.predict_rasters import predict_rasters


def make_scenes(folder: Path, count: int, longest: int) -> None:
    """Of a side whose logarithm is drawn evenly, so most are small; the largest is the last by name."""
    sides = np.exp(np.random.default_rng(0).uniform(np.log(64), np.log(longest), count))
    sides[sides.argmax()], sides[-1] = sides[-1], sides.max()
    for number, side in enumerate(sides.astype(int)):
        make_raster(folder / f"scene{number:03}.tif", side, side)


def seconds(bundle: Path, scenes: Path, out: Path, cluster: str | None = None) -> float:
    began = time.monotonic()
    predict_rasters(bundle, scenes, out, cluster=cluster)
    return time.monotonic() - began


def alone_at_the_end(durations: list[float]) -> float:
    """Seconds for which the second of two workers is done before the first, where each takes the next job when free."""
    ends = [0.0, 0.0]
    for duration in durations:
        ends[ends.index(min(ends))] += duration
    return abs(ends[0] - ends[1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--longest", type=int, default=800)
    parser.add_argument("--threads", type=int, help="of this process; as many as there are cores if unset")
    args = parser.parse_args()
    torch.set_num_threads(args.threads or torch.get_num_threads())
    bundle, scenes = args.folder / "bundle.safetensors", args.folder / "scenes"
    scenes.mkdir(parents=True)
    make_bundle(bundle, chip=128, overlap=0.5)
    make_scenes(scenes, args.scenes, args.longest)

    alone = seconds(bundle, scenes, args.folder / "alone")
    print(f"without a cluster: {alone:.0f} s with {torch.get_num_threads()} threads", flush=True)
    with opened_cluster("local", 2) as client:
        client.run(__import__, "segsmith.delivery.predict_rasters")
        client.get_task_stream()  # records begin here
        spread = seconds(bundle, scenes, args.folder / "spread", client.scheduler.address)
        tasks = client.get_task_stream()
    print(f"two workers of one thread: {spread:.0f} s", flush=True)
    times = defaultdict(list)
    for task in tasks:
        times[task["worker"]] += [(of["start"], of["stop"]) for of in task["startstops"] if of["action"] == "compute"]
    every = sorted(interval for intervals in times.values() for interval in intervals)
    first, last = every[0][0], max(stop for _, stop in every)
    for intervals in times.values():
        busy = sum(stop - start for start, stop in intervals)
        idle = last - max(stop for _, stop in intervals)
        print(
            f"  {len(intervals)} scenes, busy {busy / (last - first):.1%} of {last - first:.1f} s, idle at the end "
            f"{idle:.2f} s",
            flush=True,
        )
    durations = [stop - start for start, stop in every]  # as they were begun: in the order of their sizes
    by_size = sorted(scenes.iterdir(), key=lambda path: path.stat().st_size, reverse=True)
    by_name = [duration for _, duration in sorted(zip(by_size, durations, strict=True))]
    print(
        f"scenes take {min(durations):.2f} to {max(durations):.1f} s; two workers that never wait in between would end"
    )
    print(f"{alone_at_the_end(durations):.2f} s apart, and {alone_at_the_end(by_name):.2f} s in the order of names")
    same = digest(args.folder / "alone") == digest(args.folder / "spread")
    print("the same to the last byte" if same else "NOT the same")


if __name__ == "__main__":
    main()
