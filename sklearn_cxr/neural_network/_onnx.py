"""A fitted network as an ONNX file that answers like ``predict_proba``."""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sklearn_cxr.neural_network._network import Probabilities, inference_copy
from sklearn_cxr.neural_network._prepare import to_host_tensor
from sklearn_cxr.utils._atomic import replacing
from sklearn_cxr.utils._optional import import_optional

TOLERANCE = 1e-4


class _Answer(nn.Module):
    """Probabilities with both columns of two classes, and constants of labels with one class."""

    def __init__(self, probabilities, constant, binary):
        super().__init__()
        self.probabilities, self.binary = probabilities, binary
        self.constant = None if constant is None else torch.from_numpy(constant)

    def forward(self, batch):
        answer = self.probabilities(batch).to(torch.float32)
        if self.binary:
            return torch.cat([1 - answer, answer], dim=1)
        if self.constant is None:
            return answer
        constant = self.constant.to(torch.float32)
        return torch.where(constant.isnan(), answer, constant)


def export(estimator, path):
    """Write the network of a fitted estimator, and compare what onnxruntime makes of it.

    Parameters
    ----------
    estimator : BaseNetworkClassifier
        Fitted.

    path : str or path-like
        The file to write.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    RuntimeError
        If onnxruntime answers differently by more than 1e-4.
    """
    caller = f"{type(estimator).__name__}.to_onnx"
    for package in ("onnx", "onnxscript"):
        import_optional(package, extra="onnx", caller=caller)
    runtime = import_optional("onnxruntime", extra="onnx", caller=caller)
    cpu = torch.device("cpu")
    network = inference_copy(estimator.net_.module_, torch.float32, cpu)
    probabilities = Probabilities(network, exclusive=estimator._exclusive, tta=estimator.tta)
    module = _Answer(probabilities, estimator._constant, estimator._n_outputs == 1).eval()
    batch = to_host_tensor(_example(estimator))
    path = Path(path)
    with replacing(path) as temporary:
        _write(module, batch, temporary)
        with torch.inference_mode():
            expected = module(batch).numpy()
        session = runtime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        answer = session.run(None, {"images": batch.numpy()})[0]
        difference = float(np.abs(answer - expected).max())
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"onnxruntime answers differently from torch by {difference:.2g} (at most "
                f"{TOLERANCE:g} was expected), so {path} was not written. Try another version of "
                "torch or of onnxruntime."
            )
    return path


def _write(module, batch, path):
    with warnings.catch_warnings():
        # The exporter warns of its own internals, which a user can do nothing about.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (batch,),
            path,
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes={"batch": {0: torch.export.Dim("n")}},
        )


def _example(estimator):
    """Three rows of the kind that the estimator takes: dark, bright, and in between."""
    shape = estimator._row_shape()
    kind = getattr(estimator, "input_kind_", "other")
    low, high = getattr(estimator, "levels_", (0.0, 1.0))
    levels = np.random.RandomState(0).uniform(low, high, size=(3, *shape))
    dtype = {"uint8": np.uint8, "uint16": np.uint16}.get(kind, np.float32)
    return levels.astype(dtype)
