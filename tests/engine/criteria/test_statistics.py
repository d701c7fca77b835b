"""Statistics from calibration data against autograd by hand, and criteria in whole runs."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from secateur.engine.calibration.passes import Calibration, sharing
from secateur.engine.calibration.statistics import Collector
from secateur.engine.control import Control
from secateur.engine.criteria import CRITERIA, Statistics
from secateur.engine.data import Data, InMemory, load_data
from secateur.engine.errors import BadInput
from secateur.engine.events import Log
from secateur.engine.models import open_model
from secateur.engine.models.build import from_module
from secateur.engine.plan import Plan, Rule
from secateur.engine.project import Project, save_run
from secateur.engine.runs.runner import Run
from secateur.engine.views.preview import Context
from secateur.engine.views.views import Views


class Mixed(nn.Module):
    """Every kind of layer whose inputs can be seen; one more that is never used."""

    def __init__(self):
        super().__init__()
        self.plain = nn.Conv2d(2, 6, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(6, 4, (1, 3), groups=2, padding=(0, 2), dilation=2)
        self.deep = nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode="circular")
        self.up = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.line = nn.Conv1d(6, 5, 3)
        self.twice = nn.Linear(5, 5)
        self.head = nn.Linear(5, 3)
        self.unused = nn.Linear(5, 3)

    def forward(self, x):
        x = self.up(torch.tanh(self.deep(torch.tanh(self.grouped(torch.tanh(self.plain(x)))))))
        x = torch.tanh(x).flatten(2).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = torch.tanh(self.line(x.transpose(1, 2)).transpose(1, 2))
        return self.head(torch.tanh(self.twice(torch.tanh(self.twice(x)))).mean(1))


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(40, 2, 7, 6, generator=generator)
    labels = torch.randint(0, 3, (40,), generator=generator)
    return Data("made", InMemory(inputs, labels), InMemory(inputs[:5], labels[:5]), 3)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return from_module(Mixed(), address="made", name="made", inputs=None)


PATHS = ["plain", "grouped", "deep", "up", "attention.in_proj_weight", "attention.out_proj",
         "line", "twice", "head"]  # fmt: skip
SAMPLES = 35


def seen(data, seed=0):
    """The samples that a calibration with this seed takes."""
    inputs, labels = next(data.batches("train", SAMPLES, seed=seed, shuffle=True))
    return inputs, labels


def layers(model):
    return [model.info.layer(path) for path in PATHS]


def test_the_gradient_is_that_of_the_mean_loss(model, data):
    found, steps = Calibration(model.module, data).gradients(layers(model), SAMPLES)
    inputs, labels = seen(data)
    loss = F.cross_entropy(model.module(inputs), labels)
    weights = [model.module.get_parameter(layer.weight) for layer in layers(model)]
    for layer, wanted in zip(layers(model), torch.autograd.grad(loss, weights), strict=True):
        assert torch.allclose(found[layer.path], layer.gemm.view(wanted), atol=1e-6), layer.path
    assert steps == 2


@pytest.mark.parametrize("batch", [1, 4])
def test_squared_gradients_are_summed_batch_by_batch(model, data, batch):
    found = Calibration(model.module, data).squares(layers(model), SAMPLES, batch)
    inputs, labels = seen(data)
    weights = [model.module.get_parameter(layer.weight) for layer in layers(model)]
    sums = [torch.zeros_like(weight) for weight in weights]
    for x, y in zip(inputs.split(batch), labels.split(batch), strict=True):
        loss = F.cross_entropy(model.module(x), y, reduction="sum")
        for total, part in zip(sums, torch.autograd.grad(loss, weights), strict=True):
            total += part**2 / SAMPLES
    for layer, wanted in zip(layers(model), sums, strict=True):
        assert torch.allclose(found[layer.path], layer.gemm.view(wanted), atol=1e-6), layer.path


def columns(model, layer, inputs):
    """X[groups, in, positions] of one layer by autograd: row o of ∂y[o]/∂W is the column."""
    owner = model.module.get_submodule(layer.weight.rpartition(".")[0])
    calls = []
    handle = owner.register_forward_pre_hook(lambda module, args: calls.append(args[0].detach()))
    model.module(inputs)
    handle.remove()
    stored, gemm = model.weight(layer.path), layer.gemm
    outputs, parts = gemm.shape[0], []
    for x in calls:

        def run(weight, x=x):
            y = torch.func.functional_call(owner, {"weight": weight}, (x,))
            return y if gemm.kernel else y.reshape(-1, outputs).T.unsqueeze(0)

        jacobian = torch.autograd.functional.jacobian(run, stored)
        jacobian = jacobian.transpose(0, 1).reshape(outputs, -1, *gemm.stored)
        of_groups = []
        for o in range(0, outputs, outputs // gemm.groups):
            of_groups.append(torch.stack([gemm.view(part)[o] for part in jacobian[o]], dim=1))
        parts.append(torch.stack(of_groups))
    return torch.cat(parts, dim=2)


@pytest.mark.parametrize("path", [p for p in PATHS if "attention" not in p])
def test_inputs_are_what_the_weight_is_multiplied_with(model, data, path):
    samples = 6
    layer = model.info.layer(path)
    inputs = next(data.batches("train", samples, shuffle=True))[0]
    x = columns(model, layer, inputs)
    calibration = Calibration(model.module, data)
    norms = calibration.norms([layer], samples)[path]
    wanted = (x.square().sum(2) / samples).sqrt()
    assert torch.allclose(norms, wanted, atol=1e-5)
    hessian = calibration.hessian(layer, samples)
    assert torch.allclose(hessian, x @ x.transpose(1, 2) / samples, atol=1e-4)


def test_attentions_projections_see_queries_and_heads(model, data):
    inputs, _ = seen(data)
    attention = model.module.attention
    given = []
    handle = attention.register_forward_pre_hook(lambda module, args: given.append(args[0]))
    model.module(inputs)
    handle.remove()
    x = given[0].detach()
    q, k, v = (x @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, dim=-1)
    heads = []
    for part in (slice(0, 3), slice(3, 6)):
        scores = q[..., part] @ k[..., part].transpose(1, 2) / 3**0.5
        heads.append(scores.softmax(-1) @ v[..., part])
    inner = torch.cat(heads, dim=-1).detach().reshape(-1, 6)
    calibration = Calibration(model.module, data)
    into, out = (model.info.layer(f"attention.{n}") for n in ("in_proj_weight", "out_proj"))
    flat = x.reshape(-1, 6)
    assert torch.allclose(calibration.hessian(into, SAMPLES)[0], flat.T @ flat / SAMPLES, atol=1e-4)
    wanted = inner.T @ inner / SAMPLES
    assert torch.allclose(calibration.hessian(out, SAMPLES)[0], wanted, atol=1e-4)
    norms = calibration.norms([into, out], SAMPLES)
    assert torch.allclose(norms[out.path][0], wanted.diagonal().sqrt(), atol=1e-5)


def test_cross_attention_gives_each_third_its_own_inputs():
    class Cross(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.attention(x, 2 * x, value=3 * x)[0].mean(1))

    torch.manual_seed(0)
    model = from_module(Cross(), address="made", name="made", inputs=None)
    split = InMemory(torch.randn(8, 3, 4), torch.zeros(8, dtype=torch.int64))
    data = Data("made", split, split, 2)
    layer = model.info.layer("attention.in_proj_weight")
    hessian = Calibration(model.module, data).hessian(layer, 8)
    assert torch.allclose(hessian[1], 4 * hessian[0], rtol=1e-4)
    assert torch.allclose(hessian[2], 9 * hessian[0], rtol=1e-4)
    criterion = CRITERIA.parse("obs")
    statistics = Statistics(layer.path, 0, hessian=hessian)
    rule = Plan.from_json({"rules": [{"layers": "*", "pattern": "element", "sparsity": 0.5}]})
    weight = model.matrix(layer.path)
    pattern = rule.rules[0].pattern
    mask, updated = criterion.prune(weight, pattern, 0.5, layer.gemm, statistics)
    assert int(mask.sum()) == 24
    assert not updated[~mask].any()


def test_the_model_itself_is_left_alone(model, data):
    module = model.module
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.train()
    calibration = Calibration(module, data)
    calibration.gradients(layers(model), 8)
    calibration.squares(layers(model), 8, 4)
    calibration.norms(layers(model), 8)
    calibration.hessian(model.info.layer("head"), 8)
    assert module.training
    module.eval()
    assert all(p.grad is None and p.requires_grad for p in module.parameters())
    assert not any(part._forward_pre_hooks for part in module.modules())
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())
    copied = sharing(module)
    for name, parameter in copied.named_parameters():
        assert parameter.data_ptr() == module.get_parameter(name).data_ptr()
        assert parameter is not module.get_parameter(name)


def test_tied_weights_stay_tied_in_the_copy():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    copied = sharing(module)
    assert copied[0].weight is copied[1].weight


def test_movement_is_the_gradient_against_the_weight(model, data):
    criteria = dict.fromkeys(PATHS, CRITERIA.parse({"kind": "movement", "samples": SAMPLES}))
    collector = Collector(model.info, criteria, Calibration(model.module, data), model.matrix)
    gradients, steps = Calibration(model.module, data).gradients(layers(model), SAMPLES)
    for path in PATHS:
        wanted = -steps * model.matrix(path) * gradients[path]
        assert torch.allclose(collector.of(path).movement, wanted, atol=1e-6)


@pytest.mark.parametrize("kind", ["taylor", "fisher", "wanda", "obs"])
def test_a_layer_without_part_in_the_result_is_named(model, data, kind):
    collector = Collector(
        model.info, {"unused": CRITERIA.parse(kind)}, Calibration(model.module, data), model.matrix
    )
    with pytest.raises(BadInput, match="unused has no part"):
        collector.of("unused")


def test_a_loss_that_is_not_finite_is_said(data):
    torch.manual_seed(0)
    made = from_module(Mixed(), address="made", name="made", inputs=None)
    with torch.no_grad():
        made.module.head.bias[0] = torch.nan
    with pytest.raises(BadInput, match="the loss on made is NaN"):
        Calibration(made.module, data).gradients(layers(made), 8)


def test_one_pass_serves_all_layers_and_hessians_are_not_kept(model, data):
    passes = []
    criteria = {path: CRITERIA.parse("wanda") for path in PATHS}
    criteria |= {"head": CRITERIA.parse("obs"), "twice": CRITERIA.parse("taylor")}
    calibration = Calibration(model.module, data, check=lambda: passes.append(1))
    collector = Collector(model.info, criteria, calibration, model.matrix)
    collector.of("plain")
    count = len(passes)
    collector.of("line")
    assert len(passes) == count
    collector.of("head")
    kept = collector.nbytes
    assert kept < model.matrix("head").nbytes + 4 * sum(
        la.gemm.groups * la.gemm.shape[1] for la in layers(model)
    )
    collector.renew()
    assert collector.nbytes == 0


def plan(kind, sparsity=0.5, **more):
    rules = [{"layers": "*", "pattern": "element", "criterion": kind, "sparsity": sparsity}]
    return Plan.from_json({"rules": rules, **more})


@pytest.mark.parametrize("kind", list(CRITERIA.kinds()))
@pytest.mark.parametrize("name", ["digits-resnet", "digits-vit"])
def test_runs_repeat_and_previews_show_their_masks(kind, name):
    model = open_model(f"sample:{name}")
    before = {key: tensor.clone() for key, tensor in model.state.items()}
    asked = plan({"kind": kind, "samples": 64} if CRITERIA.kinds()[kind].needs else kind, seed=7)
    runs = [Run(model, asked) for _ in range(2)]
    for run in runs:
        list(run.events())
    views = Views(model)
    rule = asked.rules[0]
    for path, mask in runs[0].masks.layers.items():
        assert torch.equal(mask, runs[1].masks.layers[path])
        box = (0, 0, *mask.shape)
        meta, arrays = views.tile(path, "magnitude", box, (999, 999), rule, context=Context(7))
        if rule.criterion.updates_weights:
            assert "after the run" in meta["waits"]
        else:
            assert torch.equal(torch.from_numpy(arrays["density"] == 255), mask), path
    assert all(torch.equal(t, before[key]) for key, t in model.state.items())
    assert runs[0].outcome.trained == rule.criterion.updates_weights


def test_updated_weights_reach_the_project(tmp_path):
    model = open_model("sample:digits-resnet")
    asked = plan("obs")
    run = Run(model, asked)
    list(run.events())
    outcome = run.outcome
    assert outcome.trained
    assert outcome.model.state is not model.state
    for path, mask in run.masks.layers.items():
        updated = outcome.model.matrix(path)
        assert not updated[~mask].any()
        assert not torch.equal(updated[mask], model.matrix(path)[mask])
    result = outcome.report.to_json()
    save_run(tmp_path / "p", outcome.model, outcome.trained, outcome.masks, result, asked)
    again, masks = Project.open(tmp_path / "p").load()
    for path, mask in masks.layers.items():
        assert torch.equal(again.matrix(path), outcome.model.matrix(path))
        assert torch.equal(mask, run.masks.layers[path])
    # Where single weights go at 50 %, the update is what keeps the network alive.
    magnitude = Run(model, plan("magnitude"))
    list(magnitude.events())
    assert outcome.report.accuracy_pruned > magnitude.outcome.report.accuracy_pruned + 0.5


@pytest.mark.parametrize("kind", ["taylor", "obs", "movement"])
def test_a_schedule_takes_scores_anew_at_each_step(kind):
    asked = plan({"kind": kind, "samples": 32}, schedule={"kind": "agp", "every": 10},
                 training={"epochs": 2})  # fmt: skip
    run = Run(open_model("sample:digits-resnet"), asked)
    events = list(run.events())
    said = [e.text for e in events if isinstance(e, Log)]
    assert any("32 samples" in text for text in said)
    for layer in run.outcome.report.layers:
        assert abs(layer.zeros - 0.5 * layer.weights) <= 1
    for path, mask in run.masks.layers.items():
        assert not run.outcome.model.matrix(path)[~mask].any()


def test_without_data_a_plan_says_what_to_add():
    model = open_model("sample:digits-resnet")
    bare = dataclasses.replace(model, info=dataclasses.replace(model.info, data=None))
    with pytest.raises(BadInput, match=r"wanda takes calibration data.*training: \{data"):
        Run(bare, plan("wanda"))
    Run(bare, plan("wanda", training={"data": "sample:digits", "epochs": 0}))
    views = Views(bare)
    rule = plan("wanda").rules[0]
    meta, _ = views.tile("conv1", "magnitude", (0, 0, 16, 9), (16, 9), rule)
    assert "the model brings none" in meta["waits"]
    context = Context(0, "sample:digits")
    meta, _ = views.tile("conv1", "magnitude", (0, 0, 16, 9), (16, 9), rule, context=context)
    assert meta["waits"] is None
    assert meta["achieved"] == 0.5


def test_a_rule_that_its_criterion_cannot_follow_is_refused():
    rules = [{"layers": "layer1.*", "pattern": "filter", "criterion": "obs", "sparsity": 0.5}]
    with pytest.raises(BadInput, match=r"layer1.0.conv1 loses whole outputs with"):
        Run(open_model("sample:digits-resnet"), Plan.from_json({"rules": rules}))


def test_a_run_can_be_cancelled_while_it_calibrates():
    control = Control()
    run = Run(open_model("sample:digits-resnet"), plan("fisher"), control=control)
    kinds = []
    for event in run.events():
        kinds.append(event.kind)
        if event.kind == "progress" and "calibration" in event.text:
            control.cancel()
    assert kinds[-1] == "cancelled"


def errors(name, word, kinds, sparsity):
    """Relative squared error of each layer's outputs, by layer and criterion."""
    model = open_model(f"sample:{name}")
    data = load_data(model.info.data)
    found = {}
    rule: Rule = Plan.from_json({"rules": [{"layers": "*", "pattern": word, "sparsity": 0.5}]}
                                ).rules[0]  # fmt: skip
    for layer in model.info.prunable:
        criteria = {kind: CRITERIA.parse(kind) for kind in kinds}
        hessian = Calibration(model.module, data).hessian(layer, 256)
        norms = hessian.diagonal(dim1=1, dim2=2).sqrt()
        known = Statistics(layer.path, 0, inputs=norms, hessian=hessian)
        weight = model.matrix(layer.path)

        def cost(change, hessian=hessian):
            split = change.view(len(hessian), -1, hessian.shape[-1])
            return float(torch.einsum("goi,gij,goj->", split, hessian, split))

        for kind, criterion in criteria.items():
            mask, new = criterion.prune(weight, rule.pattern, sparsity, layer.gemm, known)
            new = weight * mask if new is None else new
            found.setdefault(layer.path, {})[kind] = cost(new - weight) / cost(weight)
    return found


@pytest.mark.parametrize("name", ["digits-resnet", "digits-vit"])
@pytest.mark.parametrize("word", ["element", "nm:2:4"])
def test_sparsegpt_reconstructs_every_layer_better_than_magnitude(name, word):
    for sparsity in (0.5, 0.7) if word == "element" else (0.5,):
        for path, found in errors(name, word, ("magnitude", "wanda", "obs"), sparsity).items():
            assert found["obs"] < found["magnitude"], (path, sparsity)
            assert found["obs"] < found["wanda"], (path, sparsity)
