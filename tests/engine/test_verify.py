"""Verifying says whether a file answers as the model does."""

import json

import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from secateur.engine.errors import BadInput
from secateur.engine.export import export
from secateur.engine.masks import Masks
from secateur.engine.models import open_model
from secateur.engine.models.build import from_module
from secateur.engine.patterns import PATTERNS
from secateur.engine.verify import verify


@pytest.fixture(scope="module")
def digits():
    return open_model("sample:digits-resnet")


@pytest.fixture(scope="module")
def masks(digits):
    kind = PATTERNS.parse("element")
    return Masks(
        {
            row.path: kind.mask(digits.matrix(row.path).abs(), 0.6, row.gemm)
            for row in digits.info.prunable
        }
    )


@pytest.fixture(scope="module")
def files(digits, masks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return {
        kind: export(digits, masks, kind, folder / f"x.{kind}").path
        for kind in ("onnx", "safetensors", "compressed")
    }


@pytest.mark.parametrize("format", ["onnx", "safetensors", "compressed"])
def test_an_export_agrees_with_the_masked_model(digits, masks, files, format):
    found = verify(files[format], digits, masks)
    assert found.equal
    assert found.agreement == 1.0
    assert found.inputs == 359
    assert found.max_difference <= (1e-4 if format == "onnx" else 0.0)
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("format", ["onnx", "compressed"])
def test_a_pruned_file_is_not_the_dense_model(digits, files, format):
    found = verify(files[format], digits)
    assert not found.equal
    assert found.relative > 0.1
    assert 0.0 < found.agreement < 1.0


def test_the_weights_stay_as_they_were(digits, masks, files):
    before = digits.digest()
    verify(files["compressed"], digits, masks)
    assert digits.digest() == before


def test_one_changed_weight_is_found(digits, masks, files, tmp_path):
    state = load_file(files["safetensors"])
    state["fc.bias"][3] += 0.01
    save_file(state, tmp_path / "changed.safetensors")
    found = verify(tmp_path / "changed.safetensors", digits, masks)
    assert not found.equal
    assert found.max_difference == pytest.approx(0.01, rel=1e-3)
    assert found.agreement > 0.9


def test_plain_safetensors_of_elsewhere_are_verified_too(digits, masks, files, tmp_path):
    save_file(load_file(files["safetensors"]), tmp_path / "plain.safetensors")
    assert verify(tmp_path / "plain.safetensors", digits, masks).equal


def test_a_state_dict_is_compared_by_its_weights(tmp_path):
    save_file({"a.weight": torch.arange(1.0, 13).view(3, 4)}, tmp_path / "in.safetensors")
    model = open_model(str(tmp_path / "in.safetensors"))
    pruned = Masks({"a": torch.eye(3, 4, dtype=torch.bool)})
    done = export(model, pruned, "compressed", tmp_path / "out.safetensors")
    found = verify(done.path, model, pruned)
    assert (found.equal, found.inputs, found.agreement) == (True, 0, None)
    found = verify(done.path, model)
    assert (found.equal, found.max_difference) == (False, 12.0 - 0.0)


def test_a_fixed_batch_is_met(tmp_path):
    torch.manual_seed(0)
    inputs = lambda batch: ((torch.rand(batch, 5, generator=torch.Generator().manual_seed(0)),), {})  # noqa: E731
    model = from_module(nn.Linear(5, 3), address="mine", name="mine", inputs=inputs)
    path = export(model, Masks(), "onnx", tmp_path / "x.onnx").path
    proto = onnx.load(path)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(proto, path)
    found = verify(path, model)
    assert found.equal
    assert found.inputs == 16


@pytest.mark.parametrize("format", ["onnx", "safetensors", "compressed"])
@pytest.mark.parametrize("cut", [0, 6, 2000, -1])
def test_truncated_files_are_bad_input(digits, files, tmp_path, format, cut):
    path = tmp_path / f"cut.{'onnx' if format == 'onnx' else 'safetensors'}"
    path.write_bytes(files[format].read_bytes()[:cut])
    with pytest.raises(BadInput, match=r"truncated|safetensors|ONNX Runtime"):
        verify(path, digits)


def test_foreign_files_are_bad_input(digits, files, tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        verify(tmp_path / "missing.onnx", digits)
    with pytest.raises(BadInput, match="folder"):
        verify(tmp_path, digits)
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(BadInput, match="cannot be opened by ONNX Runtime"):
        verify(tmp_path / "text.onnx", digits)
    vit = open_model("sample:digits-vit")
    state = {name: tensor.detach() for name, tensor in vit.state.items()}
    save_file(state, tmp_path / "vit.safetensors")
    with pytest.raises(BadInput, match="is no export of sample:digits-resnet"):
        verify(tmp_path / "vit.safetensors", digits)
    resnet = open_model("torchvision:resnet18")
    for file in files.values():
        with pytest.raises(BadInput, match=r"does not run|no export"):
            verify(file, resnet)
