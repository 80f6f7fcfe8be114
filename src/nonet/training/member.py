"""One member: train a network on all folds but one, average its weights, and predict the held-out fold.

No random generator has a state: each batch's seed is derived from (seed, architecture, fold, attempt, epoch, step).
So a training that is killed and resumed from its last `state.pt` ends with the weights of an uninterrupted one, bit
for bit. One that is asked to stop, by Ctrl-C or a scheduler, writes `state.pt` first.
"""

import json
import logging
import math
import time
from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from tqdm import tqdm

from nonet.artifacts.run import Member, write_text
from nonet.models.network import Classifier, make_classifier
from nonet.models.tensors import to_device
from nonet.models.views import no_views
from nonet.progress import progress
from nonet.recipe import Recipe
from nonet.stopping import SavedStops
from nonet.training.augment import Draws, augment, mix
from nonet.training.distributed import broadcast_network
from nonet.training.ema import WeightAverage
from nonet.training.liveness import get_death_reason
from nonet.training.losses import compute_loss
from nonet.training.member_data import MemberData
from nonet.training.outcome import Evaluator, compute_outcome, macro_f1, write_outcome
from nonet.training.sampling import derive_seed, draw_epoch, split_batches
from nonet.training.state import read_state, write_state

logger = logging.getLogger("nonet")


class DivergedError(Exception):
    """The loss is no longer finite."""


def learning_rate(step: int, num_steps: int, *, first: float, last: float, warmup_steps: int = 0) -> float:
    """Return the learning rate at a step: a linear warm-up from 0, then a cosine from `first` to `last`.

    Parameters
    ----------
    step : int
        From 0 to num_steps - 1.
    num_steps : int
        Of the whole training, warm-up included.
    first : float
        At the end of the warm-up, or at step 0 without one.
    last : float
        At the last step.
    warmup_steps : int, default 0
        Length of the warm-up.

    Returns
    -------
    float
    """
    if step < warmup_steps:
        return first * (step + 1) / (warmup_steps + 1)
    part = (step - warmup_steps) / max(num_steps - warmup_steps - 1, 1)
    return last + (first - last) * (1 + math.cos(math.pi * part)) / 2


class MemberTraining:
    """The training of one member.

    Parameters
    ----------
    member : Member
        Where it is in the run folder.
    data : MemberData
        Its images.
    recipe : Recipe
        Of the run.
    fabric : Fabric
        Of this process.

    Attributes
    ----------
    network : module of Lightning Fabric
        Wraps the network being trained, its attribute `module`.
    average : WeightAverage
        Average of its weights, which is evaluated and stored.
    epoch, step : int
        Where training is: the next step of this epoch.
    history : list of dict
        One entry per epoch, a line of history.jsonl each.
    earlier_attempts : list of dict
        Attempts whose network died, with keys epochs and reason.
    origin : str or None
        Where pretrained weights came from, with their licence; None without them.
    """

    def __init__(self, member: Member, data: MemberData, recipe: Recipe, fabric: Fabric):
        self.member, self.data, self.recipe, self.fabric = member, data, recipe, fabric
        self.seconds = 0.0
        self.earlier_attempts: list[dict] = []
        self.external = ~data.table["evaluate"].to_numpy(dtype=bool)[data.train]
        self._start_attempt()

    def _start_attempt(self) -> None:
        """Make network, optimiser and average; each attempt has a seed of its own."""
        torch.manual_seed(self._seed("start"))
        network, self.origin = make_classifier(self.member.architecture, self.recipe.models, len(self.data.classes))
        network = network.to(memory_format=torch.channels_last)
        if self.fabric.world_size > 1 and self.fabric.device.type == "cuda":
            network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
        settings = self.recipe.optimiser
        optimiser = torch.optim.AdamW(
            network.parameters(),
            lr=settings.learning_rate_first,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=self.fabric.device.type in ("cpu", "cuda"),
        )
        self.network, self.optimiser = self.fabric.setup(network, optimiser)
        train = self.recipe.train
        self.average = WeightAverage(network, decay=train.ema_decay, warmup=train.ema_warmup)
        self.epoch, self.step, self.loss_sum = 0, 0, 0.0
        self.history: list[dict] = []
        self.best: dict | None = None  # what is stored: {"macro_f1", "epoch", "network", "dead"}
        self.diverged: str | None = None  # the reason, if it did
        self.steps_per_epoch = len(self._epoch_batches(0))

    @property
    def attempt(self) -> int:
        """Number of this attempt; 0 is the first."""
        return len(self.earlier_attempts)

    def _seed(self, *parts: object) -> int:
        attempt = ("attempt", self.attempt) if self.attempt else ()
        return derive_seed(self.recipe.train.seed, self.member.architecture, self.member.fold, *attempt, *parts)

    def _epoch_batches(self, epoch: int) -> list[np.ndarray]:
        labels = self.data.labels[self.data.train]
        order = draw_epoch(labels, self.recipe.sampling, seed=self._seed("order", epoch), external=self.external)
        return split_batches(
            self.data.train[order], self.recipe.train.batch_size, smallest=max(2, self.fabric.world_size)
        )

    def run(self) -> None:
        """Train to the end, from the last state on disk if there is one, and write the member's files.

        If the network dies (see `nonet.training.liveness`), training restarts from another seed, at most
        train.max_restarts times.
        """
        self._resume()
        self._started = time.monotonic() - self.seconds
        bar = progress(
            total=self.recipe.train.epochs * self.steps_per_epoch,
            initial=self.epoch * self.steps_per_epoch + self.step,
            description=self.member.name,
            unit="steps",
            leave=False,
            disable=not self.fabric.is_global_zero,
        )
        with bar:
            while True:
                reason = self._train(bar)
                if reason is None or not self._can_restart:
                    reason = self._finish()
                if reason is None:
                    return
                self._restart(reason)
                bar.reset()

    def _train(self, bar: tqdm) -> str | None:
        """Train this attempt to its end; return why the network died if it did."""
        with SavedStops(self._save) as stops:
            return self._train_epochs(bar, stops)

    def _train_epochs(self, bar: tqdm, stops: SavedStops) -> str | None:
        saved = time.monotonic()
        while not self._is_finished():
            batches = self._epoch_batches(self.epoch)
            while self.step < len(batches):
                try:
                    with stops.held():
                        self.loss_sum += self._train_batch(batches[self.step])
                        self.step += 1
                except DivergedError as error:
                    self.diverged = str(error)
                    return self.diverged
                bar.update()
                if time.monotonic() - saved >= self.recipe.train.checkpoint_seconds and self.step < len(batches):
                    self._save()
                    saved = time.monotonic()
            logits = self._evaluate()
            with stops.held():
                self._end_epoch(logits)
            last = self.history[-1]
            bar.set_postfix(macro_f1=f"{last['val_macro_f1']:.3f}", epoch=self.epoch, refresh=False)
            logger.debug(
                f"{self.member.name}, epoch {self.epoch}: training loss {last['train_loss']:.4f}, "
                f"held-out macro-F1 {last['val_macro_f1']:.3f}, {self.seconds:.0f} s"
            )
            if self.best is not None and self.best["dead"] is not None:
                return self.best["dead"]
            self._save()
            saved = time.monotonic()
        return None

    @property
    def _can_restart(self) -> bool:
        return self.attempt < self.recipe.train.max_restarts

    @property
    def _advice(self) -> str:
        if self.diverged is None:
            return " If this happens often, set optimiser.warmup_epochs or lower the learning rate."
        return " If this happens often, lower optimiser.learning_rate_first, or set train.precision=32-true."

    def _restart(self, reason: str) -> None:
        if self.fabric.is_global_zero:
            logger.warning(f"{self.member.name} {reason}. It is trained again from another seed.{self._advice}")
        self.earlier_attempts.append({"epochs": self.epoch, "reason": reason})
        self._start_attempt()
        self._save()

    def _train_batch(self, rows: np.ndarray) -> float:
        loss = self.compute_gradients(rows)
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(self.step)
        self.optimiser.step()
        self.average.update(self.network.module)
        return loss

    def _rate(self, step: int) -> float:
        """Return the learning rate at a step of this epoch."""
        settings = self.recipe.optimiser
        return learning_rate(
            self.epoch * self.steps_per_epoch + step,
            self.recipe.train.epochs * self.steps_per_epoch,
            first=settings.learning_rate_first,
            last=settings.learning_rate_last,
            warmup_steps=round(settings.warmup_epochs * self.steps_per_epoch),
        )

    def compute_gradients(self, rows: np.ndarray) -> float:
        """Compute the gradients of the mean loss over a batch; they are stored in the network.

        With several devices, each makes the whole augmented batch, so that mixing is that of a single device, and
        passes its share of it through the network. The sum of a share's losses is scaled so that the following mean
        over devices is the mean over the batch, however uneven the shares.

        Parameters
        ----------
        rows : ndarray of int, shape (n,)
            Row numbers of the batch.

        Returns
        -------
        float
            The mean loss.

        Raises
        ------
        DivergedError
            If the loss is not finite.
        """
        images, labels = self._augmented(rows)
        rank, world = self.fabric.global_rank, self.fabric.world_size
        torch.manual_seed(self._seed("dropout", self.epoch, self.step, rank))
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        share_images, share_labels = images[rank::world], labels[rank::world]
        loss = compute_loss(self.recipe.loss, self.network(share_images), share_labels).sum() * (world / len(rows))
        self.fabric.backward(loss)
        mean_loss = self.fabric.all_reduce(loss.detach(), reduce_op="mean")
        value = float(cast(torch.Tensor, mean_loss))
        if not math.isfinite(value):
            raise DivergedError(f"diverged: its loss was {value} at epoch {self.epoch}, step {self.step}")
        return value

    def _augmented(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        device, num_classes = self.fabric.device, len(self.data.classes)
        images = to_device(self.data.images[rows], device)
        labels = torch.from_numpy(self.data.labels[rows]).to(device)
        labels = torch.nn.functional.one_hot(labels, num_classes).to(torch.float32)
        draws = Draws(len(rows), device, self._seed("augment", self.epoch, self.step))
        images = augment(images, self.recipe.augment, draws)
        images, labels = mix(images, labels, self.recipe.augment, draws)
        return images.contiguous(memory_format=torch.channels_last), labels

    @property
    def evaluator(self) -> Evaluator:
        """Evaluates the average, which is what is stored in the end."""
        return Evaluator(cast(Classifier, self.average.network), self.member, self.data, self.recipe, self.fabric)

    def _evaluate(self) -> np.ndarray:
        """Return the average's logits of the held-out images."""
        # All processes evaluate the same network and get the same numbers, so none stops while others train on.
        broadcast_network(self.fabric, self.average.network)
        return self.evaluator.logits(no_views())

    def _end_epoch(self, logits: np.ndarray) -> None:
        """Add a line to the history, and hold the average if it is the best so far."""
        truth = self.data.truth
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(truth), logits.shape[1]).float()
        score = macro_f1(truth, logits)
        recall = [float((logits.argmax(1)[truth == k] == k).mean()) for k in np.unique(truth)]
        is_best = self.best is None or score > self.best["macro_f1"]
        if is_best or self.recipe.train.keep == "last":
            state = {k: v.detach().cpu().clone() for k, v in self.average.network.state_dict().items()}
            previous = self.best["macro_f1"] if self.best else -1.0
            dead = get_death_reason(logits, truth, at_end=False)
            self.best = {"macro_f1": max(score, previous), "epoch": self.epoch, "network": state, "dead": dead}
        self.seconds = time.monotonic() - self._started
        self.history.append(
            {
                "epoch": self.epoch,
                "train_loss": self.loss_sum / self.step,
                "learning_rate": self._rate(self.step - 1),
                "val_loss": float(compute_loss(self.recipe.loss, torch.from_numpy(logits), one_hot).mean()),
                "val_macro_f1": score,
                "val_balanced_accuracy": float(np.mean(recall)),
                "seconds": round(self.seconds, 2),  # of the member, including attempts that died
                "best": bool(is_best),
            }
        )
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0

    def _is_finished(self) -> bool:
        if self.epoch >= self.recipe.train.epochs:
            return True
        if self.recipe.train.keep == "last" or self.best is None:
            return False
        return self.epoch - 1 - self.best["epoch"] >= self.recipe.train.patience_epochs

    def _save(self) -> None:
        self.seconds = time.monotonic() - self._started
        if not self.fabric.is_global_zero:
            return
        state = {
            "network": self.network.module.state_dict(),
            "optimiser": self.optimiser.optimizer.state_dict(),
            "average": self.average.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),  # the scale of 16-mixed
            "progress": {k: getattr(self, k) for k in ("epoch", "step", "loss_sum", "seconds")},
            "attempt": self.attempt,
            "earlier_attempts": self.earlier_attempts,
            "history": self.history,
            "best": self.best,
        }
        write_state(self.member, state)
        self._write_history()

    def _write_history(self) -> None:
        write_text(self.member.history, "".join(json.dumps(line) + "\n" for line in self.history))

    def _resume(self) -> None:
        state = read_state(self.member, self.fabric.device)
        if state is None:
            return
        self.network.module.load_state_dict(state["network"])
        self.optimiser.optimizer.load_state_dict(state["optimiser"])
        self.average.load_state_dict(state["average"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        for key, value in state["progress"].items():
            setattr(self, key, value)
        self.earlier_attempts, self.history, self.best = state["earlier_attempts"], state["history"], state["best"]

    def _finish(self) -> str | None:
        """Write the member's files; if its network is dead and may restart, only return the reason."""
        if self.best is not None:
            self.average.network.load_state_dict(self.best["network"])
        broadcast_network(self.fabric, self.average.network)
        evaluator = self.evaluator
        # The tag only names a random stream; another one would change numbers.
        outcome = compute_outcome(evaluator, self.external, self._seed("foreign"))
        truth, logits = self.data.truth, outcome.logits["none"]
        dead = self.diverged or get_death_reason(logits, truth, at_end=True)
        if dead is not None and self._can_restart:
            return dead
        if not self.fabric.is_global_zero:
            return None
        if dead is not None:
            tried = f"in the last of {self.attempt + 1} attempts" if self.attempt else "and train.max_restarts is 0"
            logger.warning(f"{self.member.name} {dead}, {tried}. Its weight in the ensemble is 0.{self._advice}")
        self._write_history()  # again: training may have been killed after the last state, before it
        write_outcome(
            evaluator,
            outcome,
            {
                "epochs": self.epoch,
                "kept_epoch": self.best["epoch"] if self.best else None,
                "val_macro_f1": macro_f1(truth, logits),
                "seconds": round(self.seconds, 1),
                "weights_from": self.origin,
                "attempt": self.attempt,
                "earlier_attempts": self.earlier_attempts,
                "dead": dead,
            },
        )
        return None
