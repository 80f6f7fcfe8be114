"""One member: train a network on all folds but one, keep its average, say what it makes of the fold held out.

Nothing random has a state: each batch's seed is derived from (seed, architecture, fold, epoch, step). So a training
that is killed and resumed from its last `state.pt` ends with the weights of an uninterrupted one, bit for bit.
"""

import json
import logging
import math
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from lightning_fabric import Fabric
from sklearn.metrics import f1_score
from timm.optim import param_groups_layer_decay

from nonet.calibrate.rejection import fit_member_score
from nonet.data.folds import patient_or_image
from nonet.data.nucleus import shows_nucleus
from nonet.data.prepare import PreparedImages
from nonet.errors import RunError
from nonet.integrity import write_done
from nonet.models.network import Classifier, make_classifier, make_head
from nonet.models.views import View, batches, logits_over_views, no_views, to_device, views_of
from nonet.progress import progress, slowly
from nonet.recipe import Optimiser, Recipe
from nonet.runs import Member, write_text, written_whole
from nonet.train.augment import Draws, augment, mix
from nonet.train.ema import WeightAverage
from nonet.train.features import features_of, write_features
from nonet.train.losses import TrainingLoss, loss_of
from nonet.train.refit import fit_linear_head
from nonet.train.sampling import cut_batches, derive_seed, draw_epoch, training_prior
from nonet.train.state import read_state, write_state

log = logging.getLogger("nonet")

#: Training images, drawn at random, that say where features lie: enough for any network's, and quick with any dataset.
MAX_IMAGES_OF_SPACE = 20_000


@dataclass(frozen=True)
class MemberData:
    """What one member learns from and is held to.

    images : uint8 (n, s, s, 3), all of the dataset's labelled images, read as they are asked for.
    labels : int64 (n,), index into classes.
    train, held_out : int64 row numbers, apart from each other.
    table : one row an image: image_id, label, patient, source, evaluate.
    """

    images: PreparedImages
    labels: np.ndarray
    train: np.ndarray
    held_out: np.ndarray
    table: pd.DataFrame
    classes: list[str]


def learning_rate(step: int, num_steps: int, *, first: float, last: float, warmup_steps: int = 0) -> float:
    """Return the cosine from `first` at step 0 to `last` at step num_steps - 1; before it, an even rise from 0."""
    if step < warmup_steps:
        return first * (step + 1) / (warmup_steps + 1)
    part = (step - warmup_steps) / max(num_steps - warmup_steps - 1, 1)
    return last + (first - last) * (1 + math.cos(math.pi * part)) / 2


def parameter_groups(network: Classifier, settings: Optimiser) -> list[dict]:
    """Divide the network's parameters by how fast they learn: each group's `lr_scale`, 1 at the backbone's end."""
    groups = [{"params": list(network.backbone.parameters()), "lr_scale": 1.0}]
    if settings.layer_decay < 1:
        layers = param_groups_layer_decay(
            network.backbone, weight_decay=settings.weight_decay, layer_decay=settings.layer_decay
        )
        groups = [{"params": layer["params"], "lr_scale": layer["lr_scale"]} for layer in layers]
    return [*groups, {"params": list(network.head.parameters()), "lr_scale": settings.head_rate}]


class MemberTraining:
    """The state of one member's training and the steps that move it on."""

    def __init__(self, member: Member, data: MemberData, recipe: Recipe, fabric: Fabric):
        self.member, self.data, self.recipe, self.fabric = member, data, recipe, fabric
        torch.manual_seed(self._seed("start"))
        network, self.origin = make_classifier(member.architecture, recipe.models, len(data.classes))
        network = network.to(memory_format=torch.channels_last)
        if fabric.world_size > 1 and fabric.device.type == "cuda":
            network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
        settings = recipe.optimiser
        optimiser = torch.optim.AdamW(
            parameter_groups(network, settings),
            lr=settings.learning_rate_first,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=fabric.device.type in ("cpu", "cuda"),
        )
        self.network, self.optimiser = fabric.setup(network, optimiser)
        self.average = WeightAverage(network, decay=recipe.train.ema_decay, warmup=recipe.train.ema_warmup)
        self.epoch, self.step, self.loss_sum, self.seconds = 0, 0, 0.0, 0.0
        self.history: list[dict] = []
        self.best: dict | None = None  # {"macro_f1", "epoch", "network"}
        self.external = ~data.table["evaluate"].to_numpy(dtype=bool)[data.train]
        prior = training_prior(data.labels[data.train], len(data.classes), recipe.sampling, self.external)
        self.loss = TrainingLoss(recipe.loss, data.classes, prior, fabric.device)
        self.steps_an_epoch = len(self._batches_of(0))

    def _seed(self, *parts: object) -> int:
        return derive_seed(self.recipe.train.seed, self.member.architecture, self.member.fold, *parts)

    def _batches_of(self, epoch: int) -> list[np.ndarray]:
        labels = self.data.labels[self.data.train]
        order = draw_epoch(labels, self.recipe.sampling, seed=self._seed("order", epoch), external=self.external)
        return cut_batches(
            self.data.train[order], self.recipe.train.batch_size, smallest=max(2, self.fabric.world_size)
        )

    def run(self) -> None:
        """Train to the end from wherever the last state was written."""
        self._resume()
        started, saved = time.monotonic() - self.seconds, time.monotonic()
        total = self.recipe.train.epochs * self.steps_an_epoch
        bar = progress(
            total=total,
            initial=self.epoch * self.steps_an_epoch + self.step,
            description=self.member.name,
            unit="steps",
            leave=False,
            disable=not self.fabric.is_global_zero,
        )
        while not self._is_finished():
            cut = self._batches_of(self.epoch)
            while self.step < len(cut):
                self.loss_sum += self._train_batch(cut[self.step])
                self.step += 1
                bar.update()
                if time.monotonic() - saved >= self.recipe.train.checkpoint_seconds and self.step < len(cut):
                    self.seconds = time.monotonic() - started
                    self._save()
                    saved = time.monotonic()
            self.seconds = time.monotonic() - started
            self._end_epoch(len(cut))
            last = self.history[-1]
            bar.set_postfix(macro_f1=f"{last['val_macro_f1']:.3f}", epoch=self.epoch, refresh=False)
            log.debug(
                f"{self.member.name}, epoch {self.epoch}: training loss {last['train_loss']:.4f}, "
                f"held-out macro-F1 {last['val_macro_f1']:.3f}, {self.seconds:.0f} s"
            )
            self._save()
            saved = time.monotonic()
        bar.close()
        self._finish()

    def _train_batch(self, rows: np.ndarray) -> float:
        loss = self.gradients(rows)
        settings = self.recipe.optimiser
        self.rate = learning_rate(
            self.epoch * self.steps_an_epoch + self.step,
            self.recipe.train.epochs * self.steps_an_epoch,
            first=settings.learning_rate_first,
            last=settings.learning_rate_last,
            warmup_steps=round(settings.warmup_epochs * self.steps_an_epoch),
        )
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * group["lr_scale"]
        self.optimiser.step()
        self.average.update(self.network.module)
        return loss

    def gradients(self, rows: np.ndarray) -> float:
        """Leave the gradients of the mean loss over a batch in the network; return that loss.

        Over several devices each one makes the whole augmented batch, so that mixing sees what one device would, and
        passes its share of it through the network. The sum of a share's losses is scaled so that the mean over devices
        that follows is the mean over the batch, however uneven the shares.
        """
        images, labels = self._augmented(rows)
        rank, world = self.fabric.global_rank, self.fabric.world_size
        torch.manual_seed(self._seed("dropout", self.epoch, self.step, rank))
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        share_images, share_labels = images[rank::world], labels[rank::world]
        loss = self.loss(self.network(share_images), share_labels).sum() * (world / len(rows))
        self.fabric.backward(loss)
        value = float(self.fabric.all_reduce(loss.detach(), reduce_op="mean"))
        if not math.isfinite(value):
            raise RunError(
                f"The loss of {self.member.name} is {value} at epoch {self.epoch}, step {self.step}.",
                hint="Lower optimiser.learning_rate_first, or set train.precision=32-true.",
            )
        return value

    def _augmented(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        device, num_classes = self.fabric.device, len(self.data.classes)
        images = to_device(self.data.images[rows], device)
        labels = torch.from_numpy(self.data.labels[rows]).to(device)
        labels = torch.nn.functional.one_hot(labels, num_classes).to(torch.float32)
        draws = Draws(len(rows), device, self._seed("augment", self.epoch, self.step))
        settings = self.recipe.augment.at(self.epoch / max(self.recipe.train.epochs - 1, 1))
        images = augment(images, settings, draws)
        images, labels = mix(images, labels, settings, draws)
        return images.contiguous(memory_format=torch.channels_last), labels

    def held_out_logits(self, views: list[View], description: str | None = None) -> np.ndarray:
        """Logits (n, classes), float32, of the average on the images held out; a description gives it a bar."""
        cut, device = batches(self.data.held_out, 4 * self.recipe.train.batch_size), self.fabric.device
        with self.fabric.autocast():
            parts = [
                logits_over_views(self.average.network, to_device(self.data.images[batch], device), views).cpu().numpy()
                for batch in slowly(cut, description)
            ]
        return np.concatenate(parts)

    def _end_epoch(self, num_steps: int) -> None:
        # One process's numbers decide for all, so that none stops while the others go on.
        logits = self.fabric.broadcast(self.held_out_logits(no_views()))
        truth = self.data.labels[self.data.held_out]
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(truth), logits.shape[1]).float()
        present = np.unique(truth)
        macro_f1 = float(f1_score(truth, logits.argmax(1), labels=present, average="macro", zero_division=0))
        recall = [float((logits.argmax(1)[truth == k] == k).mean()) for k in present]
        is_best = self.best is None or macro_f1 > self.best["macro_f1"]
        if is_best or self.recipe.train.keep == "last":
            state = {k: v.detach().cpu().clone() for k, v in self.average.network.state_dict().items()}
            previous = self.best["macro_f1"] if self.best else -1.0
            self.best = {"macro_f1": max(macro_f1, previous), "epoch": self.epoch, "network": state}
        self.history.append(
            {
                "epoch": self.epoch,
                "train_loss": self.loss_sum / num_steps,
                "learning_rate": self.rate,
                "val_loss": float(loss_of(self.recipe.loss, torch.from_numpy(logits), one_hot).mean()),
                "val_macro_f1": macro_f1,
                "val_balanced_accuracy": float(np.mean(recall)),
                "seconds": round(self.seconds, 2),
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
        if not self.fabric.is_global_zero:
            return
        state = {
            "network": self.network.module.state_dict(),
            "optimiser": self.optimiser.optimizer.state_dict(),
            "average": self.average.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),  # the scale of 16-mixed
            "progress": {k: getattr(self, k) for k in ("epoch", "step", "loss_sum", "seconds")},
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
        self.fabric.strategy.precision.load_state_dict(state.get("precision", {}))
        for key, value in state["progress"].items():
            setattr(self, key, value)
        self.history, self.best = state["history"], state["best"]

    def _finish(self) -> None:
        self.average.network.load_state_dict(self.best["network"])
        if not self.fabric.is_global_zero:
            return
        sets = {"none": no_views()}
        if self.recipe.predict.views != "none":
            sets[self.recipe.predict.views] = views_of(self.recipe.predict)
        if self.recipe.models.refit_head:
            self._refit_head()
        foreign = self._write_features()
        nucleus = self._shows_nucleus()
        tables = [
            self._oof_table(name, self.held_out_logits(views, f"{self.member.name}, views: {name}"), foreign, nucleus)
            for name, views in sets.items()
        ]
        with written_whole(self.member.oof) as path:
            pd.concat(tables).to_parquet(path, index=False)
        with written_whole(self.member.weights) as path:
            state = self.average.network.state_dict()
            safetensors.torch.save_file({k: v.cpu().contiguous() for k, v in state.items()}, path)
        self._write_history()  # again: a kill may have come between the last state and it
        write_done(
            self.member,
            {
                "epochs": self.epoch,
                "kept_epoch": self.best["epoch"],
                "val_macro_f1": self.history[self.best["epoch"]]["val_macro_f1"],
                "seconds": round(self.seconds, 1),
                "weights_from": self.origin,
            },
        )
        self.member.clear()

    def _refit_head(self) -> None:
        """Replace the head by one fitted to the features of the training images."""
        features, labels = self._features(self.data.train), self.data.labels[self.data.train]
        counts = np.where(self.external, self.recipe.sampling.external_weight, 1.0)
        finite = np.isfinite(features).all(axis=1)
        if not finite.all():
            log.warning(
                f"{self.member.name}: features of {(~finite).sum():,} of {len(finite):,} training images are not "
                "finite. The head is refitted without these images."
            )
            features, labels, counts = features[finite], labels[finite], counts[finite]
        num_classes = len(self.data.classes)
        weight, bias = fit_linear_head(features, labels, num_classes, weights=counts)
        head = make_head(features.shape[1], num_classes, widths=(), dropout=0)
        head[0].load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
        self.average.network.head = head.to(self.fabric.device).eval().requires_grad_(False)

    def _write_features(self) -> np.ndarray:
        """Keep what the network makes of the images held out, and what tells foreign images.

        The first by which evaluate/neighbours.py compares images, the second fitted on training images. Return how
        foreign those held out are, (n,), each beside the other patients held out.
        """
        held_out, train = self._features(self.data.held_out), self.data.train
        table = self.data.table.iloc[self.data.held_out]
        write_features(self.member.features, table["image_id"].to_numpy(), held_out)
        if len(train) > MAX_IMAGES_OF_SPACE:
            drawn = np.random.default_rng(self._seed("foreign"))
            train = np.sort(drawn.choice(train, MAX_IMAGES_OF_SPACE, replace=False))
        evaluated = self.data.table["evaluate"].to_numpy(dtype=bool)[self.data.held_out]
        fitted = fit_member_score(self._features(train), held_out[evaluated])  # external images look otherwise
        fitted.write(self.member.foreign)
        foreign, unit = fitted.score(held_out), patient_or_image(table).to_numpy(dtype=str)
        foreign[evaluated] = fitted.score_held_out(held_out[evaluated], unit[evaluated])
        return foreign

    def _shows_nucleus(self) -> np.ndarray:
        """Say of the images held out whether anything that the network sees of them could be a nucleus, bool (n,)."""
        cut = batches(self.data.held_out, 4 * self.recipe.train.batch_size)
        return np.array([shows_nucleus(pixels) for batch in cut for pixels in self.data.images[batch]], dtype=bool)

    def _features(self, rows: np.ndarray) -> np.ndarray:
        device, batch_size = self.fabric.device, 4 * self.recipe.train.batch_size
        options = {"device": device, "batch_size": batch_size, "description": f"{self.member.name}, features"}
        # In single precision whatever the training's: what is fitted to them must hold on machines of another one.
        return features_of(self.average.network, self.data.images, rows, **options)

    def _oof_table(self, view_set: str, logits: np.ndarray, foreign: np.ndarray, nucleus: np.ndarray) -> pd.DataFrame:
        table = self.data.table.iloc[self.data.held_out][["image_id", "label", "patient", "source"]].reset_index(
            drop=True
        )
        table = table.assign(fold=self.member.fold, architecture=self.member.architecture, view_set=view_set)
        table["foreign"] = foreign.astype(np.float32)  # of the image as it is, whatever the views
        table["nucleus"] = nucleus
        columns = {f"logit_{code}": logits[:, i].astype(np.float32) for i, code in enumerate(self.data.classes)}
        return pd.concat([table, pd.DataFrame(columns)], axis=1)
