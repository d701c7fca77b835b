"""A project on disk: which model, which plan, what it came to. Versioned and written atomically.

A folder with ``project.json`` (version, model address, architecture, hash of the weights, plan),
``plan.yaml`` (the same plan for people), ``masks.safetensors`` (one bit a weight),
``levels.safetensors`` (only with nested levels: which of them keep each weight),
``weights.safetensors`` (only after training), ``report.json`` and ``report.html``, and while a run
is under way ``checkpoint.pt``. Importing this module needs no torch: the studio saves
plans with it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from .errors import BadInput, NeedsConsent
from .files import check_readable, replacing
from .levels import index_of
from .named_folder import FILE, what_is
from .plan import Plan
from .plan.text import write_text

if TYPE_CHECKING:
    from .masks import Masks
    from .models.model import Model
    from .nested import Levels

VERSION = 1


@dataclass(frozen=True)
class Project:
    """What ``project.json`` says, and where the rest lies. `digest` is None until it was run."""

    folder: Path
    address: str
    plan: Plan
    arch: str | None = None
    digest: str | None = None

    @classmethod
    def is_project(cls, path: Path) -> bool:
        """Whether `path` is a project's folder."""
        return (path / FILE).is_file()

    @classmethod
    def open(cls, folder: str | Path) -> Project:
        """Read a project; raises BadInput for any other folder, or one of a newer version."""
        folder = Path(folder)
        if not folder.is_dir():
            raise BadInput(f"{folder}: no such project folder; 'secateur prune --out' makes one")
        try:
            data = json.loads((folder / FILE).read_text(encoding="utf-8"))
            version = data["version"]
            if version != VERSION:
                raise BadInput(f"{folder} was written by a newer Secateur (version {version})")
            address, *named = data["model"], data["arch"], data["hash"]
            if not isinstance(address, str) or not all(isinstance(n, str | None) for n in named):
                raise TypeError("model, arch and hash must be words")
            return cls(folder, address, Plan.from_json(data["plan"]), *named)
        except FileNotFoundError:
            raise BadInput(what_is(folder)) from None
        except KeyError as error:
            raise BadInput(f"{folder / FILE} is damaged: it has no {error}") from None
        except (ValueError, TypeError) as error:
            raise BadInput(f"{folder / FILE} is damaged: {error}") from None

    def save(self) -> None:
        """Write ``project.json`` and ``plan.yaml``; makes the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        data = {
            "version": VERSION,
            "model": self.address,
            "arch": self.arch,
            "hash": self.digest,
            "plan": self.plan.to_json(),
        }
        with replacing(self.folder / "plan.yaml") as temporary:
            write_text(temporary, self.plan.to_json())
        write_json(self.folder / FILE, data)

    def report(self) -> dict[str, Any] | None:
        """The last run's report, or None before the first run."""
        path = self.folder / "report.json"
        if not path.exists():
            return None
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise BadInput(f"{path} is damaged: {error}") from None

    def open_model(self, arch: str | None = None, trust_pickle: bool = False) -> Model:
        """The model as it was before the run; `arch` wins over what the project says.

        A project is a file from outside too: raises NeedsConsent where it names code that is not
        ours as the architecture, and neither `arch` nor `trust_pickle` says that this is wanted.
        """
        from .models import open_model
        from .models.architecture import is_built_in

        if arch is None and self.arch is not None and not (trust_pickle or is_built_in(self.arch)):
            raise NeedsConsent(
                f"{self.folder} builds its network by running {self.arch}; if you trust that, "
                f"pass --arch {self.arch}"
            )
        return open_model(self.address, arch=arch or self.arch, trust_pickle=trust_pickle)

    def load(
        self, arch: str | None = None, trust_pickle: bool = False, level: float | None = None
    ) -> tuple[Model, Masks]:
        """The model with the run's weights, and its masks (not applied); see `open_model`.

        With nested levels the masks are those of `level`, None: of the loosest. Raises BadInput for
        a level that there is not, if the model is no longer the one that was pruned, or if nothing
        was run yet.
        """
        from .masks import Masks

        masks_file = self.folder / "masks.safetensors"
        if self.digest is None or not masks_file.exists():
            raise BadInput(f"{self.folder} holds a plan that has not been run; prune first")
        model = self.open_model(arch, trust_pickle)
        if model.digest() != self.digest:
            raise BadInput(
                f"{self.address} has changed since {self.folder} was made from it; "
                "put the old weights back or prune again"
            )
        weights = self.folder / "weights.safetensors"
        if weights.exists():
            model = _with_weights(model, weights)
        masks = Masks.load(masks_file)
        _check_masks(model, masks, masks_file)
        if level is not None:
            levels = self.levels(masks)
            names = levels.sparsities if levels else ()
            place = index_of(names, level, self.folder)
            masks = levels.masks[place] if levels else masks
        return model, masks

    def levels(self, loosest: Masks) -> Levels | None:
        """The nested levels of the run, of which `load` gives the loosest; None: it has none."""
        from .nested import FILE as LEVELS
        from .nested import Levels

        path = self.folder / LEVELS
        return Levels.load(path, loosest) if path.exists() else None


def save_run(
    folder: Path,
    model: Model,
    trained: bool,
    masks: Masks,
    report: dict[str, Any],
    plan: Plan,
    levels: Levels | None = None,
) -> None:
    """Write a finished run as a project; what was there before is replaced file by file."""
    from .nested import FILE as LEVELS
    from .report.html import render

    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "weights.safetensors"
    if trained:
        _save_weights(model, weights)
    masks.save(folder / "masks.safetensors")
    if levels is not None:
        levels.save(folder / LEVELS)
    write_json(folder / "report.json", report)
    with replacing(folder / "report.html") as temporary:
        temporary.write_text(render(report), encoding="utf-8")
    if not trained:
        weights.unlink(missing_ok=True)
    if levels is None:
        (folder / LEVELS).unlink(missing_ok=True)
    address = _address_of(model)
    Project(folder, address, plan, model.arch, report["hash"]).save()
    (folder / "checkpoint.pt").unlink(missing_ok=True)


def save_times(folder: Path, measured: dict[str, Any]) -> dict[str, Any]:
    """Write what ``measure`` found of a finished run into its report, and the page anew.

    Gives the report; raises BadInput for a folder that holds no finished run.
    """
    from .report.html import render

    report = Project.open(folder).report()
    if report is None:
        raise BadInput(f"{folder} holds a plan that has not been run; prune first")
    report["measured"] = measured
    write_json(folder / "report.json", report)
    with replacing(folder / "report.html") as temporary:
        temporary.write_text(render(report), encoding="utf-8")
    return report


def save_as(
    folder: Path, address: str, arch: str | None, plan: Plan, run: Path | None = None
) -> None:
    """Write a plan for the model at `address` as a project, with the results of folder `run`.

    Raises BadInput for a folder that holds something else.
    """
    make_folder(folder)
    project = Project(folder, address, plan, arch)
    if run is not None:
        done = Project.open(run)
        if run.resolve() != folder.resolve():
            shutil.copytree(run, folder, dirs_exist_ok=True)
        project = replace(done, folder=folder, plan=plan)
    project.save()


def check_folder(folder: Path) -> None:
    """Raise BadInput unless `folder` is new, empty or a project's: nothing else is written into."""
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file; name a folder for the project")
    if Project.is_project(folder):
        try:
            Project.open(folder)
        except BadInput as error:
            raise BadInput(f"{error}; name a new or empty folder") from None
    elif folder.is_dir() and any(folder.iterdir()) and not (folder / "checkpoint.pt").exists():
        raise BadInput(f"{folder} holds other files; name a new or empty folder")


def check_same_run(folder: Path, model: Model, plan: Plan) -> None:
    """Raise BadInput if `folder` is the project of another model or plan, which a run would lose.

    The same model is one with the same weights; before the first run, one of the same address.
    """
    if not Project.is_project(folder):
        return
    there = Project.open(folder)
    same_address = there.address == _address_of(model)
    if there.digest != model.digest() if there.digest else not same_address:
        other = "other weights" if same_address else "another model"
    elif there.plan.to_json() != plan.to_json():
        other = "another plan"
    else:
        return
    raise BadInput(
        f"{folder} already holds a project of {there.address}, and this run has {other}; name "
        "another folder, or replace what is there with --restart"
    )


def make_folder(folder: Path) -> None:
    """Make the folder of a project to be; raises BadInput where it cannot be written to."""
    check_folder(folder)
    make_writable(folder)


def make_writable(folder: Path) -> None:
    """Make a folder unless it is there; raises BadInput where it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written to: {error.strerror}") from None


def _address_of(model: Model) -> str:
    """The model's address, as it is found from any working folder."""
    path = Path(model.address)
    return str(path.resolve()) if path.exists() else model.address


def write_json(path: Path, data: Any) -> None:
    """Write `data` as JSON; the old file survives a failure."""
    with replacing(path) as temporary:
        text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _save_weights(model: Model, path: Path) -> None:
    from safetensors.torch import save_file

    seen: dict[int, str] = {}
    tensors = {}
    for name, tensor in model.state.items():
        if tensor.numel() == 0 or seen.setdefault(tensor.data_ptr(), name) == name:
            tensors[name] = tensor.detach().cpu().contiguous()
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


def _with_weights(model: Model, path: Path) -> Model:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_readable(path)
    module = model.runnable()
    try:
        # Tied names are stored once, so some are missing on purpose.
        found = module.load_state_dict(load_file(path), strict=False)
    except (SafetensorError, RuntimeError, OSError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None
    if found.unexpected_keys:
        raise BadInput(f"{path} does not fit {model.address}: {found.unexpected_keys[0]}")
    return replace(model, state=module.state_dict())


def _check_masks(model: Model, masks: Masks, path: Path) -> None:
    for name, mask in masks.layers.packed.items():
        try:
            gemm = model.info.layer(name).gemm
        except KeyError:
            raise BadInput(f"{path} does not fit {model.address}: no layer {name}") from None
        if gemm is None or mask.shape != gemm.shape:
            raise BadInput(f"{path} does not fit {model.address}: {name} has another shape")
