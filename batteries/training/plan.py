"""Plan of a training run: everything except the data that determines its result."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from batteries.cell.manifest import Sha256, Text
from batteries.cell.spec import CellSpec
from batteries.geometry.attractor import SIMPLEX
from batteries.io.canonical_json import GrownDocument
from batteries.training import schedules
from batteries.training.schedules import Schedule

Optimiser = Literal["adam", "adamw", "sgd", "muon", "lbfgs"]
Hand = Literal["loss", "measured", "penalty"]
# Rates that a command without one stands for, also in published manifests. docs/decisions/0034-optimisers.md, 0042-plans.md
RATES: dict[str, float] = {"adam": 1e-3, "adamw": 1e-3, "sgd": 0.3, "muon": 0.02, "lbfgs": 1.0}
CLIPS: dict[str, float] = {"adam": 1.0, "adamw": 1.0, "sgd": 1.0, "muon": 1.0, "lbfgs": 0.0}  # likewise
BOOSTS: dict[str, float] = {"loss": 0.5, "measured": 0.0, "penalty": 10.0}  # likewise; that of the penalty is ours
CHOICES: tuple[tuple[str, str, dict[str, float]], ...] = (
    ("rate", "optimiser", RATES),
    ("clip", "optimiser", CLIPS),
    ("boost", "hand", BOOSTS),
)  # field, field that its default depends on, and the defaults
DECAY = 0.01  # decoupled weight decay of AdamW
MOMENTUM = 0.9  # of SGD
MAX_SEED = 2**64 - 1  # largest seed of torch's generators
MAX_STEPS = 2**53  # of a run: numbers up to here are exact, and no run ends with as many
MAX_PIXELS = 2**28  # of the images of a step: 3 GB in float32, and many times that in a step
ROUNDS = ("adaptive_clip", "later_boost", "fixed_readout")  # docs/decisions/0048-narrow-readouts.md
DISTIL = 0.5  # share of a teacher in the target; ours
# A step of L-BFGS. docs/decisions/0042-plans.md
HISTORY = 10  # pairs of steps and changes of the gradient that the curvature is estimated from
ITERATIONS = 20  # moves of a step at most, each along a line
EVALUATIONS = 26  # gradients of a step at most


class Plan(GrownDocument):
    """Settings that determine the result of a run, together with the data.

    Attributes:
        size: Side of the training images, in pixels.
        steps: Optimiser steps.
        batch: Images per step.
        rate: Peak learning rate; by default that of the optimiser in :data:`RATES`.
        schedule: Schedule of the learning rate: :func:`batteries.training.schedules.share`.
        clip: Largest norm of the gradient, by default 1; 0 leaves it as it is, as ``lbfgs`` must.
        seed: Seed of weights, data and draws, below 2^64.
        boost: Strength of the soft hand, by default that of its form: 0.5 for ``loss``, which 0 turns off; the weight 10 for
            ``penalty``; 0 for ``measured``.
        sigma: Width of the soft hand's Gaussian.
        triage_step: Step at which the band is checked; a run in the wrong band stops there.
        reading_every: Steps between readings of the trajectory.
        checkpoint_every: Steps between checkpoints.
        start: Digest of the cell whose weights the run starts from; by default a seeded untrained cell.
        optimiser: ``adam``, ``adamw`` (decoupled weight decay 0.01), ``sgd`` (Nesterov momentum 0.9), ``muon`` (orthogonalised
            updates of the matrices, and Adam of the same rate for biases, norms and convolutions), or ``lbfgs`` (L-BFGS with
            a line search: up to 26 gradients a step, all on the step's images; a ``constant`` rate of 1 suits).
        momentum: Classical momentum of ``sgd`` in place of Nesterov's, from 0, plain SGD, to below 1.
        hand: Form of the soft hand, with prox a Gaussian of the relative distance of the average CV from the exact attractor.
            ``loss``: the loss is (1 + boost * prox) * mse, without a gradient through prox. ``measured``: the average is
            taken, and the loss is mse. ``penalty``: the loss is mse + boost * (CV / exact - 1)^2, with the gradient through
            the CV of the first patch's rows.
        fixed_batch: Whether every step sees the images of the first: full-batch training.
        adaptive_clip: Whether the largest norm is the step's error where that is above ``clip``: max(error, clip).
        later_boost: Strength of the soft hand from the middle of the run on, in place of ``boost``.
        fixed_readout: Whether the matrices between M and the decoder keep their start: the control of a learned readout.
        teacher: Digest of a cell whose reconstructions are part of what the cell learns to make of an image.
        distil: Share of the teacher's reconstruction in that target, by default 0.5; the rest is the image itself.

    >>> import batteries
    >>> plan = batteries.Plan(spec=batteries.CellSpec.preset("high"), size=64, steps=4000, rate=3e-3, schedule="cosine")
    >>> plan.batch, plan.rate_at(0)
    (128, 0.003)
    >>> batteries.Plan(spec=plan.spec, size=64, steps=1000, optimiser="sgd", momentum=0.0, rate=1e-2).describe()[0]
    'SGD 0.01, no momentum, no weight decay, gradient norm at most 1'
    """

    ADDED: ClassVar[tuple[str, ...]] = ("optimiser", "momentum", "hand", "fixed_batch", "teacher", "distil", *ROUNDS)

    spec: CellSpec
    size: Annotated[int, Field(ge=1, le=4096)]
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)]
    batch: Annotated[int, Field(ge=1)] = 128
    rate: Annotated[float, Field(gt=0)] = 1e-3
    schedule: Schedule = "onecycle"
    clip: Annotated[float, Field(ge=0)] = 1.0
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    boost: Annotated[float, Field(ge=0)] = 0.5
    sigma: Annotated[float, Field(gt=0)] = 0.15
    triage_step: Annotated[int, Field(ge=1)] = 1000
    reading_every: Annotated[int, Field(ge=1)] = 250
    checkpoint_every: Annotated[int, Field(ge=1)] = 250
    start: Sha256 | None = None
    optimiser: Optimiser = "adam"
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    hand: Hand = "loss"
    fixed_batch: bool = False
    teacher: Sha256 | None = None
    distil: Annotated[float, Field(ge=0, le=1)] = 0.0
    adaptive_clip: bool = False
    later_boost: Annotated[float, Field(ge=0)] | None = None
    fixed_readout: bool = False

    @model_validator(mode="before")
    @classmethod
    def _choose_defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        chosen = dict(data)
        if chosen.get("distil") is None:
            chosen["distil"] = DISTIL if chosen.get("teacher") is not None else 0.0
        for field, by, defaults in CHOICES:
            if chosen.get(field) is None:
                kind = chosen.get(by, cls.model_fields[by].default)
                chosen.pop(field, None)
                if isinstance(kind, str) and kind in defaults:  # else it is what is refused
                    chosen[field] = defaults[kind]
        return chosen

    @model_validator(mode="after")
    def _settings_agree(self) -> Plan:
        wrong = []
        if self.momentum is not None and self.optimiser != "sgd":
            wrong.append(f"momentum is a setting of sgd, not of {self.optimiser}")
        if self.optimiser == "lbfgs" and self.clip:
            wrong.append("clip must be 0 for lbfgs, which compares the gradient with the loss")
        if self.hand == "measured" and self.boost:
            wrong.append("boost must be 0 for the hand measured, which leaves the loss as it is")
        if self.hand == "penalty" and not self.boost:
            wrong.append("boost must be above 0 for the hand penalty; the hand measured has no effect on the loss")
        if self.hand != "loss" and self.spec.D < SIMPLEX:
            wrong.append(f"the hand {self.hand} needs a CV, and so a spec with D of at least {SIMPLEX}, not {self.spec.D}")
        if self.adaptive_clip and not self.clip:
            wrong.append("clip must be above 0 for adaptive_clip, which raises it")
        if self.later_boost is not None and (self.hand == "measured" or not self.boost):
            wrong.append("later_boost follows a boost above 0, of the hand loss or penalty")
        if self.fixed_readout and self.spec.readout in ("svd", "none"):
            wrong.append(f"fixed_readout needs a readout with matrices, not {self.spec.readout}")
        if (self.teacher is None) != (self.distil == 0):
            wrong.append("teacher and distil must be given together, with distil above 0")
        wrong += too_many_pixels(self.batch, self.size)
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    @property
    def reads_cv(self) -> bool:
        """True if the soft hand reads a CV at every step."""
        return self.spec.D >= SIMPLEX and (self.hand != "loss" or self.boost > 0)

    def boost_at(self, step: int) -> float:
        """Return the strength of the soft hand in a step, counted from 0."""
        return self.boost if self.later_boost is None or 2 * step < self.steps else self.later_boost

    def clip_at(self, error: float) -> float:
        """Return the largest norm of the gradient of a step with this error; 0 for any."""
        return max(error, self.clip) if self.adaptive_clip else self.clip

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return self.rate * schedules.share(self.schedule, step, self.steps)

    def describe(self) -> tuple[Text, Text, Text]:
        """Describe optimiser, schedule and soft hand for the manifest."""
        clip = f"gradient norm at most {self._clip_words()}" if self.clip else "gradient not clipped"
        batch = ", every step on the images of the first" if self.fixed_batch else ""
        start = f", started from the cell sha256:{self.start}" if self.start else ""
        teacher = f", {self.distil:g} of the target by the cell sha256:{self.teacher}" if self.teacher else ""
        fixed = ", readout as at the start" if self.fixed_readout else ""
        optimiser = f"{self._optimiser_words()}, {clip}{batch}{fixed}{start}{teacher}"
        return optimiser, self.schedule, self._hand_words()

    def _clip_words(self) -> str:
        return f"max(error, {self.clip:g})" if self.adaptive_clip else f"{self.clip:g}"

    def _optimiser_words(self) -> str:
        rate = f"{self.rate:g}"
        match self.optimiser:
            case "adam":
                return f"Adam {rate}, no weight decay"
            case "adamw":
                return f"AdamW {rate}, weight decay {DECAY:g}"
            case "sgd":
                return f"SGD {rate}, {self._momentum_words()}, no weight decay"
            case "muon":
                return f"Muon {rate} on matrices, Adam {rate} on the rest, no weight decay"
            case "lbfgs":
                return (
                    f"LBFGS {rate}, history {HISTORY}, at most {ITERATIONS} moves and {EVALUATIONS} gradients a step, "
                    "no weight decay"
                )

    def _momentum_words(self) -> str:
        if self.momentum is None:
            return f"Nesterov momentum {MOMENTUM:g}"
        return f"momentum {self.momentum:g}" if self.momentum else "no momentum"

    def _hand_words(self) -> str:
        later = "" if self.later_boost is None else f", {self.later_boost:g} from the middle on"
        match self.hand:
            case "loss":
                words = f"boost {self.boost:g}{later}, sigma {self.sigma:g}, target exact sphere CV"
                return words if self.boost else "off"
            case "measured":
                return "measured, loss unchanged"
            case "penalty":
                words = f"penalty {self.boost:g} * (CV / exact sphere CV - 1)^2 on the rows of the first patch"
                return f"{words}{later}"


def too_many_pixels(batch: int, size: int) -> list[str]:
    """Return the fault of a step whose images no memory holds, in words; none if they fit.

    Args:
        batch: Images per step.
        size: Side of the images, in pixels.
    """
    if batch * size**2 <= MAX_PIXELS:
        return []
    return [f"the images of a step must have at most {MAX_PIXELS} pixels, not {batch} x {size} x {size}"]
