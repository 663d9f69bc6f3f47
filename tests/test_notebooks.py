"""Every notebook runs from its first cell to its last, and its stored outputs are of what its cells still do."""

import ast
import io
import json
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))
MOST_BYTES = 300_000


def cells(notebook: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(notebook.read_text("utf-8"))["cells"] if cell["cell_type"] == kind]


def run(source: str, names: dict) -> tuple[str, object]:
    """What a cell prints, and the value of its last line, which a notebook would show."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    said, value = io.StringIO(), None
    with redirect_stdout(said):
        exec(compile(tree, "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    return said.getvalue(), value


def test_there_is_a_notebook():
    assert [notebook.name for notebook in NOTEBOOKS] == ["eda.ipynb"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_it_runs_and_shows_what_is_stored(notebook, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names: dict = {"__name__": "__main__"}
    for number, cell in enumerate(cells(notebook, "code"), 1):
        said, value = run("".join(cell["source"]), names)
        assert cell["execution_count"] == number, "stored after a run from the first cell to the last"
        stored = {kind for output in cell["outputs"] for kind in output.get("data", {"stdout": ""})}
        assert ("stdout" in stored) == bool(said), f"cell {number}"
        assert ("text/html" in stored) == hasattr(value, "_repr_html_"), f"cell {number}"
        assert ("image/png" in stored) == hasattr(value, "_repr_png_"), f"cell {number}"
        (printed,) = ["".join(output["text"]) for output in cell["outputs"] if "text" in output] or [""]
        assert len(printed.splitlines()) == len(said.splitlines()), f"cell {number} prints other lines than it did"
    assert not [path for path in Path.cwd().iterdir() if path.suffix == ".dataset"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_it_is_small_and_names_no_place_of_its_author(notebook):
    text = notebook.read_text("utf-8")
    assert len(text) < MOST_BYTES
    assert "/tmp" not in text
    assert "/home" not in text
    assert "/root" not in text
    assert all(cell["outputs"] for cell in cells(notebook, "code"))
