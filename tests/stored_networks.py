"""What stored networks answer in a process that did not fit them."""

import json
import os
import socket
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np


def answer(model, X):
    """Probabilities, and the process that computed them."""
    return os.getpid(), model.predict_proba(X)


def load(path):
    """Model in a file of joblib or of skops."""
    if path.suffix == ".joblib":
        return joblib.load(path)
    import skops.io

    return skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))


def _main(folder):
    import torch

    told, answers = {}, {}
    try:
        socket.create_connection(("127.0.0.1", 9))
    except OSError as error:
        told["network"] = str(error)
    told["cuda"] = torch.cuda.is_available()
    with np.load(folder / "inputs.npz") as inputs:
        for path in sorted(p for p in folder.iterdir() if p.suffix in (".joblib", ".skops")):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model = load(path)
                # A device is looked for now, and not before.
                answers[path.name] = model.predict_proba(inputs[path.stem])
            told[path.name] = [(w.category.__name__, str(w.message)) for w in caught]
    np.savez(folder / "answers.npz", **answers)
    (folder / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
