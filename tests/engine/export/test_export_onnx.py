"""ONNX exports run in ONNX Runtime as the masked model runs in torch."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from secateur.engine.dependencies import trace
from secateur.engine.errors import BadInput
from secateur.engine.export import Mismatch, export
from secateur.engine.export.onnx_file import Onnx
from secateur.engine.masks import Masks, masked
from secateur.engine.models import open_model
from secateur.engine.models.build import from_module
from secateur.engine.outputs import compare_outputs, named_tensors
from secateur.engine.patterns import PATTERNS
from secateur.engine.verify import verify


def masks_of(model, pattern, sparsity) -> Masks:
    kind = PATTERNS.parse(pattern)
    layers = {
        row.path: kind.mask(model.matrix(row.path).abs(), sparsity, row.gemm)
        for row in model.info.prunable
    }
    if not kind.removes:
        return Masks(layers)
    channels = trace(model)
    names = {name: mask for path, mask in layers.items() for name in channels.vectors(path)}
    return Masks(layers, {name: mask.any(dim=1) for name, mask in names.items()})


@pytest.fixture(scope="module")
def digits():
    return open_model("sample:digits-resnet")


@pytest.fixture(scope="module")
def exported(digits, tmp_path_factory):
    masks = masks_of(digits, "element", 0.5)
    folder = tmp_path_factory.mktemp("onnx")
    return masks, export(digits, masks, "onnx", folder / "digits.onnx")


def test_it_runs_as_the_masked_model_at_any_batch_size(digits, exported):
    masks, done = exported
    assert done.equal
    assert done.max_difference < 1e-4
    session = onnxruntime.InferenceSession(done.path)
    for batch in (1, 5):
        (images,), _ = digits.inputs(batch)
        with masked(digits, masks), torch.no_grad():
            expected = digits.module(images).numpy()
        (found,) = session.run(["output"], {"x": images.numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-4)
    with torch.no_grad():
        assert not np.allclose(found, digits.module(images).numpy(), atol=1e-2)


def test_weights_keep_their_names_and_zeros(exported, digits):
    masks, done = exported
    proto = onnx.load(done.path)
    onnx.checker.check_model(proto)
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    learned = {name for name, _ in digits.module.named_parameters()}
    assert learned <= weights.keys()
    mask = masks.layers["layer1.0.conv1"].numpy().reshape(weights["layer1.0.conv1.weight"].shape)
    assert np.array_equal(weights["layer1.0.conv1.weight"] != 0, mask)
    assert {row.name for row in done.tensors} == weights.keys()


def test_no_path_of_this_machine_goes_into_the_file(exported):
    data = exported[1].path.read_bytes()
    assert str(Path(torch.__file__).parent).encode() not in data
    assert b".py" not in data
    assert b"layer1.0.conv1" in data
    assert not any(len(node.metadata_props) for node in onnx.load_from_string(data).graph.node)


def test_nothing_is_printed(digits, tmp_path, capfd):
    export(digits, Masks(), "onnx", tmp_path / "x.onnx")
    assert tuple(capfd.readouterr()) == ("", "")


def test_outputs_that_are_gone_make_it_smaller(digits, tmp_path):
    masks = masks_of(digits, "filter", 0.5)
    before = {name: tensor.clone() for name, tensor in digits.state.items()}
    done = export(digits, masks, "onnx", tmp_path / "small.onnx")
    assert done.equal
    rows = {row.name: row for row in done.tensors}
    assert rows["layer1.0.conv1.weight"].shape == (8, 16 - 4, 3, 3)
    assert done.bytes < 0.7 * done.dense_bytes
    assert all(torch.equal(tensor, before[name]) for name, tensor in digits.state.items())
    assert verify(done.path, digits, masks).equal


def test_resnet18_runs_as_in_torch(tmp_path):
    model = open_model("torchvision:resnet18")
    masks = masks_of(model, "nm:2:4", 0.5)
    done = export(model, masks, "onnx", tmp_path / "resnet18.onnx")
    assert done.equal
    checked = verify(done.path, model, masks)
    assert checked.equal
    assert checked.max_difference <= 1e-4
    assert checked.relative <= 1e-4
    assert checked.agreement == 1.0


def test_a_hugging_face_model_takes_inputs_by_name_and_gives_logits(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=60, n_embd=32, n_layer=1, n_head=2, n_positions=32, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    model = open_model(str(tmp_path / "gpt2"))
    masks = masks_of(model, "element", 0.5)
    done = export(model, masks, "onnx", tmp_path / "gpt2.onnx")
    session = onnxruntime.InferenceSession(done.path)
    assert {i.name: i.shape for i in session.get_inputs()} == {
        "input_ids": ["batch", "sequence"],
        "attention_mask": ["batch", "sequence"],
    }
    assert [o.name for o in session.get_outputs()] == ["logits"]
    assert done.notes == ("lm_head.weight shares its weight with transformer.wte.weight; "
        "it is stored once",)  # fmt: skip
    for length in (5, 32):
        ids = torch.randint(60, (3, length))
        mask = torch.ones_like(ids)
        mask[1, -2:] = 0
        with masked(model, masks), torch.no_grad():
            expected = model.module(ids, attention_mask=mask).logits.numpy()
        given = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        np.testing.assert_allclose(session.run(["logits"], given)[0], expected, atol=1e-4)
    assert model.module.config.use_cache
    checked = verify(done.path, model, masks)
    assert checked.equal
    assert checked.agreement == 1.0


class Translates(nn.Module):
    """An encoder and a decoder that read texts of different lengths."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 4)
        self.out = nn.Linear(4, 20)

    def forward(self, input_ids, decoder_input_ids):
        read, said = self.words(input_ids), self.words(decoder_input_ids)
        return self.out(said + (said @ read.transpose(1, 2)).softmax(-1) @ read)


def test_an_encoder_and_a_decoder_have_lengths_of_their_own(tmp_path):
    ids = lambda batch: torch.arange(8).repeat(batch, 1)  # noqa: E731
    inputs = lambda n: ((), {"decoder_input_ids": ids(n), "input_ids": ids(n)})  # noqa: E731
    model = from_module(Translates(), address="mine", name="mine", inputs=inputs)
    done = export(model, Masks(), "onnx", tmp_path / "x.onnx")
    session = onnxruntime.InferenceSession(done.path)
    assert {i.name: i.shape for i in session.get_inputs()} == {
        "input_ids": ["batch", "sequence"],
        "decoder_input_ids": ["batch", "decoder_sequence"],
    }
    given = {"input_ids": ids(3), "decoder_input_ids": ids(3)[:, :2]}
    with torch.no_grad():
        expected = model.module(**given).numpy()
    (found,) = session.run(None, {name: value.numpy() for name, value in given.items()})
    np.testing.assert_allclose(found, expected, atol=1e-4)


class Placed(nn.Module):
    """Reads texts of one length: it has a place for each token and for no other."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 4)
        self.places = nn.Parameter(torch.randn(6, 4))

    def forward(self, input_ids):
        return self.words(input_ids) + self.places


def test_a_length_that_cannot_be_free_is_said(tmp_path):
    inputs = lambda batch: ((), {"input_ids": torch.arange(6).repeat(batch, 1)})  # noqa: E731
    model = from_module(Placed(), address="mine", name="mine", inputs=inputs)
    done = export(model, Masks(), "onnx", tmp_path / "x.onnx")
    assert done.notes == (
        "the length of texts could not be left open; it is fixed at 6 (input_ids)",
        "the file takes no attention_mask, so padding would be read as text",
    )
    assert onnxruntime.InferenceSession(done.path).get_inputs()[0].shape == ["batch", 6]


def test_a_file_that_answers_otherwise_is_thrown_away(digits, tmp_path, monkeypatch):
    target = tmp_path / "x.onnx"
    target.write_text("old")
    write = Onnx.write

    def write_then_damage(self, source, path):
        draft = write(self, source, path)
        proto = onnx.load(path)
        bias = next(t for t in proto.graph.initializer if t.name == "fc.bias")
        values = onnx.numpy_helper.to_array(bias) + np.float32(0.01)
        bias.CopyFrom(onnx.numpy_helper.from_array(values, "fc.bias"))
        onnx.save(proto, path)
        return draft

    monkeypatch.setattr(Onnx, "write", write_then_damage)
    with pytest.raises(Mismatch, match=r"differ by up to 0\.01.*unchanged"):
        export(digits, Masks(), "onnx", target)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x):
        return self.a(x)


class OneByOne(Plain):
    """Its loop over the batch can't be left open."""

    def forward(self, x):
        return torch.stack([self.a(row) * (i + 1) for i, row in enumerate(x)])


class Branches(Plain):
    """Traced on a batch of two it would always scale."""

    def forward(self, x):
        return self.a(x) if len(x) == 1 else self.a(x) * 2


class Untraceable(Plain):
    def forward(self, x):
        return self.a(x) * float(np.asarray(x.sum().item()) > 0)


def model_of(module):
    inputs = lambda batch: ((torch.ones(batch, 4),), {})  # noqa: E731
    return from_module(module, address="mine", name="mine", inputs=inputs)


@pytest.mark.parametrize("kind", [OneByOne, Branches])
def test_a_batch_that_cannot_be_free_is_fixed_and_said(tmp_path, kind):
    done = export(model_of(kind()), Masks(), "onnx", tmp_path / "x.onnx")
    assert done.notes == ("the batch size could not be left open; it is fixed at 1",)
    assert onnxruntime.InferenceSession(done.path).get_inputs()[0].shape == [1, 4]
    assert export(model_of(Plain()), Masks(), "onnx", tmp_path / "y.onnx").notes == ()


def test_what_torch_cannot_trace_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="cannot trace mine for ONNX"):
        export(model_of(Untraceable()), Masks(), "onnx", tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_what_onnx_runtime_cannot_run_is_bad_input(tmp_path):
    inputs = lambda batch: ((torch.ones(batch, 4, dtype=torch.bfloat16),), {})  # noqa: E731
    model = from_module(Plain().bfloat16(), address="mine", name="mine", inputs=inputs)
    with pytest.raises(BadInput, match=r"ONNX Runtime.*export to compressed or safetensors"):
        export(model, Masks(), "onnx", tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_a_model_without_an_example_is_bad_input(tmp_path):
    model = from_module(Plain(), address="mine", name="mine", inputs=None)
    with pytest.raises(BadInput, match="no example input"):
        export(model, Masks(), "onnx", tmp_path / "x.onnx")


def test_outputs_get_names():
    one, two = torch.zeros(1), torch.ones(2)
    assert list(named_tensors(one)) == ["output"]
    assert list(named_tensors((one, [two, None]))) == ["output.0", "output.1.0"]
    assert list(named_tensors({"out": one, "aux": (two, object())})) == ["out", "aux.0"]


@pytest.mark.parametrize(
    ("expected", "found", "equal"),
    [
        ([1.0, -2.0], [1.0, -2.0], True),
        ([1.0, -2.0], [1.00009, -2.0], True),
        ([1.0, -2.0], [1.0002, -2.0], False),
        ([1000.0, 1.0], [1000.009, 1.0], True),
        ([1000.0, 1.0], [1000.011, 1.0], False),
        ([1e-6, 2e-6], [2e-6, 1e-6], False),
        ([1.0, float("nan")], [1.0, float("nan")], True),
        ([1.0, 2.0], [1.0, float("nan")], False),
        ([1.0, float("inf")], [1.0, float("inf")], True),
        ([1.0, float("inf")], [1.0, 3.0], False),
        ([0.0, 0.0], [0.0, 0.0], True),
    ],
)
def test_the_tolerance_is_absolute_and_scales_with_large_outputs(expected, found, equal):
    result = compare_outputs(
        {"output": torch.tensor(expected, dtype=torch.float64)},
        {"output": torch.tensor(found, dtype=torch.float64)},
    )
    assert result.equal is equal
    assert np.isfinite([result.max_difference, result.relative, result.tolerance]).all()


def test_half_precision_has_its_own_tolerance():
    expected, found = torch.tensor([4.0, 1.0]).half(), torch.tensor([4.0, 1.002]).half()
    assert compare_outputs({"a": expected}, {"a": found}).equal
    assert not compare_outputs({"a": expected}, {"a": found + 0.1}).equal
