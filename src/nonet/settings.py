"""The settings of a recipe, section by section; the docstring under each says what it does.

Where the paper is silent, the value is recorded in docs/decisions/0002-where-the-paper-is-silent.md.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Probability = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(gt=0, le=1)]
#: Of predict.views and a table's view sets: the image as it is.
NO_VIEWS = "none"
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A group of settings: immutable, and an unknown key is an error rather than ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _true_is_not_1(cls, data):
        for name, value in data.items() if isinstance(data, dict) else ():
            if name in cls.model_fields and cls.model_fields[name].annotation is not bool and _holds_bool(value):
                raise ValueError(f"{name} is {shown(value)}, and is not a setting that is true or false")
        return data


class Denoise(Section):
    """What is done to each image first: wavelet estimate of sigma, non-local means where it is not clean; colours."""

    enabled: bool = True
    """False leaves noise as it is."""
    clean_below_sigma: Annotated[float, Field(ge=0, le=255)] = 2.0
    """Images with a smaller estimated sigma (8-bit grey levels) are left alone, bit for bit."""
    patch_size_px: Annotated[int, Field(ge=2, le=64)] = 5
    """Side of the patches that non-local means compares; of one pixel they would be too small to compare."""
    strength: Annotated[float, Field(gt=0, le=1000)] = 0.8
    """h, the cut-off in grey levels, as a multiple of sigma."""
    provide_sigma: bool = True
    """Subtract the noise's share from patch distances, as scikit-image does when given sigma."""
    colours: Literal["as_is", "reinhard"] = "as_is"
    """'reinhard' then gives each image the mean and spread of colours of a well stained reference, in CIELAB."""


class Folds(Section):
    """How the images are divided into held-out parts."""

    num_folds: Annotated[int, Field(ge=2, le=1000)] = 3
    """Members per architecture: each is trained on all folds but one."""
    by: Literal["patient", "image"] = "patient"
    """'patient' keeps a patient's cells together; 'image', as in the paper, looks better than the next patient."""
    seed: Seed = 0
    """Seed of the shuffle. A folds.csv edited by hand is obeyed whatever the seed."""
    hold_out_external: bool = False
    """True divides images that are not evaluated as well, as in the paper: each is held out once, counts where an epoch
    is chosen, and has out-of-fold predictions. Scores are of evaluated images either way."""


class Models(Section):
    """Which networks, with which weights, and the head."""

    architectures: Annotated[tuple[str, ...], Field(min_length=1)]
    """Keys of nonet's BACKBONES; `nonet backbones` lists them."""
    weights: Literal["pretrained", "none"] = "pretrained"
    """'none' starts from random numbers."""
    weight_files: dict[str, str] = {}
    """Architecture = local file with its pretrained weights, instead of the hub's."""
    image_size_px: Annotated[int, Field(ge=16, le=4096)] | None = None
    """Side of the square the network sees; left out: each architecture's own size."""
    centre: Part | dict[str, Part] = 1.0
    """Part of the frame that is seen: the central square's side as a share of the shorter; or by architecture."""
    head_widths: Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], Field(max_length=32)] = (512, 256, 128)
    """Widths of the Linear-ReLU-Dropout blocks between the features and the last linear layer, which gives the classes.
    The paper's "4 blocks" may be these three with that layer, or four before it: [512, 256, 128, 64]."""
    head_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout at the end of each of these blocks."""
    refit_head: bool = False
    """In the end, fit a linear head to the features of the training images, every class counting alike (Kang 2020)."""

    @field_validator("architectures")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError(f"an architecture is named twice: {', '.join(value)}")
        return value

    @model_validator(mode="after")
    def _centres_of_what_is_trained(self):
        named = list(self.centre) if isinstance(self.centre, dict) else self.architectures
        if strangers := [name for name in named if name not in self.architectures]:
            raise ValueError(f"centre names {strangers[0]}, which is none of the architectures")
        return self


class Sampling(Section):
    """How batches are drawn from the training images."""

    sampler: Literal["effective_number", "uniform"] = "effective_number"
    """'effective_number' draws rare classes about as often as common ones; 'uniform' goes through each image once."""
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    """Of the effective number (1 - beta^n) / (1 - beta); 0 draws by image, towards 1 by 1/n."""
    external_weight: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """How often an image that is not evaluated (of another source) is drawn, to one of its class that is."""


class Loss(Section):
    """The training loss."""

    name: Literal["focal_sigmoid", "focal_softmax", "cross_entropy"] = "focal_sigmoid"
    """'focal_sigmoid' is focal loss as published (one yes or no a class); 'focal_softmax' its multi-class form."""
    alpha: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Weight of the positive side (sigmoid form: 1 - alpha for the negative side). No effect on cross_entropy."""
    gamma: Annotated[float, Field(ge=0, le=100)] = 2.0
    """Focusing: 0 gives (weighted) cross-entropy. No effect on cross_entropy."""


class Optimiser(Section):
    """AdamW with a cosine from the first learning rate to the last."""

    learning_rate_first: Annotated[float, Field(gt=0, le=1000)] = 5e-4
    """Of the first step, or of the one that ends the warm-up."""
    learning_rate_last: Annotated[float, Field(ge=0)] = 5e-6
    """Of the last step of the last epoch."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """AdamW's running-average coefficients."""
    warmup_epochs: Annotated[float, Field(ge=0, le=100_000)] = 0.0
    """The learning rate rises evenly from 0 over these, and then follows the cosine. The paper has none."""
    weight_decay: Annotated[float, Field(ge=0, le=1000)] = 0.01
    """Decoupled weight decay, on every parameter."""

    @model_validator(mode="after")
    def _falling(self):
        if self.learning_rate_last > self.learning_rate_first:
            raise ValueError(
                f"learning_rate_last ({self.learning_rate_last}) is larger than "
                f"learning_rate_first ({self.learning_rate_first})"
            )
        return self


class Train(Section):
    """The length of training, and what is kept."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 60
    """At most; the cosine spans this many. An epoch draws as many images as there are training images."""
    batch_size: Annotated[int, Field(ge=2, le=65_536)] = 32
    """Images a step, over all devices together."""
    patience_epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Stop when the held-out macro-F1 of the EMA weights has not risen for this many epochs.
    No effect with keep = "last", which trains every epoch."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Per step; the averaged weights are those evaluated and kept. 0 keeps the raw weights."""
    ema_warmup: bool = False
    """Lower the decay to (1 + step) / (10 + step) at first, so that a short training forgets its random head."""
    keep: Literal["best", "last"] = "best"
    """'best' keeps the epoch of the best held-out macro-F1, so the score is of a choice; 'last' chooses nothing."""
    max_restarts: Annotated[int, Field(ge=0)] = 2
    """How often a member is trained again from another seed after its network died: diverged, or became a constant.
    One that stays dead does not count in the ensemble."""
    seed: Seed = 0
    """Of everything random in training: head, batches, augmentation, dropout."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """'auto': bf16-mixed on a GPU that has it, else 32-true."""
    checkpoint_seconds: Annotated[float, Field(ge=0, le=1e6)] = 60.0
    """A killed training loses at most this much work. 0 writes state after every step."""


class Augment(Section):
    """Random changes to training batches, made on whole batches on the device."""

    mixup_probability: Probability = 0.15
    """Of a batch being blended with itself shuffled."""
    mixup_alpha: Annotated[float, Field(gt=0, le=1e6)] = 0.2
    """Of the Beta(alpha, alpha) that draws the blend."""
    cutmix_probability: Probability = 0.15
    """Of a batch having a rectangle exchanged with itself shuffled; never both on one batch."""
    cutmix_alpha: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Of the Beta(alpha, alpha) that draws the share of the image kept."""
    flip_probability: Probability = 0.5
    """Of each, left-right and top-bottom, an image."""
    rotation_probability: Probability = 0.5
    """Of a rotation, an image."""
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 180.0
    """Drawn from -rotation_deg to +rotation_deg."""
    noise_probability: Probability = 0.2
    """Of Gaussian noise, an image."""
    noise_sigma: Annotated[float, Field(ge=0, le=255)] = 10.0
    """Largest standard deviation, in 8-bit grey levels."""
    blur_probability: Probability = 0.2
    """Of a Gaussian blur, an image."""
    blur_sigma_px: Annotated[float, Field(gt=0, le=100)] = 1.5
    """Largest width at the size the network sees."""
    motion_blur_probability: Probability = 0.1
    """Of a blur along a line, an image."""
    motion_blur_px: Annotated[int, Field(ge=3, le=501)] = 7
    """Length of that line, odd."""
    brightness: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Each image is multiplied by 1 - brightness to 1 + brightness."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Contrast about the image's mean is multiplied by 1 - contrast to 1 + contrast."""
    stain_probability: Probability = 0.0
    """Of the blue and the red dye being made stronger or weaker, each for itself, an image."""
    stain_gain: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Each dye's optical density is multiplied by 1 - stain_gain to 1 + stain_gain."""

    @model_validator(mode="after")
    def _one_mixing_a_batch(self):
        if self.mixup_probability + self.cutmix_probability > 1:
            raise ValueError("mixup_probability and cutmix_probability together exceed 1")
        if self.motion_blur_px % 2 == 0:
            raise ValueError(f"motion_blur_px must be odd, not {self.motion_blur_px}")
        return self


class Predict(Section):
    """How an image is seen at prediction time."""

    views: Literal["none", "dihedral", "random"] = "dihedral"
    """'dihedral': the 8 flips and quarter turns; 'random': the paper's random flips and rotations; 'none': as it is."""
    num_random_views: Annotated[int, Field(ge=1, le=1024)] = 8
    """Views an image with views = 'random', the untouched image among them."""
    seed: Seed = 0
    """Of the random views."""


class Calibrate(Section):
    """What is fitted on out-of-fold predictions once all members are trained; `nonet calibrate` fits it anew."""

    temperature: bool = True
    """Divide the logits by the one number under which the true classes are likeliest; changes no decision."""
    prior_strength: Annotated[float, Field(ge=-1, le=1)] | Literal["choose"] = 0.0
    """Moves class priors away from those that training drew: at 1 to the evaluated images' shares, at -1 to equal ones.
    0 leaves them; 'choose' takes what gives the best macro-F1 out of fold. It changes decisions."""
    coverage: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Share of the images whose prediction set is to hold the true class."""
    min_confidence: Probability = 0.5
    """A cell whose most probable class is less probable than this is unidentified. 0 names every cell."""
    false_alarm: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of known cells that may be rejected as an unknown cell type; the larger, the more unknown cells are found.
    0 rejects none."""
    require_nucleus: bool = True
    """Leave an image unidentified where nothing in it could be a nucleus: empty fields, blank frames, red cells alone.
    Without effect where more than 1 % of the known cells show none, as in fluorescence or drawings."""


def shown(value: object) -> str:
    """Return a value as it is written in messages: what is long is cut short."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or a number of too many digits
        return "…"
    return text if len(text) <= 200 else f"{text[:200]}…"


def _holds_bool(value: object) -> bool:
    return isinstance(value, bool) or (isinstance(value, (list, tuple)) and any(isinstance(v, bool) for v in value))
