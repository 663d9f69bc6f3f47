"""What all tests share: the real data where it lies, the command line, and one tiny journey gone to its end."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import settings

pytest_plugins = ["browser", "contest_folders", "made_runs", "reviewing", "squares"]

settings.register_profile("any machine", deadline=None)  # how long an example takes decides no test
settings.load_profile("any machine")

os.environ.setdefault("OMP_NUM_THREADS", "1")  # several test processes share the machine
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the same bits twice are promised for CPUs; 0 runs tests of GPUs

REAL = Path(os.environ.get("SEGSMITH_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture
def real_data() -> Path:
    """The folder with real data of the five jobs; tests that want it skip where it is absent."""
    if not REAL.is_dir():
        pytest.skip(f"real data is absent ({REAL}; set SEGSMITH_REAL_DATA)")
    return REAL


@dataclass(frozen=True)
class Said:
    """How a command ended: its exit code, and what stood on standard output and standard error."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def command() -> Callable[..., Said]:
    """`command("inspect", raw)` does what `segsmith inspect RAW` does, in this process: torch is loaded once."""
    from segsmith.cli import main

    def run(*arguments: object) -> Said:
        out, err, code = io.StringIO(), io.StringIO(), 0
        with (
            redirect_stdout(out),
            redirect_stderr(err),
            patch.object(sys, "argv", ["segsmith", *map(str, arguments)]),
        ):
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
        return Said(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def two_workers() -> Iterator[str]:
    """The address of a Dask cluster of two workers, which are threads of this process: that is quick."""
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'segsmith[cluster]'")
    from dask_threads import cluster_of_threads

    with cluster_of_threads(2) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="session")
def smallest() -> Callable[[str], list[str]]:
    """Overrides that shrink any recipe to the smallest network and one short epoch a stage."""
    from segsmith.recipe_files import load_recipe

    def overrides(recipe: str) -> list[str]:
        loaded = load_recipe(recipe)
        side = 64 if loaded.data.fit == "resize" else 104  # made salt is 101 pixels wide
        network = {"encoder": "tu-test_resnet", "encoder_depth": 3, "encoder_weights": "null"}
        network |= {"decoder_channels": "[8,8,8]", "attention": "null"}
        return [
            *(f"network.{key}={value}" for key, value in network.items()),
            f"data.input_hw=[{side},{side}]",
            "train.workers=0",
            *(f"train.stages.{n}.epochs=1" for n in range(len(loaded.train.stages))),
            *(f"train.stages.{n}.images_per_epoch=32" for n in range(len(loaded.train.stages))),
        ]

    return overrides


@dataclass(frozen=True)
class Journey:
    """What the commands made, one after the other, on made images of ships, and what each said."""

    raw: Path
    dataset: Path
    run: Path
    prediction: Path
    said: dict[str, Said]

    @property
    def sample(self) -> Path:
        return self.raw / "sample_submission_v2.csv"


@pytest.fixture(scope="session")
def journey(
    tmp_path_factory: pytest.TempPathFactory, command: Callable[..., Said], smallest: Callable[[str], list[str]]
) -> Journey:
    """Gone once for all tests. Its files are for looking at; a test that changes them makes a copy."""
    from segsmith.data.scenes import make_ships

    folder = tmp_path_factory.mktemp("journey")
    done = Journey(folder / "raw", folder / "dataset", folder / "run", folder / "prediction", {})
    make_ships(done.raw, train_images=50, test_images=6, size=96)
    for arguments in (
        ("inspect", done.raw, "--to", done.dataset),
        ("train", done.dataset, done.run, "--recipe", "ships-demo", *smallest("ships-demo")),
        ("decide", done.run),
        ("evaluate", done.run),
        ("predict", done.run, done.raw / "test_v2", "--to", done.prediction, "--sample-submission", done.sample),
    ):
        done.said[arguments[0]] = said = command(*arguments)
        assert said.code == 0, f"{arguments[0]} failed: {said.err}"
    return done
