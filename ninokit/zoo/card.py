"""The card of a pretrained nowcaster: what it is, what it was trained on and how, and what it was measured to save."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, field_validator

from ninokit.errors import ZooError
from ninokit.zoo.http import URL_PATTERN

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from ninokit.benchmarks.evaluation.results import ArmResult, TaskResult
    from ninokit.benchmarks.evaluation.savings import StepsSaved
    from ninokit.benchmarks.summary import Cost, Row

__all__ = [
    "CARD_FILE",
    "Card",
    "Measurement",
    "Run",
    "SavedSteps",
    "SeedRuns",
    "TaskSaving",
    "TrainingRun",
    "TrainingTask",
    "WeightsFile",
    "add_savings",
    "format_card",
    "parse_card",
    "parse_card_text",
    "read_card",
    "write_card",
]

CARD_FILE = "card.yaml"

_brief = reprlib.Repr()
_brief.maxstring = 200

Text = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Share = Annotated[float, Field(le=1, allow_inf_nan=False)]
Argument = int | float | bool | str


class _Part(BaseModel):
    """Fields of exactly these names and types; nothing is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TrainingTask(_Part):
    """A task whose trajectories a nowcaster was trained on.

    Args:
        task: the name of a registered task, or the publisher's.
        trajectories: how many networks were trained; None if that is not known.
        steps: optimizer steps of each; None if that is not known.
    """

    task: Text
    trajectories: PositiveInt | None = None
    steps: PositiveInt | None = None


class TrainingRun(_Part):
    """How a nowcaster was trained. What is not known is None.

    Args:
        code: the repository that it was trained with, or that published it.
        commit: of that repository.
        command: the command line.
        recipe: the committed configuration, a path in the repository.
        config: all settings as they were resolved.
        hardware: processor or GPU, and how many threads.
        seconds: how long it took, above 0.
    """

    code: Text | None = None
    commit: Text | None = None
    command: Text | None = None
    recipe: Text | None = None
    config: dict[str, Any] = {}
    hardware: Text | None = None
    seconds: PositiveFloat | None = None


class WeightsFile(_Part):
    """The file of an entry's weights.

    Args:
        file: its name in the entry's folder, or in a mirror: ``.safetensors``, or ``.pt`` for a checkpoint in the
            published form, which is fetched and converted.
        sha256: its hash, 64 hexadecimal digits.
        size: in bytes, at least 1.
        urls: where it can be fetched from, tried in order; none if it lies in the folder. They are ``https``.
    """

    file: Annotated[str, Field(pattern=r"^\w[\w.-]*\.(safetensors|pt)$")]
    sha256: Sha256
    size: PositiveInt
    urls: list[Annotated[str, Field(pattern=URL_PATTERN)]] = []


class SavedSteps(_Part):
    """What a nowcaster saves of a rival's steps, see `ninokit.benchmarks.evaluation.savings.StepsSaved`.

    Args:
        share: of the steps that the rival takes to the loss that nowcasting ends with, at most 1; negative if these
            are fewer.
        low: the lower end of the interval of 95 % over the seeds; no claim if 0 is within.
        high: the upper end.
        bound: ``≥`` if the rival never reached that loss, ``≤`` if it had it from the start, else ``=``.
    """

    share: Share
    low: Share
    high: Share
    bound: Literal["=", "≥", "≤"]

    @classmethod
    def of(cls, saved: StepsSaved) -> SavedSteps:
        """From what an evaluation found.

        Args:
            saved: by the nowcaster's arm.

        Returns:
            The same without the single seeds.
        """
        return cls(share=saved.share, low=saved.low, high=saved.high, bound=saved.bound)


class TaskSaving(_Part):
    """What a nowcaster on AdamW saves on one task against rivals tuned alike: unmeasured means no row, never a guess.

    Args:
        task: the name of the task.
        distribution: ``in`` if the nowcaster was trained on this task, else ``out``.
        steps: optimizer steps of a run.
        seeds: how many runs of each arm were compared.
        period: optimizer steps between two nowcasts, tuned.
        lr: learning rate, tuned.
        rival: the best arm without nowcasting.
        against_rival: what is saved of its steps.
        against_adamw: what is saved of the steps of AdamW at a constant rate.
        commit: of ninokit's code; None if it is not known.
        hardware: processor or GPU, and how many threads.
    """

    task: Text
    distribution: Literal["in", "out"]
    steps: PositiveInt
    seeds: PositiveInt
    period: PositiveInt
    lr: PositiveFloat
    rival: Text
    against_rival: SavedSteps
    against_adamw: SavedSteps
    commit: Text | None = None
    hardware: Text

    @classmethod
    def of(cls, result: TaskResult, card: Card) -> TaskSaving:
        """From what ``ninokit evaluate`` found.

        Args:
            result: of a task, with an arm of the card's name.
            card: of the nowcaster.

        Returns:
            The row of the card.
        """
        from ninokit.benchmarks.evaluation.results import REFERENCE
        from ninokit.benchmarks.report import describe_hardware

        arm = result.arm(card.name)
        return cls(
            task=result.task,
            distribution=card.distribution_of(result.task),
            steps=result.steps,
            seeds=len(result.seeds),
            period=_period(result, arm),
            lr=arm.tuned.setting.lr,
            rival=result.rival,
            against_rival=SavedSteps.of(result.saved(card.name, result.rival)),
            against_adamw=SavedSteps.of(result.saved(card.name, REFERENCE)),
            commit=result.environment["commit"],
            hardware=describe_hardware(result.environment),
        )

    @property
    def question(self) -> tuple[str, int, str]:
        """What was asked: the same question again has a newer answer."""
        return self.task, self.steps, self.rival


class Run(_Part):
    """What one training took.

    Args:
        steps: optimizer steps to the target, or all of them if it was not reached.
        seconds: of training, likewise.
        reached: whether the target was reached.
    """

    steps: PositiveInt
    seconds: PositiveFloat
    reached: bool

    @property
    def costs(self) -> tuple[Cost, Cost]:
        """Steps and seconds."""
        from ninokit.benchmarks.summary import Cost

        return Cost(self.steps, self.reached), Cost(self.seconds, self.reached)


class SeedRuns(_Part):
    """The trainings of one seed.

    Args:
        seed: at least 0.
        baseline: without nowcasting.
        nowcasting: with it.
        others: other ways to train, to compare with, each by its name: the optimizer at a tuned learning rate, or
            another nowcaster.
    """

    seed: Annotated[int, Field(ge=0)]
    baseline: Run
    nowcasting: Run
    others: dict[Text, Run] = {}


class Measurement(_Part):
    """What a nowcaster saved on one task by an older protocol, which `TaskSaving` replaces.

    It counts to the first evaluation that reaches a target, at one untuned rate and at the trained weights.

    Args:
        task: the name of the task.
        distribution: ``in`` if the nowcaster was trained on this task, else ``out``.
        metric: name of the score.
        target: score to reach.
        baseline: the optimizer and its settings.
        period: optimizer steps between two nowcasts.
        commit: of ninokit's code; None if it is not known.
        hardware: processor or GPU, and how many threads.
        seeds: at least one.
        note: what to know when reading the figures.
    """

    task: Text
    distribution: Literal["in", "out"]
    metric: Text
    target: PositiveFloat
    baseline: Text
    period: PositiveInt
    commit: Text | None = None
    hardware: Text
    seeds: Annotated[list[SeedRuns], Field(min_length=1)]
    note: Text | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        """Costs and savings, a row a seed, and their median if there are several."""
        return self._rows([seed.nowcasting for seed in self.seeds])

    def rows_of(self, other: str) -> tuple[Row, ...]:
        """Costs and savings of another way to train, in the place of nowcasting.

        Args:
            other: its name; every seed must have it.

        Returns:
            As `rows`.
        """
        return self._rows([seed.others[other] for seed in self.seeds])

    def _rows(self, runs: Sequence[Run]) -> tuple[Row, ...]:
        from ninokit.benchmarks.summary import compare_costs, with_median

        pairs = zip(self.seeds, runs, strict=True)
        return with_median([compare_costs(str(seed.seed), seed.baseline.costs, run.costs) for seed, run in pairs])


class Card(_Part):
    """What is known of a pretrained nowcaster.

    Args:
        name: ``family_size.tag``, such as ``nino_h32.v1``.
        description: one line for lists.
        family: the registered nowcaster family that it is of.
        arguments: what that family is built with.
        context: past states that it looks at.
        period: optimizer steps between two nowcasts that it was trained for.
        max_horizon: how far it looks ahead, in units of the time between two states.
        positions: Laplacian vectors a neuron that it reads; None if it reads none.
        licence: an SPDX identifier.
        trained_on: the tasks of the training trajectories, at least one.
        training: how it was trained.
        default: whether it is meant by its name without the tag, where there are several tags.
        references: papers and pages.
        savings: measured savings, in and out of the training distribution.
        measurements: those that an older protocol measured.
        known_failures: where it is known to fail, a sentence each.
        weights: the file of the weights; `write_entry` fills it in.

    Example:
        >>> card = Card(
        ...     name="wnn_h32.mine", description="a small one", family="wnn", arguments={"hidden": 32}, context=5,
        ...     period=100, max_horizon=40, positions=None, licence="MIT",
        ...     trained_on=[TrainingTask(task="digits_mlp", trajectories=8, steps=2000)], training=TrainingRun(),
        ... )
        >>> card.model, card.tag
        ('wnn_h32', 'mine')
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)+\.[a-z0-9_]+$")]
    description: Text
    family: Text
    arguments: dict[str, Argument]
    context: PositiveInt
    period: PositiveInt
    max_horizon: PositiveInt
    positions: PositiveInt | None
    licence: Text
    trained_on: Annotated[list[TrainingTask], Field(min_length=1)]
    training: TrainingRun
    default: bool = False
    references: list[Text] = []
    savings: list[TaskSaving] = []
    measurements: list[Measurement] = []
    known_failures: list[Text] = []
    weights: WeightsFile | None = None

    @field_validator("arguments")
    @classmethod
    def _finite(cls, arguments: dict[str, Argument]) -> dict[str, Argument]:
        for name, value in arguments.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"expected finite numbers, {name} is not")
        return arguments

    @property
    def model(self) -> str:
        """The name without its tag."""
        return self.name.partition(".")[0]

    @property
    def tag(self) -> str:
        """What comes after the point in the name."""
        return self.name.partition(".")[2]

    def distribution_of(self, task: str) -> Literal["in", "out"]:
        """Whether the nowcaster was trained on a task.

        Args:
            task: its name, in any spelling: the publisher's ``FM-16`` is ``fm16``.

        Returns:
            ``in`` if it was, else ``out``.
        """
        return "in" if _letters(task) in {_letters(known.task) for known in self.trained_on} else "out"

    def with_savings(self, measured: Sequence[TaskSaving]) -> Card:
        """The card with what was measured since.

        Args:
            measured: the new rows.

        Returns:
            The card with them at the end, in the place of earlier ones of the same task, steps and rival.
        """
        new = {row.question for row in measured}
        kept = [row for row in self.savings if row.question not in new]
        return self.model_copy(update={"savings": [*kept, *measured]})


def read_card(path: Path) -> Card:
    """Read and check a card.

    Args:
        path: a YAML file.

    Returns:
        The card.

    Raises:
        ZooError: if it can't be read, or naming each field at fault, what was expected and what came.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ZooError(f"{path}: can't be read ({error.strerror}); an entry of the zoo has a {CARD_FILE}") from error
    return parse_card_text(text, str(path))


def parse_card_text(text: str | bytes, origin: str) -> Card:
    """Check the text of a card.

    Args:
        text: YAML, in UTF-8.
        origin: what to call it in errors.

    Returns:
        The card.

    Raises:
        ZooError: if it is no YAML, or see `parse_card`.
    """
    try:
        content = yaml.load(text, _Loader)
    # YAML's own constructors raise anything, as for a date that is none; RecursionError is for brackets without end.
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise ZooError(f"{origin}: is not YAML: {error}") from error
    return parse_card(content, origin)


class _Loader(yaml.SafeLoader):
    """YAML without aliases, of which a few lines can stand for more than memory holds."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "a card has no aliases", self.peek_event().start_mark)
        return super().compose_node(parent, index)


def parse_card(content: object, origin: str) -> Card:
    """Check the content of a card.

    Args:
        content: plain values.
        origin: what to call it in errors.

    Returns:
        The card.

    Raises:
        ZooError: naming each field at fault, what was expected and what came.
    """
    if not isinstance(content, Mapping):
        raise ZooError(f"{origin}: expected the fields of a card, got {type(content).__name__}")
    try:
        return Card.model_validate(dict(content))
    except ValidationError as error:
        raise ZooError(f"{origin}: {_faults(error.errors())}") from error


def write_card(card: Card, path: Path) -> None:
    """Write a card as YAML.

    Args:
        card: any.
        path: the file; its folder must exist.

    Raises:
        ZooError: see `format_card`.
    """
    path.write_text(format_card(card), encoding="utf-8", newline="\n")


def format_card(card: Card) -> str:
    """A card as YAML, fields with nothing in them left out.

    Args:
        card: any.

    Returns:
        The content of a ``card.yaml``.

    Raises:
        ZooError: if a text would be read back as another one.
    """
    content = card.model_dump(mode="json", exclude_defaults=True)
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
    if yaml.load(text, _Loader) != content:  # PyYAML folds the line breaks that are none in ASCII
        raise ZooError(f"card of {card.name}: a text does not survive YAML; leave out its control characters")
    return text


def add_savings(path: Path, measured: Sequence[TaskSaving]) -> Card:
    """Add what was measured to a card's file, replacing it in one go.

    Args:
        path: of the card.
        measured: see `Card.with_savings`.

    Returns:
        The card as written.

    Raises:
        ZooError: if there is no card, or it is malformed.
    """
    from ninokit.benchmarks.report import write_text

    card = read_card(path).with_savings(measured)
    write_text(path, format_card(card))
    return card


def _period(result: TaskResult, arm: ArmResult) -> int:
    """In steps, as `ninokit.benchmarks.arms.nowcasting_arm` has it, whose option is a multiple of the task's."""
    multiple = arm.tuned.setting.option
    assert multiple is not None  # every arm of a nowcaster has one
    return max(1, round(multiple * result.period))


def _letters(name: str) -> str:
    """What is left of a name in any spelling."""
    return "".join(filter(str.isalnum, name)).casefold()


def _faults(errors: Iterable[ErrorDetails]) -> str:
    return "; ".join(_fault(error) for error in errors)


def _fault(error: ErrorDetails) -> str:
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{where}: this field is missing"
    if error["type"] == "extra_forbidden":
        return f"{where}: there is no such field"
    expected = error["msg"].replace("Input should be", "expected").removeprefix("Value error, ")
    return f"{where}: {expected}, got {_brief.repr(error['input'])}"
