"""Text in GLUE's files and in folders of `datasets`, with the model's own tokenizer."""

import io
import json

import pyarrow
import pytest
import torch
import transformers
from PIL import Image
from torch import nn

from secateur.engine.calibration.passes import Calibration
from secateur.engine.data import Data, InMemory, forward, load_data, to_device
from secateur.engine.data.evaluate import accuracy, check_fits
from secateur.engine.errors import BadInput
from secateur.engine.models import open_model
from secateur.engine.plan import Plan
from secateur.engine.runs.runner import Run

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "very", "the"]


def save_bert(folder, labels=2, names=None, vocabulary=True, positions=16):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, num_labels=labels, max_position_embeddings=positions,
        **({"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
           if names else {}),
    )  # fmt: skip
    transformers.utils.logging.disable_progress_bar()
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    if vocabulary:
        (folder / "vocab.txt").write_text("\n".join(WORDS))
    return str(folder)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return open_model(save_bert(tmp_path_factory.mktemp("bert")))


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def sst2(tmp_path):
    rows = ["the film good\t1", "very bad film\t0", "good\t1", "bad the film\t0"]
    write(tmp_path / "SST-2" / "train.tsv", "sentence\tlabel\n" + "\n".join(rows * 5) + "\n")
    write(tmp_path / "SST-2" / "dev.tsv", "sentence\tlabel\n" + "\n".join(rows) + "\n")
    return tmp_path / "SST-2"


def test_a_tsv_becomes_the_models_tokens(bert, sst2):
    data = load_data(f"glue:{sst2}", bert)
    assert (len(data.train), len(data.validation), data.classes) == (20, 4, 2)
    inputs, labels = next(data.batches("validation", 4))
    assert labels.tolist() == [1, 0, 1, 0]
    assert set(inputs) == {"input_ids", "token_type_ids", "attention_mask"}
    assert inputs["input_ids"][0].tolist() == [2, 9, 7, 5, 3]
    assert inputs["input_ids"][2].tolist() == [2, 5, 3, 0, 0]
    assert inputs["attention_mask"][2].tolist() == [1, 1, 1, 0, 0]
    short = load_data(f"glue:{sst2}?length=3", bert)
    assert next(short.batches("validation", 4))[0]["input_ids"].shape == (4, 3)


def test_text_passes_through_accuracy_calibration_and_back(bert, sst2):
    data = load_data(f"glue:{sst2}", bert)
    module = bert.module
    check_fits(module, data)
    inputs, labels = next(data.batches("validation", 4))
    right = forward(module, to_device(inputs, "cpu")).logits.argmax(1) == labels
    assert accuracy(module, data) == right.double().mean()
    layers = [layer for layer in bert.info.prunable if "query" in layer.path]
    calibration = Calibration(module, data, seed=1)
    gradients, _ = calibration.gradients(layers, 6)
    inputs, labels = next(data.batches("train", 6, seed=1, shuffle=True))
    loss = nn.functional.cross_entropy(forward(module, inputs).logits, labels)
    weight = module.get_parameter(layers[0].weight)
    (expected,) = torch.autograd.grad(loss, [weight])
    assert torch.allclose(gradients[layers[0].path], expected, atol=1e-7)
    assert calibration.norms(layers, 6)[layers[0].path].shape == (1, 16)


def test_a_plan_prunes_a_text_model_by_its_inputs(bert, sst2):
    rule = {"layers": "*query", "pattern": "element", "criterion": "wanda", "sparsity": 0.5}
    training = {"data": f"glue:{sst2}", "epochs": 0}
    run = Run(bert, Plan.from_json({"rules": [rule], "training": training}), device="cpu")
    for _ in run.events():
        pass
    assert run.outcome.report.accuracy_dense is not None
    assert run.outcome.report.layers[0].achieved == 0.5


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("index\tsentence1\tsentence2\tlabel", "0\tthe film\tgood\t{}"),
        ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "0\t1\t2\tthe film\tgood\t{}"),
        ("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", "{}\t1\t2\tthe film\tgood"),
        ("index\tquestion\tsentence\tlabel", "0\tthe film\tgood\t{}"),
        ("premise\thypothesis\tlabel", "the film\tgood\t{}"),
    ],
)
def test_pairs_by_the_names_of_their_columns(bert, tmp_path, header, row):
    rows = [row.format(i % 2) for i in range(10)]
    write(tmp_path / "train.tsv", "\n".join([header, *rows]))
    write(tmp_path / "dev_matched.tsv", "\r\n".join([header, *rows]))
    data = load_data(f"glue:{tmp_path}", bert)
    inputs, labels = next(data.batches("validation", 2))
    assert labels.tolist() == [0, 1]
    assert inputs["input_ids"][0].tolist() == [2, 9, 7, 3, 5, 3]
    assert inputs["token_type_ids"][0].tolist() == [0, 0, 0, 0, 1, 1]


def test_cola_has_no_header_and_one_file_is_split(bert, tmp_path):
    rows = [f"gj04\t{i % 2}\t\tthe film {i}" for i in range(20)]
    file = write(tmp_path / "cola.tsv", "\n".join(rows))
    data = load_data(f"glue:{file}", bert)
    assert data.train.labels.bincount().tolist() == [8, 8]
    assert data.validation.labels.bincount().tolist() == [2, 2]
    texts = [*data.train.first, *data.validation.first]
    assert sorted(texts) == sorted(f"the film {i}" for i in range(20))
    parity = [int(text.split()[-1]) % 2 for text in data.validation.first]
    assert parity == data.validation.labels.tolist()


def test_label_names_are_numbered_as_the_model_says(tmp_path):
    names = ["ENTAILMENT", "NEUTRAL", "CONTRADICTION"]
    model = open_model(save_bert(tmp_path / "bert", 3, names))
    labels = ["neutral", "entailment", "contradiction", "-", "neutral"]
    rows = [json.dumps({"sentence1": "the", "sentence2": "film", "gold_label": x}) for x in labels]
    write(tmp_path / "set" / "train.jsonl", "\n".join(rows))
    write(tmp_path / "set" / "dev.jsonl", "\n".join(rows))
    data = load_data(f"glue:{tmp_path / 'set'}", model)
    assert data.validation.labels.tolist() == [1, 0, 2, 1]
    assert data.notes == (
        "2 examples have no label and are left out",
        "classes by number: entailment, neutral, contradiction",
    )
    alone = load_data(f"glue:{tmp_path / 'set'}?tokenizer={tmp_path / 'bert'}")
    assert alone.validation.labels.tolist() == [2, 1, 0, 2]


def test_lines_that_lack_columns_are_left_out_and_noted(bert, tmp_path):
    write(tmp_path / "train.tsv", "sentence\tlabel\ngood\t1\nbroken\nbad\t0\n")
    write(tmp_path / "dev.tsv", "sentence\tlabel\ngood\t1\n")
    data = load_data(f"glue:{tmp_path}", bert)
    assert len(data.train) == 2
    assert data.notes == (
        "1 lines of train.tsv lack columns and are left out",
        "validation has no example of 1 class (0), so the accuracy says nothing about it",
    )


@pytest.mark.parametrize(
    ("train", "match"),
    [
        ("sentence\tscore\ngood\t1\n", r"no label column \(label.*found: sentence, score"),
        ("words\tlabel\ngood\t1\n", r"no text column \(sentence1\+sentence2.*found: words, label"),
        ("sentence\tlabel\n", "holds no line"),
        ("", "is empty"),
        ("sentence\tlabel\ngood\t-1\n", "holds no labelled examples"),
        ("sentence\tlabel\n" + "".join(f"good\t{i / 3:.3f}\n" for i in range(200)), "not classes"),
    ],
)
def test_tables_that_will_not_do(bert, tmp_path, train, match):
    file = write(tmp_path / "train.tsv", train)
    with pytest.raises(BadInput, match=match):
        load_data(f"glue:{file}", bert)


def test_files_that_will_not_do(bert, tmp_path):
    write(tmp_path / "train.jsonl", '{"sentence": "good", "label": 1}\n[1]\n')
    with pytest.raises(BadInput, match=r"no file to validate with \(validation\.tsv, "):
        load_data(f"glue:{tmp_path}", bert)
    with pytest.raises(BadInput, match="line 2 is no JSON object"):
        load_data(f"glue:{tmp_path / 'train.jsonl'}", bert)
    (tmp_path / "bad.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="cannot be read as text"):
        load_data(f"glue:{tmp_path / 'bad.tsv'}", bert)
    with pytest.raises(BadInput, match="there is no"):
        load_data(f"glue:{tmp_path / 'none'}", bert)
    with pytest.raises(BadInput, match="write glue:PATH"):
        load_data("glue:", bert)


def test_a_model_without_a_tokenizer(sst2, tmp_path):
    bare = open_model(save_bert(tmp_path, vocabulary=False))
    with pytest.raises(BadInput, match=r"holds no tokenizer; keep.*\?tokenizer=PATH"):
        load_data(f"glue:{sst2}", bare)
    with pytest.raises(BadInput, match="the model has no tokenizer"):
        load_data(f"glue:{sst2}", open_model("sample:digits-resnet"))


def test_labels_beyond_the_models_scores(bert, sst2):
    write(sst2 / "dev.tsv", "sentence\tlabel\ngood\t2\n")
    with pytest.raises(BadInput, match="has 3 classes, the model gives 2 scores"):
        check_fits(bert.module, load_data(f"glue:{sst2}", bert))


def test_images_are_not_for_a_model_of_text(bert):
    with pytest.raises(BadInput, match="the model cannot take the inputs of sample:digits"):
        check_fits(bert.module, load_data("sample:digits", bert))


def test_named_inputs_in_memory():
    inputs = {"x": torch.arange(6.0).view(6, 1), "y": torch.ones(6, 1)}
    split = InMemory(inputs, torch.arange(6))
    data = Data("made", split, split, 6)
    got, labels = list(data.batches("train", 4, most=5))[1]
    assert labels.tolist() == [4]
    assert {name: value.tolist() for name, value in got.items()} == {"x": [[4.0]], "y": [[1.0]]}


def save_to_disk(folder, columns):
    """What `Dataset.save_to_disk` of `datasets` writes, as far as a reader needs it."""
    folder.mkdir(parents=True)
    table = pyarrow.table(columns)
    half = table.num_rows // 2
    files = []
    for number, part in enumerate((table[:half], table[half:])):
        files.append({"filename": f"data-{number:05}-of-00002.arrow"})
        with (
            pyarrow.OSFile(str(folder / files[-1]["filename"]), "wb") as sink,
            pyarrow.ipc.new_stream(sink, table.schema) as writer,
        ):
            writer.write_table(part)
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_split": None}))
    (folder / "dataset_info.json").write_text("{}")


def test_a_folder_of_datasets(bert, tmp_path):
    texts = {"sentence": ["good", "bad film", "the", "very"], "label": [1, 0, -1, 1]}
    for split in ("train", "validation"):
        save_to_disk(tmp_path / "set" / split, texts)
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    for address in (f"datasets:{tmp_path / 'set'}", str(tmp_path / "set")):
        data = load_data(address, bert)
        inputs, labels = next(data.batches("validation", 4))
        assert labels.tolist() == [1, 0, 1]
        assert inputs["input_ids"][1].tolist() == [2, 6, 7, 3]
        assert data.notes == ("2 examples have no label and are left out",)


def test_images_in_a_folder_of_datasets(tmp_path):
    def encoded(shade):
        out = io.BytesIO()
        Image.new("RGB", (9, 9), (shade, 0, 0)).save(out, "PNG")
        return {"bytes": out.getvalue(), "path": None}

    columns = {"img": [encoded(20 * i) for i in range(10)], "label": [i % 2 for i in range(10)]}
    save_to_disk(tmp_path / "set", columns)
    data = load_data(f"datasets:{tmp_path / 'set'}?size=9")
    assert (len(data.train), len(data.validation)) == (8, 2)
    assert data.validation.labels.tolist() in ([0, 1], [1, 0])
    inputs, labels = data.train.take(torch.arange(8))
    red = (inputs[:, 0, 0, 0] * 0.229 + 0.485) * 255
    assert torch.allclose((red / 20).round() % 2, labels.float())


def test_a_folder_that_datasets_did_not_write(tmp_path):
    with pytest.raises(BadInput, match="was not written by datasets' save_to_disk"):
        load_data(f"datasets:{tmp_path}")
    (tmp_path / "dataset_dict.json").write_text("{}")
    with pytest.raises(BadInput, match="has no split 'train'"):
        load_data(f"datasets:{tmp_path}")
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "none.arrow"}]}')
    (tmp_path / "dataset_dict.json").unlink()
    with pytest.raises(BadInput, match="cannot be read"):
        load_data(f"datasets:{tmp_path}")
