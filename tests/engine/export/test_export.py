"""Exports to safetensors: exact, read back before they are done, and safe for the old file."""

import json
import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, load_model, save_file
from torch import nn

from secateur.engine.errors import BadInput
from secateur.engine.export import Mismatch, export
from secateur.engine.export.compressed_file import CompressedFile, pack
from secateur.engine.export.dense_file import DenseFile
from secateur.engine.gemm import Gemm
from secateur.engine.masks import Masks
from secateur.engine.models import exported as load_module
from secateur.engine.models import open_model
from secateur.engine.models.archive import About, from_lanes, read_state, to_lanes
from secateur.engine.models.build import from_module
from secateur.engine.patterns import PATTERNS
from secateur.kernels.selection.select import keep_n_of_m


def masks_of(model, pattern, sparsity=0.5, only="") -> Masks:
    """Masks by magnitude on every layer that the pattern fits."""
    kind = PATTERNS.parse(pattern)
    return Masks(
        {
            row.path: kind.mask(model.matrix(row.path).abs(), sparsity, row.gemm)
            for row in model.info.prunable
            if row.path.startswith(only) and kind.misfit(row) is None
        }
    )


def names_in(folder):
    return [path.name for path in folder.iterdir()]


@pytest.fixture(scope="module")
def digits():
    return open_model("sample:digits-resnet")


class Odd(nn.Module):
    """Every kind of storage that the GEMM view knows, shared weights, and odd tensors."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.conv = nn.Conv2d(4, 6, 3, groups=2)
        self.up = nn.ConvTranspose2d(6, 4, 3, groups=2)
        self.lstm = nn.LSTM(6, 5)
        self.attention = nn.MultiheadAttention(8, 2)
        self.half = nn.Linear(8, 6).half()
        self.brain = nn.Linear(7, 5).bfloat16()
        self.head = nn.Linear(6, 11)
        self.head.weight = self.embed.weight
        self.late = nn.Linear(6, 11)
        self.late.weight = nn.Parameter(torch.randn(11, 6))
        self.twin = nn.Linear(6, 11, bias=False)
        self.twin.weight = self.late.weight
        self.register_buffer("steps", torch.tensor(7))
        self.register_buffer("flags", torch.tensor([True, False]))
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("strange", torch.tensor([float("nan"), -0.0, float("inf")]))


def odd_model():
    torch.manual_seed(0)
    return from_module(Odd(), address="odd", name="odd", inputs=None)


@pytest.mark.parametrize("format", ["safetensors", "compressed"])
@pytest.mark.parametrize("pattern", ["element", "nm:2:4", "group", "filter", "block:2x2"])
def test_every_layer_kind_comes_back_exactly(tmp_path, format, pattern):
    model = odd_model()
    masks = masks_of(model, pattern)
    done = export(model, masks, format, tmp_path / "out.safetensors")
    assert (done.equal, done.max_difference) == (True, 0.0)
    state = read_state(done.path)
    assert list(state.keys() ^ model.state.keys()) == []
    for name, tensor in masks.committed(model).items():
        assert state[name].dtype == tensor.dtype
        assert torch.equal(state[name].nan_to_num(), tensor.nan_to_num())
    for path, mask in masks.layers.items():
        matrix = model.info.layer(path).gemm.view(state[model.info.layer(path).weight])
        assert torch.equal(matrix != 0, mask & (model.matrix(path) != 0))
    assert names_in(tmp_path) == ["out.safetensors"]
    assert done.bytes == done.path.stat().st_size


def test_a_mask_on_a_shared_weight_holds_for_every_name(tmp_path):
    model = odd_model()
    masks = masks_of(model, "element", only="late")
    done = export(model, masks, "safetensors", tmp_path / "out.safetensors")
    with safe_open(done.path, "pt") as file:
        assert "twin.weight" not in file.keys()  # noqa: SIM118 - safe_open is no mapping
        assert file.metadata()["twin.weight"] == "late.weight"
    assert any("twin.weight" in note or "head.weight" in note for note in done.notes)
    state = read_state(done.path)
    assert torch.equal(state["twin.weight"], state["late.weight"])
    assert int((state["twin.weight"] == 0).sum()) == 33
    other = Odd()
    assert load_model(other, done.path) == (set(), [])
    assert torch.equal(other.twin.weight, state["late.weight"])
    assert model.state["late.weight"].count_nonzero() == 66


def test_dense_safetensors_load_elsewhere_under_their_own_names(tmp_path, digits):
    masks = masks_of(digits, "element", 0.9)
    done = export(digits, masks, "safetensors", tmp_path / "out.safetensors")
    with safe_open(done.path, "pt") as file:
        assert file.metadata()["format"] == "pt"
    state = load_file(done.path)
    assert state.keys() == digits.state.keys()
    mask = masks.layers["conv1"].view_as(state["conv1.weight"])
    assert torch.equal(state["conv1.weight"], digits.state["conv1.weight"] * mask)


def test_vectors_are_committed(tmp_path, digits):
    dead = torch.zeros(16, dtype=torch.bool)
    masks = Masks({}, {"bn1.bias": dead, "bn1.weight": ~dead})
    done = export(digits, masks, "compressed", tmp_path / "out.safetensors")
    state = read_state(done.path)
    assert not state["bn1.bias"].any()
    assert torch.equal(state["bn1.weight"], digits.state["bn1.weight"])


@pytest.mark.parametrize(
    ("pattern", "sparsity", "format"),
    [("element", 0.5, "bitmap"), ("element", 0.97, "csc"), ("group", 0.5, "grouped"),
     ("nm:2:4", 0.5, "nm:2:4"), ("nm:1:8", 0.875, "nm:1:8"), ("element", 0.0, "dense")],
)  # fmt: skip
def test_compressed_takes_the_smallest_format(tmp_path, digits, pattern, sparsity, format):
    masks = masks_of(digits, pattern, sparsity)
    done = export(digits, masks, "compressed", tmp_path / "out.safetensors")
    rows = {row.name: row for row in done.tensors}
    row = rows["layer3.0.conv2.weight"]
    assert row.format == format
    assert row.dense_bytes == 64 * 576 * 4
    assert row.bytes <= row.dense_bytes * (1 - sparsity) + 64 * 576 * 0.17
    if format == "csc":  # its rows have fewer numbers than its columns; here both fit one byte
        assert rows["layer1.0.conv1.weight"].format == "csr"
    assert rows["layer3.0.bn2.weight"].format == "dense"
    assert sum(r.bytes for r in done.tensors) < done.bytes
    json.dumps(done.to_json(), allow_nan=False)


@pytest.mark.parametrize("name", ["digits-resnet", "digits-vit"])
def test_compressed_is_never_larger_than_dense_by_more_than_a_few_bytes(tmp_path, name):
    model = open_model(f"sample:{name}")
    sizes = [
        export(model, Masks(), kind, tmp_path / kind).bytes
        for kind in ("compressed", "safetensors")
    ]
    assert sizes[0] - sizes[1] <= 16
    assert read_state(tmp_path / "compressed").keys() == model.state.keys()


def test_nm_along_the_channels_is_found_too():
    gemm = Gemm((8, 16, 3, 3), (3, 3))
    weight = torch.randn(gemm.stored)
    lanes = to_lanes(gemm.view(weight), gemm)
    assert torch.equal(lanes[1], weight[0, :, 0, 1])
    assert torch.equal(from_lanes(lanes, gemm), gemm.view(weight))
    lanes = lanes.masked_fill(~keep_n_of_m(lanes.abs(), 2, 4), 0)
    weight = gemm.store(from_lanes(lanes, gemm))
    entry, parts = pack(weight, gemm)
    assert (entry["format"], entry["order"], entry["meta"]["m"]) == ("nm", "channel", 4)
    assert sum(p.nbytes for p in parts.values()) == weight.nbytes // 2 + weight.numel() // 8


def test_a_bare_state_dict_exports(tmp_path):
    torch.manual_seed(0)
    save_file(
        {"a.weight": torch.randn(8, 16), "a.bias": torch.randn(8)}, tmp_path / "in.safetensors"
    )
    model = open_model(str(tmp_path / "in.safetensors"))
    for kind in ("safetensors", "compressed"):
        done = export(model, masks_of(model, "element"), kind, tmp_path / kind)
        assert int((read_state(done.path)["a.weight"] == 0).sum()) == 64
    with pytest.raises(BadInput, match="--arch"):
        export(model, Masks(), "onnx", tmp_path / "out.onnx")


def test_bad_targets_are_bad_input(tmp_path, digits):
    with pytest.raises(BadInput, match="did you mean 'safetensors'"):
        export(digits, Masks(), "safetensor", tmp_path / "x")
    with pytest.raises(BadInput, match="folder"):
        export(digits, Masks(), "compressed", tmp_path)
    with pytest.raises(BadInput, match="no such folder"):
        export(digits, Masks(), "compressed", tmp_path / "missing" / "x")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("kind", [DenseFile, CompressedFile])
def test_a_file_that_reads_back_otherwise_is_thrown_away(tmp_path, digits, monkeypatch, kind):
    target = tmp_path / "out.safetensors"
    target.write_text("old")
    write = kind.write

    def write_then_damage(self, source, path):
        draft = write(self, source, path)
        data = bytearray(path.read_bytes())
        data[-3] ^= 0x40  # a bit of the last value
        path.write_bytes(data)
        return draft

    monkeypatch.setattr(kind, "write", write_then_damage)
    name = {DenseFile: "safetensors", CompressedFile: "compressed"}[kind]
    with pytest.raises(Mismatch, match=r"differs by up to .*unchanged"):
        export(digits, Masks(), name, target)
    assert target.read_text() == "old"
    assert names_in(tmp_path) == ["out.safetensors"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_the_old_file_survives_a_disk_that_fills(tmp_path):
    """A limit on the size of files gives the very errors that a full disk gives."""
    for name in ("onnx", "safetensors", "compressed"):
        (tmp_path / name).write_text("old")
    program = """
        import resource, sys
        from pathlib import Path
        from secateur.engine.errors import BadInput
        from secateur.engine.export import export
        from secateur.engine.masks import Masks
        from secateur.engine.models import open_model
        model = open_model("sample:digits-resnet")
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
        for kind in ("onnx", "safetensors", "compressed"):
            try:
                export(model, Masks(), kind, Path(sys.argv[1]) / kind)
            except BadInput as error:
                print(kind, error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), tmp_path],
        capture_output=True, text=True, timeout=120, cwd="/",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["onnx", "safetensors", "compressed"]
    assert all("disk is full" in line and "unchanged" in line for line in lines)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == dict.fromkeys(
        ["onnx", "safetensors", "compressed"], "old"
    )


def test_load_gives_the_sample_back(tmp_path, digits):
    masks = masks_of(digits, "element", 0.8)
    for kind in ("safetensors", "compressed"):
        path = export(digits, masks, kind, tmp_path / f"{kind}.safetensors").path
        module = load_module.load(path)
        assert type(module) is type(digits.module)
        assert not module.training
        state = masks.committed(digits)
        assert all(torch.equal(t, state[n]) for n, t in module.state_dict().items())
    same = load_module.load(path, arch="sample:digits-resnet")
    assert torch.equal(same.conv1.weight, module.conv1.weight)
    with pytest.raises(BadInput, match="does not fit sample:digits-vit"):
        load_module.load(path, arch="sample:digits-vit")


def test_load_of_an_unknown_architecture_says_how_to_name_it(tmp_path, digits):
    done = export(odd_model(), Masks(), "compressed", tmp_path / "odd.safetensors")
    with pytest.raises(BadInput, match="name it with arch"):
        load_module.load(done.path)
    save_file({k: v.detach() for k, v in digits.state.items()}, tmp_path / "plain.safetensors")
    with pytest.raises(BadInput, match="name it with arch"):
        load_module.load(tmp_path / "plain.safetensors")
    module = load_module.load(tmp_path / "plain.safetensors", arch="sample:digits-resnet")
    assert torch.equal(module.fc.weight, digits.state["fc.weight"])


def rewrite(path, **changes):
    """Change the fields of what a file says of itself."""
    state, text = load_file(path), None
    with safe_open(path, "pt") as file:
        text = json.loads(file.metadata()["secateur"])
    save_file(state, path, metadata={"secateur": json.dumps({**text, **changes})})


def test_damaged_files_are_bad_input(tmp_path, digits):
    path = export(digits, masks_of(digits, "element"), "compressed", tmp_path / "a").path
    whole = path.read_bytes()
    about = About.read(path)
    with pytest.raises(BadInput, match="no such file"):
        load_module.load(tmp_path / "missing")
    for cut in (4, 100, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(BadInput, match=r"truncated|no safetensors"):
            load_module.load(path)
    path.write_bytes(whole)
    for changes in (
        {"version": 99},
        {"surprise": 1},
        {"tied": {"x": "nothing"}},
        {"tensors": {"conv1.weight": {"format": "bitmap"}}},
        {"tensors": {**about.tensors, "conv1.weight": {**about.tensors["conv1.weight"],
                                                       "format": "csr"}}},
        {"tensors": {**about.tensors, "conv1.weight": {**about.tensors["conv1.weight"],
                                                       "meta": {"shape": [3, 3]}}}},
    ):  # fmt: skip
        path.write_bytes(whole)
        rewrite(path, **changes)
        with pytest.raises(BadInput, match=r"damaged|version"):
            load_module.load(path)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    from transformers import BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=32,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder)
    return open_model(str(folder))


def test_a_hugging_face_model_needs_no_folder_to_come_back(tmp_path, bert):
    masks = masks_of(bert, "element", only="bert.encoder")
    done = export(bert, masks, "compressed", tmp_path / "bert.safetensors")
    module = load_module.load(done.path)
    assert type(module).__name__ == "BertForMaskedLM"
    assert module.cls.predictions.decoder.weight is module.bert.embeddings.word_embeddings.weight
    _, kwargs = bert.inputs(2)
    dense = load_module.load(export(bert, Masks(), "safetensors", tmp_path / "d").path)
    with torch.no_grad():
        assert torch.equal(dense(**kwargs).logits, bert.module(**kwargs).logits)
        assert not torch.equal(module(**kwargs).logits, bert.module(**kwargs).logits)
