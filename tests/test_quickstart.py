"""The main job on a few films: real files, a real second process."""

import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from PIL import Image

from sklearn_cxr import quickstart
from sklearn_cxr.datasets import make_chest_xrays

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "quickstart.py"


def write_kermany_shaped(root, n_train=60, n_test=16):
    start = 0
    for split, n in (("train", n_train), ("test", n_test)):
        films = make_chest_xrays(n, n_patients=n, image_size=48, random_state=start)
        for name in ("NORMAL", "PNEUMONIA"):
            (root / split / name).mkdir(parents=True)
        for i, (film, label) in enumerate(zip(films.images, films.target, strict=True)):
            number = start + i
            file = (
                f"NORMAL/IM-{number:04d}-0001.jpeg",
                f"PNEUMONIA/person{number}_bacteria_1.jpeg",
                f"PNEUMONIA/person{number}_virus_1.jpeg",
            )[label]
            Image.fromarray(film).save(root / split / file)
        start += 1000


def test_on_a_kermany_shaped_folder(tmp_path, capfd):
    write_kermany_shaped(tmp_path / "chest_xray")
    table = quickstart.run(data=tmp_path / "chest_xray", output=tmp_path / "out", n_jobs=1)
    assert list(table.index) == ["held-out patients", "official test split"]
    assert table.loc["official test split", "images"] == 16
    out = capfd.readouterr().out
    assert "60 films of 60 patients" in out
    assert "P(pneumonia) = 0." in out or "P(pneumonia) = 1." in out
    with Image.open(tmp_path / "out" / "roc.png") as picture:
        assert picture.size == (605, 550)
    model = joblib.load(tmp_path / "out" / "model.joblib")
    assert model["read"].cache_dir is None

    # The last row once more, from the saved file and the folder names alone.
    files = sorted((tmp_path / "chest_xray" / "test").rglob("*.jpeg"))
    ill = np.array([file.parent.name == "PNEUMONIA" for file in files])
    score = model.predict_proba([str(file) for file in files])[:, 1]
    right = (score >= 0.5) == ill
    pairs = score[ill][:, None] - score[~ill]
    row = table.loc["official test split"]
    assert 0 < ill.sum() < len(files)
    assert row["patients"] == 16 and row["pneumonia"] == f"{ill.mean():.0%}"
    assert row["AUC"] == pytest.approx(np.mean(pairs > 0) + np.mean(pairs == 0) / 2)
    assert row["accuracy"] == pytest.approx(right.mean())
    assert row["sensitivity"] == pytest.approx(right[ill].mean())
    assert row["specificity"] == pytest.approx(right[~ill].mean())
    for value in row[["AUC", "accuracy", "sensitivity", "specificity"]]:
        assert f"{value:.3f}" in out


def test_figures_are_those_of_the_definition():
    result = quickstart.pd.DataFrame(
        {
            "y": [1, 1, 1, 0, 0],
            "probability": [0.9, 0.5, 0.2, 0.6, 0.1],
            "patient": ["a", "a", "b", "c", "c"],
        }
    )
    figures = quickstart.judge(result)
    assert (figures["images"], figures["patients"], figures["pneumonia"]) == (5, 3, "60%")
    # Pairs (ill, well) in the right order: 2 + 1 + 1 of 6.
    assert figures["AUC"] == pytest.approx(4 / 6)
    assert figures["accuracy"] == pytest.approx(3 / 5)
    assert figures["sensitivity"] == pytest.approx(2 / 3)
    assert figures["specificity"] == pytest.approx(1 / 2)


def test_phantoms_are_written_as_files(tmp_path, capfd):
    paths, y, groups = quickstart.write_phantoms(tmp_path / "films", n_samples=12)
    assert len(paths) == len(y) == len(groups) == 12
    phantoms = make_chest_xrays(12, random_state=0)
    assert phantoms.target_names == ["normal", "bacterial", "viral"]
    assert y.tolist() == (phantoms.target > 0).astype(int).tolist() and set(y) == {0, 1}
    assert groups.tolist() == phantoms.groups.tolist()
    for path, image in zip(paths, phantoms.images, strict=True):
        with Image.open(path) as film:
            np.testing.assert_array_equal(np.asarray(film), image)
    assert sorted(map(str, (tmp_path / "films").iterdir())) == paths.tolist()
    assert "Writing phantom films: 100%" in capfd.readouterr().err


def test_a_film_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch, capfd):
    def fail(self, file):
        Path(file).write_bytes(b"half a film")
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        quickstart.write_phantoms(tmp_path / "films", n_samples=3)
    assert list((tmp_path / "films").iterdir()) == []


def test_the_example_file_is_the_same_command():
    done = subprocess.run(
        [sys.executable, EXAMPLE, "--help"], capture_output=True, text=True, check=True
    )
    assert "--data DATA" in done.stdout
    assert "python -m sklearn_cxr.quickstart" in done.stdout


def test_the_quickstart_on_real_films(data_root, tmp_path):
    """The main job as a user runs it; 0.916 was measured on the official test split."""
    table = quickstart.run(data=data_root / "chest_xray", output=tmp_path, n_jobs=2)
    assert table.loc["official test split", "images"] == 624
    assert table.loc["official test split", "AUC"] >= 0.91
