"""OpenVINO on a CPU: networks without torch, from a form that is made of each member once and kept in the run."""

import logging
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from nonet.artifacts.run import Member, Run
from nonet.errors import StorageError
from nonet.inference.backends.compiled import Compiled
from nonet.inference.backends.openvino_library import openvino
from nonet.models.backbones import get_crop
from nonet.models.views import View, batches, no_views
from nonet.progress import progress
from nonet.recipe import Recipe
from nonet.workers import num_processors

logger = logging.getLogger("nonet")

#: Images that a thread passes through a network at once: few, so that they stay in its cache; in int8 more of them do.
PASS_SIZES = {"openvino": 8, "openvino-int8": 16}


class OpenVinoNetwork:
    """A member's network; each thread has an inference request of its own, as requests cannot be shared.

    Parameters
    ----------
    core : openvino.Core
    model : openvino.Model
        float32 (n, 3, s, s) in 0–255 → logits, features.
    num_threads : int
        How many threads may call it at once.
    form : str
        Key of PASS_SIZES: what the model computes in.
    """

    def __init__(self, core: openvino.Core, model: openvino.Model, num_threads: int, form: str):
        self._core, self._model, self._num_threads = core, model, num_threads
        self._pass_size = PASS_SIZES[form]
        self._local = threading.local()
        self._of_pixels = self._compile(openvino.Type.u8)
        self._of_mixed_pixels: openvino.CompiledModel | None = None
        self._lock = threading.Lock()

    def _compile(self, pixel_type: openvino.Type) -> openvino.CompiledModel:
        """Compile it for images (n, s, s, 3) of a type; the model itself stays as it is."""
        prepared = openvino.preprocess.PrePostProcessor(self._model.clone())
        prepared.input().tensor().set_element_type(pixel_type).set_layout(openvino.Layout("NHWC"))
        prepared.input().model().set_layout(openvino.Layout("NCHW"))
        settings = {
            "NUM_STREAMS": self._num_threads,
            "INFERENCE_NUM_THREADS": self._num_threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        return self._core.compile_model(prepared.build(), "CPU", settings)

    def run(self, images: np.ndarray, views: Sequence[View]) -> tuple[np.ndarray, np.ndarray]:
        """Compute logits and features; see `nonet.inference.backends.choice.Network`."""
        passes = self._views_of(images, views)
        outputs = [self._infer(some) for some in batches(passes, self._pass_size)]
        logits = np.concatenate([each[0] for each in outputs]).reshape(len(views), len(images), -1)
        features = np.concatenate([each[1] for each in outputs])[: len(images)]
        return logits.mean(0, dtype=np.float32), features

    def _views_of(self, images: np.ndarray, views: Sequence[View]) -> np.ndarray:
        """Return all views of images, one view after another: uint8, or float32 where pixels were mixed."""
        if all(view.is_exact for view in views):
            return np.concatenate([view.of_pixels(images) for view in views])
        import torch  # turns by any angle are those of training

        from nonet.models.tensors import see, to_device

        tensor = to_device(images, torch.device("cpu"))
        seen = torch.cat([see(tensor, view) for view in views])
        return np.ascontiguousarray(seen.permute(0, 2, 3, 1).numpy())

    def _infer(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs = self._request(pixels.dtype).infer([pixels])
        return outputs["logits"], outputs["features"]

    def _request(self, dtype: np.dtype) -> openvino.InferRequest:
        name = dtype.name
        if not hasattr(self._local, name):
            setattr(self._local, name, self._compiled(dtype).create_infer_request())
        return getattr(self._local, name)

    def _compiled(self, dtype: np.dtype) -> openvino.CompiledModel:
        if dtype == np.uint8:
            return self._of_pixels
        with self._lock:
            if self._of_mixed_pixels is None:
                self._of_mixed_pixels = self._compile(openvino.Type.f32)
        return self._of_mixed_pixels


class OpenVinoBackend:
    """Runs networks with OpenVINO; see `nonet.inference.backends.choice.Backend`.

    Parameters
    ----------
    run : Run
    recipe : Recipe
        Of the run.
    num_classes : int
        Length of the logits.
    form : {"openvino", "openvino-int8"}
        In single precision, or in int8, which `nonet.inference.int8_networks` has made.
    """

    block_size = 8

    def __init__(self, run: Run, recipe: Recipe, num_classes: int, *, form: str = "openvino"):
        self.run, self.recipe, self.num_classes = run, recipe, num_classes
        self.form = form
        self.num_threads = num_processors()
        self.blocks_at_once = 4 * self.num_threads
        # For good, as each of its threads has an inference request for each network.
        self.pool = ThreadPoolExecutor(self.num_threads, thread_name_prefix="networks")
        self.core = openvino.Core()

    def load(self, members: Sequence[Member]) -> list[OpenVinoNetwork]:
        """Load members' networks, and make OpenVINO's form of those that have none yet.

        Parameters
        ----------
        members : sequence of Member

        Returns
        -------
        list of OpenVinoNetwork

        Raises
        ------
        DamagedError
            If a file does not contain the weights of its member, or a form in int8 was damaged just now.
        """
        if self.form == "openvino":
            models = self.read_or_make(members)
        else:
            models = {member.name: self.form_of(member, self.form).read(self.core) for member in members}

        def make_network(member: Member) -> OpenVinoNetwork:
            return OpenVinoNetwork(self.core, models[member.name], self.num_threads, self.form)

        networks = self.map(make_network, members)
        if networks:
            # In this thread: what OpenVINO's Python part sets up at its first inference deadlocks between two threads,
            # one of which has Python's lock and the other that of the set-up.
            size_px = get_crop(members[0].architecture, self.recipe.models).size_px
            networks[0].run(np.zeros((1, size_px, size_px, 3), dtype=np.uint8), no_views())
        return networks

    def map(self, function: Callable, tasks: Iterable) -> list:
        """Call a function with each task, in a thread per processor."""
        return list(self.pool.map(function, tasks))

    def form_of(self, member: Member, kind: str) -> Compiled:
        """Return where a form of a member's network is kept."""
        return Compiled(kind, member, self.recipe.models, self.num_classes)

    def read_or_make(self, members: Sequence[Member]) -> "dict[str, openvino.Model]":
        """Return networks in single precision by name of the member; what is not kept in the run is made."""
        forms = {member.name: self.form_of(member, "openvino") for member in members}
        is_whole = self.map(lambda member: forms[member.name].is_whole(), members)
        missing = [member for member, whole in zip(members, is_whole, strict=True) if not whole]
        made = self._make(missing) if missing else {}
        return made | {name: form.read(self.core) for name, form in forms.items() if name not in made}

    def _make(self, members: Sequence[Member]) -> "dict[str, openvino.Model]":
        from nonet.inference.backends.conversion import to_openvino
        from nonet.inference.backends.pytorch import TorchBackend

        torch_backend = TorchBackend(self.run, self.recipe, self.num_classes, "cpu")
        models = {}
        bar = progress(total=len(members), description="preparing networks for OpenVINO, once", unit="networks")
        with bar:
            for member in members:
                (network,) = torch_backend.load([member])
                model = to_openvino(network.module, get_crop(member.architecture, self.recipe.models).size_px)
                models[member.name] = self._keep(self.form_of(member, "openvino"), model)
                bar.update()
        return models

    def _keep(self, form: Compiled, model: "openvino.Model") -> "openvino.Model":
        """Write a form, and return what was written: the same run gives the same numbers the first time and later.

        Where it cannot be written, because the run is read-only or the disk is full, it is written elsewhere for now.
        """
        try:
            form.write(model)
            return form.read(self.core)
        except StorageError as error:
            logger.warning(f"The network that was prepared for OpenVINO cannot be kept: {error.message}")
        # Windows keeps files that are in use; the rest are gone, although OpenVINO reads on.
        with tempfile.TemporaryDirectory(prefix="nonet-", ignore_cleanup_errors=True) as folder:
            structure, weights = Path(folder, form.structure.name), Path(folder, form.weights.name)
            openvino.serialize(model, structure, weights)
            return self.core.read_model(structure, weights)
