"""Findings -> a list worth reading from its beginning, printed lines, a table."""

from pathlib import Path

import pytest

from segsmith.data.findings import KINDS, Finding, printed, to_csv, worst_first


def test_the_list_is_short_and_the_worst_comes_first():
    found = worst_first(
        [
            *(Finding("speck", 0.3, f"s{n}", f"s{n}.png", "mask is speck: 1 pixels") for n in range(5)),
            Finding("undecodable", 1.0, "u", "u.png", "u.png: does not decode"),
        ]
    )
    assert [one.kind for one in found] == ["undecodable"] + 5 * ["speck"]
    lines = printed(found)
    assert [line.split(":")[0] for line in lines] == ["undecodable", "speck"]
    assert "5 images have a mask of a few pixels: s0, s1, s2 ...; check" in lines[1]
    assert printed(found, lines=1)[1] == "and 1 more kind of findings: see findings.csv"
    assert to_csv(found).splitlines()[1].startswith("undecodable,1.000,u,u.png,,,u.png: does not decode,")


def test_no_kind_fills_the_head_of_the_list():
    many = [Finding("uniform", 0.8, f"u{n}", f"u{n}.png", "") for n in range(100)]
    one = Finding("mask-transposed", 0.5, "t", "t.png", "")
    ordered = worst_first([*many, one])
    assert 5 < ordered.index(one) < 20
    assert ordered == worst_first(ordered[::-1])


def test_a_finding_of_no_kind_is_refused():
    with pytest.raises(ValueError, match="Received: odd"):
        Finding("odd", 0.5, "", "", "")
    with pytest.raises(ValueError, match=r"Received: 1\.5"):
        Finding("speck", 1.5, "", "", "")


def test_every_kind_stands_in_the_documentation_as_the_code_has_it():
    lines = (Path(__file__).parents[2] / "docs" / "findings.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    assert {kind.strip("`"): (matter, remedy) for kind, matter, _, remedy in rows} == KINDS
    assert all(how for _, _, how, _ in rows)
