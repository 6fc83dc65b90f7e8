"""Features of a frozen backbone, extracted once."""

import os
from numbers import Integral

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sklearn_cxr.feature_extraction._cache import FeatureCache
from sklearn_cxr.feature_extraction._extraction import Extraction
from sklearn_cxr.feature_extraction._hashing import image_keys
from sklearn_cxr.feature_extraction._network import FrozenBackbone
from sklearn_cxr.neural_network._device import (
    device_or_cpu,
    resolve_device,
    resolve_precision,
)
from sklearn_cxr.neural_network._inference import batches_in_order
from sklearn_cxr.neural_network._prepare import Prepare
from sklearn_cxr.neural_network._state import given, on_host, taken
from sklearn_cxr.neural_network._weights import NEUTRAL_MEAN, NEUTRAL_STD, check_contamination
from sklearn_cxr.utils._chunks import chunk_slices, validate_rows
from sklearn_cxr.utils._images import level_dtype, level_range
from sklearn_cxr.utils._sklearn import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    _check_feature_names_in,
    _fit_context,
    fit_task,
    with_callbacks,
)


class BackboneFeatures(CallbackSupportMixin, TransformerMixin, BaseEstimator):
    """Features of a convolutional network or vision transformer that is not trained further.

    The usual first thing to try on a small data set: a network trained on other images turns
    every film into a row of numbers, and any classifier goes on from there. With `cache_dir`
    every distinct film passes through the network once, whatever the sweep: folds, grid points,
    processes and later runs find its features on the disk.

    Parameters
    ----------
    backbone : str, nn.Module class, factory or instance, default="densenet121"
        Name of a backbone (see :func:`~sklearn_cxr.neural_network.list_backbones`), or a network
        of your own: a class or a function that takes no arguments, or a module. What it answers
        with is taken as features; maps are averaged. An instance can be pickled, but not saved
        by skops; a class can be both.

    weights : str, path-like or None, default="imagenet"
        "imagenet", the name of chest-pretrained weights, or a file (``.pth``, ``.pt`` or
        ``.safetensors``). None means random weights, or those that your own module came with.

    layer : str, default="pool"
        "pool" for the features before the classifier; or the name of any submodule, the output
        of which is taken the first time that it runs: maps are averaged over places, which are
        found by trying another size of image, sequences over tokens. The rest is not computed.

    channels : {"repeat", "sum"}, default="repeat"
        How grey films meet a network for three channels: they are repeated; or the kernels of
        the first layer are summed to one channel, which is faster and equal but at the border.

    cache_dir : path-like or None, default=None
        Folder of the feature cache. The key is the content of an image together with the hash of
        the weights and every option that decides the features. None computes at every call.

    batch_size : int, default=32
        Images that pass through the network together.

    precision : {"auto", "float32", "bfloat16", "float64"}, default="auto"
        What the network computes in. "auto" is bfloat16 where the processor multiplies in it,
        else float32.

    device : str, default="auto"
        Where it computes: "auto" takes a GPU where there is one; else "cpu", "cuda", "cuda:1",
        "mps".

    image_shape : tuple of int or None, default=None
        ``(h, w)`` or ``(h, w, c)`` behind flat input. None means a square where the number of
        features is one, else one row. Shaped input tells its own.

    value_range : tuple of (float, float) or None, default=None
        Grey levels of black and white. None means 0..255 for uint8, 0..65535 for uint16 and
        [0, 1] for floats; values outside raise.

    sha256 : str or None, default=None
        Checksum that a file given as `weights` must have, 64 hexadecimal digits.

    dataset : str or None, default=None
        Name of the data set that the images are from, such as "kermany" or "nih". Where the
        weights were trained on it, a warning says so.

    random_state : int, RandomState instance or None, default=None
        Seed of random weights.

    verbose : int, default=0
        With 1, a progress bar.

    Attributes
    ----------
    backbone_ : nn.Module
        The network, in evaluation mode, on the CPU in its own precision.

    weights_info_ : WeightsInfo or None
        Normalisation, input size, licence and training data of the weights, where these are
        known.

    weights_hash_ : str
        Hash of all weights, which begins the key of the cache.

    n_features_out_ : int
        Number of features of an image.

    image_shape_ : tuple of int
        Shape of one image.

    input_kind_ : {"uint8", "uint16", "unit float", "other"}
        Kind of grey level seen in ``fit``; a batch of another kind raises.

    n_features_in_ : int
        Number of values in an image.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen in ``fit``, where `X` was a DataFrame.

    See Also
    --------
    sklearn_cxr.neural_network.TransferClassifier : Trains the backbone, or parts of it, too.
    sklearn_cxr.neural_network.DenseHeadClassifier : Dense layers on such features.
    sklearn_cxr.decomposition.PixelPCA : Features without a network.

    Notes
    -----
    Images go to the device as they are stored and become floats there; the weights are cast
    once, and lie channels-last. Features are float32, or float64 with ``precision="float64"``.
    In bfloat16 the features of an image depend, by about a hundredth of their spread, on how
    many images are in its batch.

    The images are not resized: a network for 224 pixels answers at other sizes too, unless it is
    a vision transformer. Weights without a known normalisation, such as those of a network of
    your own, get grey levels in [0, 1] less 0.5 and divided by 0.25, as in
    :class:`~sklearn_cxr.neural_network.TransferClassifier`.

    For a network of your own the cache also tells apart its methods, attributes, buffers and the
    constants of its modules that these use. Of functions, classes and objects elsewhere that they
    use only the name counts: give another `cache_dir` when you change one. An attribute that
    cannot be hashed raises.

    The files of weights that come from torchvision are held to the checksums in their names;
    those of timm and torchxrayvision are published without one, so give `sha256` where it
    matters that a file is the same as ever.

    A fitted transformer carries its weights; unpickling downloads nothing and works without a
    GPU. A module given as `backbone` is stored with the weights that it has; those of a file, or
    from before you changed it, are stored beside them.

    References
    ----------
    .. [1] A. S. Razavian, H. Azizpour, J. Sullivan and S. Carlsson, "CNN features
       off-the-shelf: an astounding baseline for recognition", CVPR Workshops, 2014.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from torch import nn
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.feature_extraction import BackboneFeatures
    >>> def tiny_network():
    ...     return nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 5))
    >>> X, y = make_chest_xrays(60, image_size=32, random_state=0, return_X_y=True)
    >>> features = BackboneFeatures(tiny_network, weights=None, random_state=0)
    >>> features.fit_transform(X).shape
    (60, 16)
    >>> model = make_pipeline(features, LogisticRegression()).fit(X, y)
    """

    _parameter_constraints: dict = {
        "backbone": [str, nn.Module, callable],
        "weights": [str, os.PathLike, None],
        "layer": [str],
        "channels": [StrOptions({"repeat", "sum"})],
        "cache_dir": [str, os.PathLike, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "precision": [StrOptions({"auto", "float32", "bfloat16", "float64"})],
        "device": [str, torch.device],
        "image_shape": ["array-like", None],
        "value_range": ["array-like", None],
        "sha256": [str, None],
        "dataset": [str, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        backbone="densenet121",
        *,
        weights="imagenet",
        layer="pool",
        channels="repeat",
        cache_dir=None,
        batch_size=32,
        precision="auto",
        device="auto",
        image_shape=None,
        value_range=None,
        sha256=None,
        dataset=None,
        random_state=None,
        verbose=0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.layer = layer
        self.channels = channels
        self.cache_dir = cache_dir
        self.batch_size = batch_size
        self.precision = precision
        self.device = device
        self.image_shape = image_shape
        self.value_range = value_range
        self.sha256 = sha256
        self.dataset = dataset
        self.random_state = random_state
        self.verbose = verbose

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Load the backbone and record the shape and kind of the images.

        Nothing is learnt from the images; features are extracted by ``transform``.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images.

        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.

        Raises
        ------
        ValueError
            If the backbone, or the layer, is not known, or the network cannot take such images.
        WeightsError
            If the weights cannot be had, or are not those of this backbone.
        """
        # A fit that fails leaves nothing of the one before.
        for name in list(vars(self)):
            if name == "_network" or (name.endswith("_") and not name.startswith("_")):
                delattr(self, name)
        with fit_task(self, X, y):
            X = validate_rows(self, X, reset=True, image_shape=self.image_shape)
            levels = self._levels(X)
            resolve_precision(self.precision, resolve_device(self.device))
            random = self.weights is None and not isinstance(self.backbone, nn.Module)
            self._network = FrozenBackbone(
                self.backbone,
                weights=self.weights,
                channels=self.channels,
                layer=self.layer,
                sha256=self.sha256,
                image_size=self.image_shape_[:2],
                seed=check_random_state(self.random_state).randint(2**31) if random else 0,
            )
            self.weights_info_ = self._network.weights_info
            self.weights_hash_ = self._network.weights_hash
            check_contamination(self.weights_info_, self.dataset)
            self.n_features_out_ = self._probe(self._prepare(levels))
        return self

    def _probe(self, prepare):
        """Send one black image through the network, on the CPU; count the features."""
        module = self._network.module
        dtype = next((p.dtype for p in module.parameters()), torch.float32)
        black = torch.full((1, *self.image_shape_), prepare.low)
        try:
            with torch.inference_mode():
                features = module(prepare(black, dtype))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ValueError(
                f"{self._network.title} cannot take images of shape {self.image_shape_}: {error} "
                "Resize the images to what the network was made for, or name another backbone or "
                "layer."
            ) from error
        return features.shape[1]

    @property
    def backbone_(self):
        """The network, in evaluation mode, on the CPU in its own precision."""
        check_is_fitted(self)
        return self._network.module.backbone

    def _levels(self, X):
        """Grey levels of black and white, once all values are known to lie between them."""
        if self.value_range is None and level_dtype(X.dtype) is not None:
            pieces = [slice(0, 0)]
        else:
            pieces = chunk_slices(len(X), self.n_features_in_)
        for rows in pieces:
            bounds = level_range(np.asarray(X[rows]), self.value_range, type(self).__name__)
        return bounds

    def _prepare(self, levels):
        """Return what brings images with these levels to the form that the backbone takes."""
        in_channels = self._network.module.backbone.in_channels
        info = self.weights_info_
        mean = (NEUTRAL_MEAN,) * in_channels if info is None else info.mean
        std = (NEUTRAL_STD,) * in_channels if info is None else info.std
        channels = self.image_shape_[2] if len(self.image_shape_) == 3 else 1
        return Prepare(*levels, mean, std, channels=channels)

    def transform(self, X):
        """Extract the features of images.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the shape seen in ``fit``.

        Returns
        -------
        ndarray or DataFrame of shape (n, `n_features_out_`), dtype=float32
            Features; float64 with ``precision="float64"``.

        Raises
        ------
        MemoryError
            If a batch does not fit into the memory of the device; says which would.

        Warns
        -----
        FallbackWarning
            If the device of the fit is not there: the CPU computes.
        """
        check_is_fitted(self)
        X = validate_rows(self, X, reset=False)
        device = device_or_cpu(self)
        run = Extraction(self, X, self._prepare(self._levels(X)), device)
        if self.cache_dir is None:
            out = np.empty((len(X), self.n_features_out_), dtype=run.out_dtype)
            for positions, rows in run(batches_in_order(len(X), self.batch_size)):
                out[positions] = rows
            return out
        cache = FeatureCache(
            self.cache_dir,
            self._network.name,
            run.description(),
            n_features=self.n_features_out_,
            dtype=run.out_dtype,
        )
        return cache.rows(image_keys(X, self.image_shape_), run, batch_size=self.batch_size)

    def get_feature_names_out(self, input_features=None):
        """Name the features.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Checked against the names seen in ``fit``.

        Returns
        -------
        ndarray of str objects
            ``densenet121_0`` and so on; with the layer where that is not "pool".
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features)
        names = [f"{self._network.name}_{i}" for i in range(self.n_features_out_)]
        return np.array(names, dtype=object)

    def __getstate__(self):
        return super().__getstate__() | {"backbone": given(on_host(self.backbone))}

    def __setstate__(self, state):
        super().__setstate__(state | {"backbone": taken(state["backbone"])})

    def __sklearn_is_fitted__(self):
        return "n_features_out_" in vars(self)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        kept = "float64" if self.precision == "float64" else "float32"
        tags.transformer_tags.preserves_dtype = [kept]
        return tags
