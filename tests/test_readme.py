"""Every `segsmith` command line of the README does what it says, on tiny data that stands where the README says."""

import ast
import re
import shlex
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"^```(?:bash|sh|shell|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SMALLER = {"buildings": ["network.architecture=Unet", "folds.block=1", "folds.count=3"]}
NOT_RUN_HERE = {"demo": "test_journey.py"}


def command_lines(text: str) -> list[list[str]]:
    """Words of each command line that begins with segsmith, over all shell blocks, in order; comments left out."""
    lines = "".join(BLOCK.findall(text)).replace("\\\n", " ").splitlines()
    words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    return [line[1:] for line in words if line[:1] == ["segsmith"]]


def test_command_lines_are_found():
    bash = "```bash\nsegsmith a 'b c'  # d\n$ segsmith e \\\n  f\nls\n```\n"
    assert command_lines(f"{bash}`segsmith g`\n```python\nsegsmith\n```\n```sh\nsegsmith h\n```\n") == [
        ["a", "b c"],
        ["e", "f"],
        ["h"],
    ]


def test_the_readme_runs(tmp_path, monkeypatch, command, smallest):
    from segsmith.data.scenes import make_buildings, make_salt, make_ships

    monkeypatch.chdir(tmp_path)
    lines = [line for line in command_lines(README.read_text("utf-8")) if line[:1] and line[0] not in NOT_RUN_HERE]
    if not lines:
        pytest.skip("the README has no command line, or only some that other tests run: " + str(NOT_RUN_HERE))
    for line in lines:
        if line[0] == "inspect":
            raw = Path(line[1]).expanduser()
            assert not raw.is_absolute(), f"{raw}: the README must not name a place that only its author has"
            if not raw.exists():
                if "buildings" in line[1]:
                    make_buildings(raw, hw=(256, 256), scenes=1)
                else:
                    (make_salt if "salt" in line[1] else make_ships)(raw, **made(line[1]))
        if line[0] == "train":
            named = [word for flag, word in pairwise(line) if flag in ("-r", "--recipe")]
            line = [*line, *smallest(named[0]), *SMALLER.get(named[0], [])]
        *words, redirect, target = [*line, "", ""] if ">" not in line else line
        said = command(*(word for word in words if word))
        assert said.code == 0, f"segsmith {shlex.join(line)}\n{said.err}"
        assert said.out, f"segsmith {shlex.join(line)} says nothing"
        if redirect == ">":
            Path(target).write_text(said.out)


def test_what_the_readme_imports_is_there():
    for block in re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("segsmith"):
                assert all(hasattr(import_module(str(node.module)), alias.name) for alias in node.names)


def made(name: str) -> dict[str, int]:
    """How much data to make: little."""
    return {"train_images": 50, "test_images": 6} | ({} if "salt" in name else {"size": 96})
