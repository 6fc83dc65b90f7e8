"""A fitted network as an ONNX file that answers like ``predict_proba``."""

import contextlib
import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from sklearn_cxr.neural_network._network import Probabilities, inference_copy
from sklearn_cxr.utils._atomic import replacing
from sklearn_cxr.utils._optional import import_optional

TOLERANCE = 1e-4
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_EXPORTERS = ("torch", "onnxscript", "onnx_ir")


class _PlainOperations(TorchFunctionMode):
    """Sums and products for what some versions of torch and onnxscript cannot export together."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.addcmul and not kwargs:
            offset, images, factor = args
            return images * factor + offset
        if func is F.batch_norm and not kwargs.get("training"):
            return _normalised(*args, **kwargs)
        return func(*args, **kwargs)


def _normalised(images, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    factor = (var + eps).rsqrt()
    factor = factor if weight is None else factor * weight
    offset = -mean * factor if bias is None else bias - mean * factor
    shape = (-1, *[1] * (images.ndim - 2))
    return images * factor.reshape(shape) + offset.reshape(shape)


class _Answer(nn.Module):
    """Probabilities with both columns of two classes, and constants of labels with one class."""

    def __init__(self, probabilities, constant, binary):
        super().__init__()
        self.probabilities, self.binary = probabilities, binary
        self.plain = False
        self.constant = None if constant is None else torch.from_numpy(constant)

    def forward(self, images):
        # The file takes levels as they are stored; torch itself has few operations on uint16.
        images = images.to(torch.int32) if images.dtype == torch.uint16 else images
        with _PlainOperations() if self.plain else contextlib.nullcontext():
            answer = self.probabilities(images).to(torch.float32)
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
        If the network cannot be exported, or onnxruntime answers differently by more than 1e-4.
    """
    caller = f"{type(estimator).__name__}.to_onnx"
    for package in _PACKAGES:
        import_optional(package, extra="onnx", caller=caller)
    cpu = torch.device("cpu")
    network = inference_copy(estimator.net_.module_, torch.float32, cpu)
    probabilities = Probabilities(network, exclusive=estimator._exclusive, tta=estimator.tta)
    module = _Answer(probabilities, estimator._constant, estimator._n_outputs == 1).eval()
    batch = torch.from_numpy(_example(estimator))
    with torch.no_grad():
        # Before the export, which may leave its own stand-ins for tensors in the module.
        expected = module(batch).numpy()
    module.plain = True
    path = Path(path)
    with replacing(path) as temporary:
        _write(module, batch, temporary)
        session = _session(temporary)
        answer = session.run(None, {"images": batch.numpy()})[0]
        difference = float(np.abs(answer - expected).max())
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"onnxruntime answers differently from torch by {difference:.2g} (at most "
                f"{TOLERANCE:g} was expected), so {path} was not written. Try another version of "
                "torch or of onnxruntime."
            )
    return path


def _session(path):
    runtime = sys.modules["onnxruntime"]
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors only
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def _quiet():
    """Keep the exporter from telling of its own internals, which a user can do nothing about."""
    # Those of modules that are yet to be imported take the level of the first part of their name.
    families = [logging.getLogger(name) for name in _EXPORTERS]
    levels = [logger.level for logger in families]
    known = [
        logger
        for name, logger in logging.root.manager.loggerDict.items()
        if name.partition(".")[0] in _EXPORTERS and not getattr(logger, "disabled", True)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in known:
            logger.disabled = True
        for logger in families:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for logger in known:
                logger.disabled = False
            for logger, level in zip(families, levels, strict=True):
                logger.setLevel(level)


def _write(module, batch, path):
    # Some versions make sure of a number that no batch has.
    shapes = {"images": {0: torch.export.Dim("n", max=2**31 - 1)}}
    options = {
        "dynamo": True,
        "external_data": False,
        "verbose": False,
        "input_names": ["images"],
        "output_names": ["probabilities"],
    }
    try:
        with _quiet():
            # Strictly, as some versions begin, it would pass _PlainOperations by.
            program = torch.export.export(module, (batch,), dynamic_shapes=shapes, strict=False)
            torch.onnx.export(program, (), path, **options)
    except Exception as error:  # whatever packages of the exporter raise, and they are many
        here = ", ".join(
            f"{name} {sys.modules[name].__version__}" for name in ("torch", *_PACKAGES)
        )
        raise RuntimeError(
            f"The network could not be exported by {here}: {error}. Install the newest torch, "
            "onnxscript and onnx; of a network of your own, look for what torch.onnx cannot "
            "export. No file was written."
        ) from error


def _example(estimator):
    """Three rows of the kind that the estimator takes: dark, bright, and in between."""
    shape = estimator._row_shape()
    kind = getattr(estimator, "input_kind_", "other")
    low, high = getattr(estimator, "levels_", (0.0, 1.0))
    if hasattr(estimator, "scale_"):
        low, high = (estimator.mean_ + side * estimator.scale_ for side in (-2, 2))
    levels = np.random.RandomState(0).uniform(low, high, size=(3, *shape))
    dtype = {"uint8": np.uint8, "uint16": np.uint16}.get(kind, np.float32)
    return levels.astype(dtype)
