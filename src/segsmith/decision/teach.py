"""Run + unlabelled images -> students of it, round by round, as long as each is surely better than its teacher.

student.yaml     the recipe of the students
teach.json       what was asked for
ledger.csv       a row for each round: who taught whom, from what confidence on, which folds judged, what was gained
1/dataset        the images with soft labels of round 1, beside those of the teacher's dataset;  1/run  its student

Noisy student (Xie et al. 2020, arXiv 1911.04252): the teacher labels softly, undisturbed and as an ensemble; the
student learns labelled and soft images alike, disturbed by noise of images and network, and then teaches. Each round is
scored on the held-out fold, which no teacher and no student was trained or tuned on, in pairs with its teacher.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from segsmith.decision.compare import compare
from segsmith.decision.decide import decide
from segsmith.decision.evaluate import evaluate
from segsmith.decision.label import FILE, TAUGHT, check_teacher, label
from segsmith.errors import ModelError, RunError, listed
from segsmith.files import held, write_text
from segsmith.modeling.bundle import Bundle
from segsmith.modeling.run import Run, differing_options, flat_options
from segsmith.modeling.train import check_recipe, train
from segsmith.modeling.training import Step
from segsmith.recipe import Augment, Loss, Recipe, Stage
from segsmith.recipe_files import load_recipe, to_yaml

NOISE = {"drop_path": 0.1, "dropout": 0.2}
"""Least noise of a student's network, as far as its architecture has it."""
FINE = 0.3
"""Rates of the stages on labelled images alone, relative to the teacher's."""


@dataclass(frozen=True)
class Round:
    """A row of the ledger. Scores are of the held-out images; the interval of the gain, of 95 %, is of pairs."""

    round: int
    teacher: str
    student: str
    validation: int
    """The fold that both were tuned on; neither was trained on it."""
    held_out: int
    sure: float
    agree: float
    looked_at: int
    kept: int
    images: int
    teacher_score: float
    student_score: float
    gain: float
    gain_low: float
    gain_high: float

    @property
    def surely_better(self) -> bool:
        return self.gain_low > 0


@dataclass(frozen=True)
class Taught:
    """What came of it."""

    best: Path
    """The last run that was surely better than its teacher; the first teacher where none was."""
    rounds: tuple[Round, ...]


def teach(
    run: Path,
    images: Path,
    folder: Path,
    *,
    recipe: Recipe | None = None,
    rounds: int = 3,
    sure: float = 0.8,
    agree: float = 0.8,
    watch: Callable[[Step], None] = lambda step: None,
    say: Callable[[str], None] = print,
) -> Taught:
    """Teach a student by a run's soft labels of images (see `label`), by its own another one, up to so many rounds.

    `recipe` is that of every student, by default the teacher's as `student_recipe` makes it; seed, folds and decide are
    always the teacher's, so that both are judged on the same images by the same metric. A round is the last where the
    interval of its gain holds 0.

    Called again, it goes on, and comes to the same; more rounds may be asked for. Raises RunError for a run without
    held-out fold, or not evaluated on it, one of all folds in turn, a folder that began with something else, and where
    the teacher is sure of no image; and like `label` and `train`.
    """
    teacher = Run(run)
    own = teacher.recipe()
    teacher.check_trained()
    check_teacher(run, Bundle.read(teacher.bundle))
    if own.folds.held_out is None:
        raise RunError(
            f"{run}: has no held-out fold to judge students on, which no teacher may know; train it with "
            "folds.held_out=N"
        )
    if not _evaluated(teacher):
        raise RunError(
            f"{run}: not evaluated on its held-out fold; first: segsmith decide {run}; segsmith evaluate {run}"
        )
    of_student = (recipe or student_recipe(own)).model_copy(
        update={"seed": own.seed, "folds": own.folds, "decide": own.decide, "search": None}
    )
    check_recipe(of_student)
    asked = {"teacher": str(run.resolve()), "fingerprint": teacher.facts()["fingerprint"],
             "images": str(images.resolve()), "sure": sure, "agree": agree}  # fmt: skip
    with held(folder, "folder of students"):
        _begin(folder, asked, of_student)
        done: list[Round] = []
        known = {row.round: row for row in read_ledger(folder)}
        for number in range(1, max(rounds, len(known)) + 1):
            found = known.get(number)
            if found is None:
                say(f"round {number}: {teacher.folder} teaches")
                given = images if number == 1 else Path(teacher.facts()["dataset"])
                found = _round(number, teacher, given, folder / str(number), of_student, sure, agree, watch)
            done.append(found)
            write_text(folder / "ledger.csv", pd.DataFrame([asdict(row) for row in done]).to_csv(index=False))
            if not found.surely_better:
                break
            teacher = Run(folder / str(number) / "run")
    return Taught(teacher.folder, tuple(done))


def student_recipe(teacher: Recipe) -> Recipe:
    """A noisier recipe, in two phases: labelled images and as many taught ones, then labelled ones alone.

    The first is the teacher's first stage with the divergence from soft labels in the place of its cross-entropies and
    focal loss; the second all of the teacher's stages, at FINE times their rates. In all of them images are moved,
    coloured and blanked at least every second time, and the network drops blocks and channels (NOISE).
    """
    first, *_ = stages = teacher.train.stages
    mix = first.mix or {"rest": 1.0}
    source = f"source:{TAUGHT}"
    learning = {
        "mix": {source: sum(mix.values()), **mix},
        "loss": Loss.model_validate(first.loss.model_dump() | {"bce": 0, "cross_entropy": 0, "focal": 0, "kl": 1}),
        "swa": None,
        "snapshots": False,
        "stop_after": None,
    }
    fine = [
        stage.model_copy(
            update={
                "mix": {source: 0.0, **(stage.mix or {"rest": 1.0})},
                "optimizer": stage.optimizer.model_copy(update={"lr": FINE * stage.optimizer.lr}),
            }
        )
        for stage in stages
    ]
    noisy = tuple(map(_noisier, (first.model_copy(update=learning), *fine)))
    made = teacher.model_copy(update={"train": teacher.train.model_copy(update={"stages": noisy})})
    for kinds in (("drop_path", "dropout"), ("dropout",)):
        noise = {kind: max(NOISE[kind], getattr(made.network, kind)) for kind in kinds}
        noisier = made.model_copy(update={"network": made.network.model_copy(update=noise)})
        try:
            check_recipe(noisier)
        except ModelError:  # not every encoder has blocks to skip, nor every architecture channels to drop
            continue
        return noisier
    return made


def read_ledger(folder: Path) -> list[Round]:
    """The rounds that were ended in a folder."""
    file = folder / "ledger.csv"
    if not file.is_file():
        return []
    table = pd.read_csv(file, float_precision="round_trip")
    names = [field.name for field in fields(Round)]
    return [Round(*row) for row in table[names].itertuples(index=False)]


def _round(
    number: int,
    teacher: Run,
    images: Path,
    folder: Path,
    recipe: Recipe,
    sure: float,
    agree: float,
    watch: Callable[[Step], None],
) -> Round:
    dataset, student = folder / "dataset", Run(folder / "run")
    if not dataset.exists():  # it is whole, or not there
        label(teacher.folder, images, dataset, sure=sure, agree=agree)
    looked_at = pd.read_csv(dataset / FILE)
    if not looked_at["kept"].any():
        raise RunError(
            f"{teacher.folder}: is sure of none of the {len(looked_at):,} images, see {dataset / FILE}; set --sure or "
            "--agree lower, in another folder"
        )
    train(dataset, recipe, student.folder, watch=watch)
    if Bundle.read(student.bundle).decision.metric is None:
        decide(student.folder)
    if not _evaluated(student):
        evaluate(student.folder, on="held_out")
    found = compare([teacher.folder, student.folder], metric=recipe.metric_of_pixels, seed=recipe.seed)
    score = {standing.run: standing.score for standing in found.standings}
    first, second = found.standings
    gain = (second.gain, second.gain_low, second.gain_high)
    if first.run == student.folder:
        gain = (-second.gain, -second.gain_high, -second.gain_low)
    assert isinstance(recipe.folds.validation, int)  # as `teach` has checked
    assert recipe.folds.held_out is not None
    return Round(
        number,
        str(teacher.folder.resolve()),
        str(student.folder.resolve()),
        recipe.folds.validation,
        recipe.folds.held_out,
        sure,
        agree,
        len(looked_at),
        int(looked_at["kept"].sum()),
        found.images,
        score[teacher.folder],
        score[student.folder],
        *gain,
    )


def _begin(folder: Path, asked: dict[str, object], recipe: Recipe) -> None:
    """Note what is asked for, or check that it is the same."""
    file, of_student = folder / "teach.json", folder / "student.yaml"
    if not file.is_file():
        if foreign := sorted(path.name for path in folder.iterdir() if path.name not in (".lock", of_student.name)):
            raise RunError(f"{folder}: holds {foreign[0]}, and no students; choose a new folder")
        write_text(of_student, to_yaml(recipe, explained=True))
        write_text(file, json.dumps(asked, indent=2))
        return
    was = {**json.loads(file.read_text()), **flat_options(load_recipe(of_student).model_dump(mode="json"))}
    now = {**asked, **flat_options(recipe.model_dump(mode="json"))}
    if differing := differing_options(was, now):
        raise RunError(
            f"{folder}: holds students of something else:\n{listed(differing)}\nchoose another folder, or say the same"
        )


def _evaluated(run: Run) -> bool:
    file = run.folder / "scores.json"
    return file.is_file() and json.loads(file.read_text())["part"] == "held_out"


def _noisier(stage: Stage) -> Stage:
    augment = stage.augment
    least = {"affine": 0.5, "colour": 0.5, "cutout": 0.5, "cutout_size": 0.25}
    noise: dict[str, float] = {name: max(value, getattr(augment, name)) for name, value in least.items()}
    if not augment.affine:
        noise |= {"shift": 0.06, "scale": 0.1, "rotate": 10.0}  # what was not said of it is rather much
    return stage.model_copy(update={"augment": Augment.model_validate(augment.model_dump() | noise)})
