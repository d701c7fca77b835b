"""Tables of numbers: HIGGS and other CSV files."""

import gzip

import numpy as np
import pytest
import torch
from torch import nn

from secateur.engine.data import load_data, table
from secateur.engine.data.evaluate import accuracy
from secateur.engine.errors import BadInput
from secateur.engine.models.build import from_module


def model_of(features):
    def inputs(count):
        return (torch.zeros(count, features),), {}

    module = nn.Linear(features, 2)
    return from_module(module, address="made", name="made", inputs=inputs)


def rows(count, features=28):
    """Labels, and features of which the first is the label and the second the row's number."""
    values = np.random.default_rng(0).normal(size=(count, features)).astype(np.float32)
    labels = np.arange(count) % 2
    values[:, 0], values[:, 1] = labels, np.arange(count)
    return labels, values


def write(path, labels, values, header=""):
    lines = [",".join([f"{label:.18e}", *(f"{v:.9e}" for v in row)])
             for label, row in zip(labels, values, strict=True)]  # fmt: skip
    text = header + "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["HIGGS.csv", "HIGGS.csv.gz"])
@pytest.mark.parametrize("lines", [7, 1 << 16])
def test_higgs_holds_its_last_rows_back(tmp_path, monkeypatch, name, lines):
    monkeypatch.setattr(table, "_LINES", lines)
    labels, values = rows(220)
    data = load_data(f"higgs:{write(tmp_path / name, labels, values)}", model_of(28))
    assert (len(data.train), len(data.validation), data.classes) == (210, 10, 2)
    assert data.train.inputs.dtype == torch.float32
    assert data.train.inputs.numpy() == pytest.approx(values[:210], rel=1e-6)
    assert data.validation.inputs[:, 1].tolist() == list(range(210, 220))
    assert data.validation.labels.tolist() == labels[210:].tolist()
    model = model_of(28)
    with torch.no_grad():
        model.module.weight.zero_()[1, 0] = 1
        model.module.bias.copy_(torch.tensor([0.5, 0]))
    assert accuracy(model.module, data) == 1


def test_a_share_of_eleven_million_is_the_published_one():
    assert 11_000_000 // table._HIGGS_HELD == 500_000


def test_a_csv_with_names_takes_its_label_by_name(tmp_path):
    (tmp_path / "t.csv").write_text(
        "a,b,Label\n" + "".join(f"{i},0.5,{i % 3}\n" for i in range(30))
    )
    data = load_data(f"csv:{tmp_path / 't.csv'}")
    assert data.classes == 3
    assert data.train.labels.bincount().tolist() == [8, 8, 8]
    assert (data.train.inputs[:, 0] % 3).tolist() == data.train.labels.tolist()
    assert (data.validation.inputs[:, 1] == 0.5).all()


def test_a_folder_with_a_file_for_each_split(tmp_path):
    write(tmp_path / "train.csv", *rows(10, 3))
    write(tmp_path / "test.csv", *rows(4, 3), header="y,a,b,c\n")
    data = load_data(f"csv:{tmp_path}")
    assert (len(data.train), len(data.validation)) == (10, 4)
    write(tmp_path / "test.csv", *rows(4, 5))
    with pytest.raises(BadInput, match="3 features to train on, but 5 to validate with"):
        load_data(f"csv:{tmp_path}")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "holds no numbers"),
        ("label,a\n", "holds no numbers"),
        ("1,2\n\n0,x\n", "numbers: line 3 has 'x', which is no number$"),
        ("label,a\n1,2\n# note\n0,3,4\n", "line 4 has 3 columns, and the lines before it 2$"),
        ("1,2\n" * 8 + "0\n" * 8, "line 9 has 1 columns, and the lines before it 2$"),
        ("1,2\n# note\n0,nan\n", "line 3 has NaN"),
        ("0.5,2\n0,1\n", "no column of class numbers"),
        ("0\n1\n", "no column of class numbers"),
        ("-1,2\n" * 5 + "1,2\n" * 5, "has label -1; labels must lie in 0…1"),
    ],
)
@pytest.mark.parametrize("lines", [2, 1 << 16])
def test_tables_that_will_not_do(tmp_path, monkeypatch, text, match, lines):
    monkeypatch.setattr(table, "_LINES", lines)
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(BadInput, match=match):
        load_data(f"csv:{tmp_path / 't.csv'}")


def test_features_that_do_not_match(tmp_path):
    file = write(tmp_path / "t.csv", *rows(20, 5))
    with pytest.raises(BadInput, match="has 5 features; HIGGS has 28"):
        load_data(f"higgs:{file}")
    with pytest.raises(BadInput, match="has 5 features, but the model takes 7 features"):
        load_data(f"csv:{file}", model_of(7))
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"1,2\n" * 1000)[:-9])
    with pytest.raises(BadInput, match="cannot be read"):
        load_data(f"csv:{tmp_path / 'cut.csv.gz'}")
