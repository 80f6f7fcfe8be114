"""The settings of a recipe by section; the docstring under each describes it.

Where the paper gives no value, ours is explained in docs/decisions/0002-where-the-paper-is-silent.md.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Probability = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
#: Of predict.views and a table's view sets: the image as it is.
NO_VIEWS = "none"
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A group of settings: immutable; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_booleans(cls, data):
        for name, value in data.items() if isinstance(data, dict) else ():
            if name in cls.model_fields and cls.model_fields[name].annotation is not bool and _holds_bool(value):
                raise ValueError(f"{name} is {format_value(value)}, but is not a boolean setting")
        return data


class Denoise(Section):
    """Preprocessing of each image: noise estimate (wavelets), denoising of noisy images (non-local means), colours."""

    enabled: bool = True
    """Whether noisy images are denoised."""
    clean_below_sigma: Annotated[float, Field(ge=0, le=255)] = 2.0
    """Images with a smaller estimated sigma, in 8-bit grey levels, are left unchanged."""
    patch_size_px: Annotated[int, Field(ge=2, le=64)] = 5
    """Side of the patches that non-local means compares, in pixels."""
    strength: Annotated[float, Field(gt=0, le=1000)] = 0.8
    """Filter strength h of non-local means, as a multiple of sigma."""
    provide_sigma: bool = True
    """Subtract the expected contribution of noise from patch distances, as scikit-image does when given sigma."""
    colours: Literal["as_is", "reinhard"] = "as_is"
    """'reinhard' matches each image's mean and standard deviation in CIELAB to a well stained reference."""


class Folds(Section):
    """How the images are divided into folds."""

    num_folds: Annotated[int, Field(ge=2, le=1000)] = 3
    """Number of folds, and so of members per architecture: each is trained on all folds but one."""
    by: Literal["patient", "image"] = "patient"
    """'patient' keeps all cells of a patient in one fold; 'image', as in the paper, gives scores too high for new
    patients."""
    seed: Seed = 0
    """Random seed of the shuffle. An existing folds.csv is used regardless of the seed."""
    hold_out_external: bool = False
    """Whether external images are assigned to folds as well, as in the paper: each is held out once, takes part in the
    choice of an epoch, and has out-of-fold predictions. Scores are of evaluated images either way."""


class Models(Section):
    """The networks, their pretrained weights and the head."""

    architectures: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of networks; "nonet backbones" lists them."""
    weights: Literal["pretrained", "none"] = "pretrained"
    """'none' is random initialisation."""
    weight_files: dict[str, str] = {}
    """Local files with pretrained weights by architecture, used instead of downloads."""
    image_size_px: Annotated[int, Field(ge=16, le=4096)] | None = None
    """Side of the square input of the networks, in pixels. Default: each architecture's own size."""
    centre: Fraction | dict[str, Fraction] = 1.0
    """Side of the central square that the networks see, as a fraction of the frame's shorter side; one value, or one
    per architecture."""
    head_widths: Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], Field(max_length=32)] = (512, 256, 128)
    """Widths of the Linear-ReLU-Dropout blocks between the features and the final linear layer. The paper's "4 blocks"
    may be these three and that layer, or four before it: [512, 256, 128, 64]."""
    head_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout probability of each of these blocks."""
    refit_head: bool = False
    """After training, fit a linear head to the features of the training images with equal class weights (Kang et al.
    2020)."""
    head_stages: Annotated[int, Field(ge=0, le=12)] = 0
    """What the refitted head gets: 0, the features of the last layer; otherwise the means over the image of what so
    many of the network's last stages put out, or blocks of a vision transformer. Rejection and the search for similar
    cells use them, too."""

    @field_validator("architectures")
    @classmethod
    def _unique_architectures(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError(f"an architecture is named twice: {', '.join(value)}")
        return value

    @model_validator(mode="after")
    def _stages_are_of_a_refitted_head(self) -> "Models":
        if self.head_stages and not self.refit_head:
            raise ValueError("head_stages is only for a refitted head: set refit_head = true as well, or leave it out")
        return self

    @model_validator(mode="after")
    def _known_architectures(self) -> "Models":
        for setting in ("centre", "weight_files"):
            value = getattr(self, setting)
            names = value if isinstance(value, dict) else ()
            if unknown := [name for name in names if name not in self.architectures]:
                raise ValueError(f"{setting} names {unknown[0]}; the architectures are {', '.join(self.architectures)}")
        return self


class Sampling(Section):
    """How training images are sampled."""

    sampler: str = "effective_number"
    """Key of nonet's SAMPLERS: 'effective_number' samples rare classes about as often as common ones; 'uniform' uses
    each image once per epoch."""
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    """beta of the effective number (1 - beta^n) / (1 - beta) of n images: 0 weights every image equally, close to 1
    every class (Cui et al. 2019)."""
    external_weight: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """Sampling weight of an external image relative to an evaluated image of its class."""


class Loss(Section):
    """The training loss."""

    name: str = "focal_sigmoid"
    """Key of nonet's LOSSES: 'focal_sigmoid' is focal loss as published (one-vs-rest); 'focal_softmax' its multi-class
    form; or 'cross_entropy'."""
    alpha: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Focal loss: weight of the positive class (sigmoid form: 1 - alpha for the negative). No effect on
    cross_entropy."""
    gamma: Annotated[float, Field(ge=0, le=100)] = 2.0
    """Focusing parameter of focal loss; 0 is (weighted) cross-entropy. No effect on cross_entropy."""


class Optimiser(Section):
    """AdamW with a cosine schedule from the first learning rate to the last."""

    learning_rate_first: Annotated[float, Field(gt=0, le=1000)] = 5e-4
    """Learning rate of the first step, or at the end of the warm-up."""
    learning_rate_last: Annotated[float, Field(ge=0)] = 5e-6
    """Learning rate of the last step of the last epoch."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Decay rates of AdamW's running averages of gradient and squared gradient."""
    warmup_epochs: Annotated[float, Field(ge=0, le=100_000)] = 0.0
    """Length of the linear warm-up from 0, in epochs, before the cosine schedule. The paper has none."""
    weight_decay: Annotated[float, Field(ge=0, le=1000)] = 0.01
    """Decoupled weight decay, applied to every parameter."""

    @model_validator(mode="after")
    def _learning_rate_falls(self):
        if self.learning_rate_last > self.learning_rate_first:
            raise ValueError(
                f"learning_rate_last ({self.learning_rate_last}) is larger than "
                f"learning_rate_first ({self.learning_rate_first})"
            )
        return self


class Train(Section):
    """Length of training, batches, and which weights are used."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 60
    """Maximum number of epochs, which the cosine schedule spans. An epoch samples as many images as the training set
    has."""
    batch_size: Annotated[int, Field(ge=2, le=65_536)] = 32
    """Images per step, over all devices together."""
    patience_epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Stop if the held-out macro-F1 of the averaged (EMA) weights has not improved for this many epochs.
    No effect with keep = "last", which trains every epoch."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay per step of the exponential moving average (EMA) of the weights, which is evaluated and used. 0 uses the
    raw weights."""
    ema_warmup: bool = False
    """Limit the decay to (1 + step) / (10 + step), so that the average forgets the random head in short trainings."""
    keep: Literal["best", "last"] = "best"
    """'best' uses the epoch with the best held-out macro-F1, which makes out-of-fold scores slightly too high; 'last'
    does not."""
    max_restarts: Annotated[int, Field(ge=0)] = 2
    """How many times a member is trained again with another seed after its network died (diverged or became constant).
    A member that stays dead gets weight 0 in the ensemble."""
    seed: Seed = 0
    """Random seed of training: head, sampling, augmentation, dropout."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """'auto' is bf16-mixed on a GPU that supports it, otherwise 32-true."""
    checkpoint_seconds: Annotated[float, Field(ge=0, le=1e6)] = 60.0
    """Interval of checkpoints, in seconds: the most work that a training loses that is killed. 0: after every step. One
    that is asked to stop, by Ctrl-C or a scheduler, loses none."""


class Augment(Section):
    """Augmentation of training batches, applied to whole batches on the device."""

    mixup_probability: Probability = 0.15
    """Probability of mixup, per batch."""
    mixup_alpha: Annotated[float, Field(gt=0, le=1e6)] = 0.2
    """alpha of the Beta(alpha, alpha) distribution of the mixing weight."""
    cutmix_probability: Probability = 0.15
    """Probability of CutMix, per batch; never together with mixup."""
    cutmix_alpha: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """alpha of the Beta(alpha, alpha) distribution of the share of the area that stays."""
    flip_probability: Probability = 0.5
    """Probability of a horizontal and, independently, of a vertical flip, per image."""
    rotation_probability: Probability = 0.5
    """Probability of a rotation, per image."""
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 180.0
    """Maximum rotation, in degrees: uniform from -rotation_deg to +rotation_deg."""
    noise_probability: Probability = 0.2
    """Probability of Gaussian noise, per image."""
    noise_sigma: Annotated[float, Field(ge=0, le=255)] = 10.0
    """Maximum standard deviation of the noise, in 8-bit grey levels."""
    blur_probability: Probability = 0.2
    """Probability of a Gaussian blur, per image."""
    blur_sigma_px: Annotated[float, Field(gt=0, le=100)] = 1.5
    """Maximum sigma of the blur, in pixels of the network's input."""
    motion_blur_probability: Probability = 0.1
    """Probability of a motion blur, per image."""
    motion_blur_px: Annotated[int, Field(ge=3, le=501)] = 7
    """Length of the motion blur, in pixels of the network's input; odd."""
    brightness: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Brightness factor: uniform from 1 - brightness to 1 + brightness, per image."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Contrast factor about the image's mean: uniform from 1 - contrast to 1 + contrast."""
    stain_probability: Probability = 0.0
    """Probability of changing the strength of the blue and the red dye independently, per image."""
    stain_gain: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Factor of each dye's optical density: uniform from 1 - stain_gain to 1 + stain_gain."""

    @model_validator(mode="after")
    def _mixing_and_blur(self):
        if self.mixup_probability + self.cutmix_probability > 1:
            raise ValueError("mixup_probability and cutmix_probability together exceed 1")
        if self.motion_blur_px % 2 == 0:
            raise ValueError(f"motion_blur_px must be odd, not {self.motion_blur_px}")
        return self


class Predict(Section):
    """Test-time augmentation (TTA): the views that logits are averaged over."""

    views: Literal["none", "dihedral", "random"] = "dihedral"
    """'dihedral' is the 8 flips and quarter turns, 'random' the paper's random flips and rotations, 'none' the image
    alone."""
    num_random_views: Annotated[int, Field(ge=1, le=1024)] = 8
    """Number of views per image with views = 'random', including the unchanged image."""
    seed: Seed = 0
    """Random seed of the random views."""


class Calibrate(Section):
    """Calibration and rejection, fitted on out-of-fold predictions after training; "nonet calibrate" fits them
    again."""

    temperature: bool = True
    """Fit a temperature, the divisor of the logits with the highest likelihood, and how it changes with the entropy of
    a cell's probabilities. It does not change predicted classes."""
    prior_strength: Annotated[float, Field(ge=-1, le=1)] | Literal["choose"] = 0.0
    """Prior correction (label shift) from the class frequencies seen in training: 1 towards those of the evaluated
    images, -1 towards equal ones, 0 none; 'choose' takes the best out-of-fold macro-F1. It changes predicted
    classes."""
    coverage: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Target share of known cells whose prediction set contains the true class. A rejected cell has no set and counts
    as a miss, so the other sets are a little larger."""
    min_confidence: Probability = 0.5
    """Cells whose most probable class has a lower probability are left unidentified. 0: none."""
    false_alarm: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Target share of known cells that are rejected as an unknown cell type; a larger share finds more unknown cells.
    0: reject none."""
    require_nucleus: bool = True
    """Leave images unidentified in which nothing could be a nucleus: empty fields, blank frames, red cells only.
    No effect if more than 1 % of the known cells show none, as in fluorescence images or drawings."""


def format_value(value: object) -> str:
    """Return a value for a message, shortened if it is long."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or a number of too many digits
        return "…"
    return text if len(text) <= 200 else f"{text[:200]}…"


def _holds_bool(value: object) -> bool:
    return isinstance(value, bool) or (isinstance(value, (list, tuple)) and any(isinstance(v, bool) for v in value))
