"""What pages ask of runs: their tables of chips, pictures, levels and the sums their scores are made of."""

import json
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from segsmith.data.images import as_rgb
from segsmith.decision.masks import decided_by
from segsmith.decision.object_levels import LEVELS_SEPARATED
from segsmith.errors import SegsmithError
from segsmith.prediction.probabilities import png
from segsmith.viewer.folders import Folder
from segsmith.viewer.object_tables import f2_tables
from segsmith.viewer.open_run import NotShownError, OpenRun, Runs
from segsmith.viewer.surfaces import SurfacesInTurn, planes_of
from segsmith.viewer.thumbnails import jpeg, thumbnail

KEPT = {"Cache-Control": "private, max-age=3600"}
"""For what is asked for with the version of its run."""


def run_routes(folders: Sequence[Folder]) -> APIRouter:
    """Routes under /api/runs/NUMBER. What cannot be shown is answered with a sentence (`refusal`)."""
    routes = APIRouter(prefix="/api/runs/{number}")
    runs = Runs({folder.number: folder.path for folder in folders if folder.kind == "run"})
    surfaces = SurfacesInTurn()

    @lru_cache(maxsize=8)
    def gallery_text(number: int, version: str) -> str:
        return json.dumps(_gallery(runs[number]), separators=(",", ":"))

    for number in runs.folders:  # before anybody waits for it; what is wrong with one its page says
        with suppress(SegsmithError, OSError, ValueError, KeyError):
            gallery_text(number, runs[number].version)
            runs[number].scored_rows("")

    @routes.get("/gallery")
    def gallery(number: int) -> Response:
        return Response(gallery_text(number, runs[number].version), media_type="application/json")

    @routes.get("/chips/{chip}/thumbnail")
    def small(number: int, chip: int) -> Response:
        run = runs[number]
        image, truth, prediction = _small(run, _shown(run, chip))
        return Response(jpeg(thumbnail(image, truth, prediction)), media_type="image/jpeg", headers=KEPT)

    @routes.get("/chips/{chip}/image")
    def image(number: int, chip: int) -> Response:
        run = runs[number]
        with run.reading:
            pixels = as_rgb(run.chips.pixels(_shown(run, chip)))
        content = png(np.ascontiguousarray(pixels[..., ::-1]))  # OpenCV's order of colours
        return Response(content, media_type="image/png", headers=KEPT)

    @routes.get("/chips/{chip}/levels")
    def levels(number: int, chip: int) -> Response:
        run = runs[number]
        return Response(_levels(run, _shown(run, chip)), media_type="application/octet-stream", headers=KEPT)

    @routes.get("/chips/{chip}/object_scores")
    def object_scores(number: int, chip: int) -> Response:
        run = runs[number]
        tables, emptied = f2_tables(run, run.seen(_shown(run, chip)))
        facts = {"areas": run.areas.tolist(), "emptied": emptied.tolist()}
        content = _packed(facts, tables.astype("<f8").tobytes())
        return Response(content, media_type="application/octet-stream", headers=KEPT)

    @routes.get("/surfaces/{part}")
    def scores(number: int, part: str) -> Response:
        made = surfaces.of(runs[number], part)
        if not made.finished.is_set():
            return JSONResponse({"done": made.done, "of": made.images}, 202)
        if made.failed:
            raise made.failed
        facts = {
            "planes": planes_of(runs[number]),
            "areas": runs[number].areas.tolist(),
            "images": made.images,
            "true_pixels": made.true_pixels,
            "usable_pixels": made.usable_pixels,
        }
        return Response(_packed(facts, made.sums.astype("<f8").tobytes()), media_type="application/octet-stream")

    return routes


def refusal(error: Exception) -> Response:
    """What a page is told that cannot be shown something. That is an answer like another, marked by a header: browsers
    log those of 400 and above as errors of the page."""
    answer = {"said": str(error), "command": getattr(error, "command", None)}
    return JSONResponse(answer, headers={"Refused": "yes", "Cache-Control": "no-store"})


def _shown(run: OpenRun, chip: int) -> int:
    if not (run.folds["chip"] == chip).any():
        raise NotShownError(f"{run.folder}: chip {chip} is none of those validated on or held out")
    return chip


def _gallery(run: OpenRun) -> dict[str, Any]:
    """Columns, a row for each shown chip; of what differs by class, those of the first class come first."""
    kinds, findings = run.findings()
    strata, stratum = run.strata()
    shown = run.folds["chip"].to_numpy()
    decision = run.decision
    return {
        "version": run.version,
        "name": run.recipe.name,
        "fingerprint": run.fingerprint,
        "classes": run.classes,
        "metric": decision.metric,
        "score": decision.score,
        "cross_fitted_score": decision.cross_fitted_score,
        "cells": [cell._asdict() for cell in run.cells],
        "levels_separated": LEVELS_SEPARATED.tolist(),
        "areas": run.areas.tolist(),
        "scored": run.scored.get("part"),
        "scores": run.scored.get("scores", {}),
        "evaluate": f"segsmith evaluate {run.folder}",
        "kinds": kinds,
        "strata": strata,
        "hw": list(run.chips.hw(int(shown[0]))),
        "columns": {
            "chip": shown.tolist(),
            "id": run.folds["id"].tolist(),
            "fold": run.folds["fold"].tolist(),
            "held_out": (run.folds["part"] == "held_out").astype(int).tolist(),
            "objects": run.chips.objects[shown].tolist(),
            "findings": findings,
            "strata": stratum,
            **run.measured(),
        },
    }


def _small(run: OpenRun, chip: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """A chip's pixels, truth and prediction, of all classes; the prediction as evaluate scored it, none where there
    are no probabilities."""
    with run.reading:
        read = run.chips.read(chip)
    chip_id = run.chips.id(chip)
    image, truth = np.ascontiguousarray(as_rgb(read.image)), np.asarray((read.mask & read.valid).any(axis=0))
    if not run.files.has(chip_id):
        return image, truth, None
    rows = run.scored_rows(chip_id)
    part = int(rows["part"].iloc[0]) if len(rows) and "part" in rows else -1
    planes = run.files.read(chip_id)[: len(run.classes)]
    prediction = decided_by(
        run.decision,
        planes,
        exclusive=run.recipe.data.exclusive,
        part=part if 0 <= part < len(run.decision.parts) else None,
        presence=run.files.presence(chip_id),
    )
    return image, truth, np.asarray(prediction.any(axis=0))


def _levels(run: OpenRun, chip: int) -> bytes:
    """What a page decides a chip by: its planes as decisions see them, those the networks made where these differ, the
    truth of each class, and which pixels are usable, a byte a pixel each.

    Bytes rather than PNG: a browser may manage the colours of a picture, or blur what is read off a canvas.
    """
    seen = run.seen(chip)
    raw = seen.raw[: len(run.classes)]
    differs = not np.array_equal(raw, seen.planes)
    facts = {
        "hw": seen.valid.shape,
        "gate_values": seen.gates,
        "raw": differs,
        "scored": run.scored_rows(run.chips.id(chip)).replace({np.nan: None}).to_dict("records"),
    }
    planes = [seen.planes, *([raw] if differs else []), seen.truth, seen.valid]
    return _packed(facts, b"".join(np.ascontiguousarray(plane).view(np.uint8).tobytes() for plane in planes))


def _packed(facts: dict[str, Any], content: bytes) -> bytes:
    """The length of the facts in four bytes, the facts as JSON with spaces behind them up to a multiple of 8, and the
    content."""
    text = json.dumps(facts).encode()
    text += b" " * (-(len(text) + 4) % 8)
    return len(text).to_bytes(4, "little") + text + content
