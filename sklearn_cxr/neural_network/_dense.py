"""Dense layers on features."""

from numbers import Real

import numpy as np
import torch
from sklearn.utils.validation import validate_data
from torch import nn

from sklearn_cxr.neural_network._base import BaseNetworkClassifier
from sklearn_cxr.neural_network._constraints import TRAINING_CONSTRAINTS, check_widths
from sklearn_cxr.neural_network._moments import channel_moments
from sklearn_cxr.neural_network._network import make_head
from sklearn_cxr.utils._images import refuse_paths
from sklearn_cxr.utils._sklearn import Interval, StrOptions


class Standardize(nn.Module):
    """Features shifted and divided column by column.

    Parameters
    ----------
    mean, scale : ndarray of shape (n_features,)
        Subtracted, and divided by after that.
    """

    def __init__(self, mean, scale):
        super().__init__()
        # No buffers: a network cast to bfloat16 must not round them.
        self.mean, self.scale = np.asarray(mean), np.asarray(scale)
        self._constants = {}

    def forward(self, batch, dtype=torch.float32):
        """Standardise a batch.

        Parameters
        ----------
        batch : Tensor of shape (n, n_features)
            Features.

        dtype : torch.dtype, default=torch.float32
            That of the output.

        Returns
        -------
        Tensor of shape (n, n_features)
            The features.
        """
        # Cast before it, a column far from zero would lose what tells its rows apart.
        exact = torch.float64 if torch.float64 in (dtype, batch.dtype) else torch.float32
        key = exact, batch.device
        if key not in self._constants:
            self._constants[key] = [
                torch.as_tensor(values, dtype=exact, device=batch.device)
                for values in (self.mean, self.scale)
            ]
        mean, scale = self._constants[key]
        return ((batch.to(exact) - mean) / scale).to(dtype)


class DenseHeadClassifier(BaseNetworkClassifier):
    """Dense layers on features, such as those of a frozen backbone.

    Three layers of ``hidden=(1024, 512)`` and an output are the smallest of the published heads;
    longer tuples give those of six and nine layers.

    Parameters
    ----------
    hidden : sequence of int, default=(1024, 512)
        Widths of the layers before the output; () for logistic regression.

    activation : {"relu", "gelu", "tanh"}, default="relu"
        After each hidden layer.

    dropout : float, default=0.0
        Share of the values, in [0, 1), dropped after each hidden layer.

    batch_norm : bool, default=False
        Whether each hidden layer is followed by batch normalisation.

    standardize : bool, default=True
        Whether each feature is brought to mean 0 and deviation 1 over the training rows.

    optimizer : {"adam", "amsgrad", "adamw", "rmsprop", "sgd"} or type, default="adam"
        Optimiser, by name or as a subclass of :class:`torch.optim.Optimizer`. SGD has momentum
        0.9.

    lr : float, default=1e-3
        Learning rate, the highest where `lr_schedule` changes it.

    weight_decay : float, default=0.0
        Decay of the weights at each step: decoupled with ``"adamw"``, an L2 penalty with the
        others.

    lr_schedule : {"plateau", "onecycle", "cosine"} or None, default=None
        ``"plateau"`` divides the rates by ten after an epoch without a lower validation loss,
        ``"onecycle"`` lets them rise over the first fifth of the fit and fall to nothing,
        ``"cosine"`` lets them fall to nothing from the start.

    max_epochs : int, default=20
        Largest number of passes over the training rows.

    batch_size : int, default=64
        Rows in a step of the optimiser, and in a pass of a prediction.

    class_weight : dict, list of dict, "balanced" or None, default=None
        Weights of the classes in the loss. ``"balanced"`` weighs inversely to their frequency;
        for several labels, as in the CheXNet study [1]_, each label's positives by the share of
        negatives and the reverse. Several labels take ``{0: ..., 1: ...}``, or a list of them.

    label_smoothing : float, default=0.0
        Share of each label, in [0, 1), that is spread evenly over the classes.

    clip_norm : float or None, default=None
        Largest norm of the gradient of a step.

    weight_averaging : float or None, default=None
        Decay, in [0, 1), of an exponential moving average of the weights over the steps, which
        validation and predictions then use. 0.998 reaches some 500 steps back. A fit that goes on
        trains from the weights of the last step, unless an early stop kept those of an epoch, or
        the network was given others since.

    early_stopping : bool, default=False
        Whether training ends after `patience` epochs without a lower validation loss; the
        weights of the best epoch are then kept: of this fit, also where it goes on from another.

    patience : int, default=5
        Epochs without a gain that `early_stopping` waits for.

    validation_fraction : float or None, default=None
        Share of the rows, in (0, 1), that is held out, whole patients of it and with the
        shares of the classes, and judged after each epoch. None is 0.1 where `early_stopping` or
        ``lr_schedule="plateau"`` need one, else nothing is held out.

    warm_start : bool, default=False
        Whether ``fit`` goes on from the weights of the previous fit, with the same structure.

    device : str or torch.device, default="auto"
        Where the network computes: "auto" takes a CUDA GPU or Apple's where there is one, else
        the CPU. Or "cpu", "cuda", "cuda:1", "mps".

    precision : {"auto", "float32", "bfloat16", "float64"}, default="auto"
        What convolutions and products are computed in. "auto"
        is float32, since dense layers on features are small.

    compile : bool, default=False
        Whether :func:`torch.compile` compiles the network for training. It takes a minute or
        more and pays for long fits on a GPU.

    callbacks : list of skorch callbacks or None, default=None
        Called during training, for example ``skorch.callbacks.Checkpoint``.

    random_state : int, RandomState instance or None, default=None
        Governs initial weights, dropout, the order of the rows and what is held
        out. Two fits with the same int are equal on the CPU.

    verbose : int, default=0
        With 1, a progress bar.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (`n_features_in_`,)
        Subtracted from each feature, and divided by after that.

    classes_ : ndarray of shape (n_classes,)
        Class labels; the numbers of the labels where there are several columns.

    net_ : skorch.NeuralNet
        The fitted net; ``net_.module_`` is the :class:`torch.nn.Module`.

    history_ : DataFrame
        One row for each epoch: ``train_loss``, ``train_accuracy``, ``lr`` and, where rows were
        held out, ``valid_loss`` and ``valid_accuracy``. Training figures are running means over
        the epoch.

    n_iter_ : int
        Number of epochs trained.

    best_epoch_ : int
        Epoch whose weights were kept, from 1.

    n_features_in_ : int
        Number of values in a row.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen in ``fit``, where `X` was a DataFrame.

    See Also
    --------
    sklearn_cxr.feature_extraction.BackboneFeatures : Gives the features.
    sklearn.neural_network.MLPClassifier : The same without patients, weights or a GPU.

    References
    ----------
    .. [1] P. Rajpurkar et al., "CheXNet: Radiologist-Level Pneumonia Detection on Chest X-Rays
       with Deep Learning", arXiv:1711.05225, 2017.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn_cxr.neural_network import DenseHeadClassifier
    >>> X, y = make_classification(random_state=0)
    >>> clf = DenseHeadClassifier((16,), lr=0.01, max_epochs=30, random_state=0).fit(X, y)
    >>> clf.score(X, y) > 0.9
    True
    """

    _parameter_constraints: dict = {
        "hidden": ["array-like"],
        "activation": [StrOptions({"relu", "gelu", "tanh"})],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "batch_norm": ["boolean"],
        "standardize": ["boolean"],
        **TRAINING_CONSTRAINTS,
    }

    def __init__(
        self,
        hidden=(1024, 512),
        *,
        activation="relu",
        dropout=0.0,
        batch_norm=False,
        standardize=True,
        optimizer="adam",
        lr=1e-3,
        weight_decay=0.0,
        lr_schedule=None,
        max_epochs=20,
        batch_size=64,
        class_weight=None,
        label_smoothing=0.0,
        clip_norm=None,
        weight_averaging=None,
        early_stopping=False,
        patience=5,
        validation_fraction=None,
        warm_start=False,
        device="auto",
        precision="auto",
        compile=False,
        callbacks=None,
        random_state=None,
        verbose=0,
    ):
        self.hidden = hidden
        self.activation = activation
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.standardize = standardize
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.lr_schedule = lr_schedule
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.clip_norm = clip_norm
        self.weight_averaging = weight_averaging
        self.early_stopping = early_stopping
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.device = device
        self.precision = precision
        self.compile = compile
        self.callbacks = callbacks
        self.random_state = random_state
        self.verbose = verbose

    def _validate_rows(self, X, *, reset, **target):
        refuse_paths(self, X, reader="ImageReader(size=..., output='flat')")
        return validate_data(
            self, X, *target.values(), reset=reset, dtype=[np.float64, np.float32]
        )

    def _settle(self, rows, weight):
        n_features = rows.shape[1]
        self.mean_, self.scale_ = np.zeros(n_features), np.ones(n_features)
        if self.standardize:
            self.mean_, self.scale_ = channel_moments(rows, weight, n_features)
        self._spec = self._structure()

    def _structure(self):
        names = ("activation", "dropout", "batch_norm", "standardize")
        hidden = {"hidden": check_widths("hidden", self.hidden)}
        return hidden | {name: getattr(self, name) for name in names}

    def _row_shape(self):
        return (self.n_features_in_,)

    def _dtype(self, device):
        return torch.float32 if self.precision == "auto" else super()._dtype(device)

    def _prepare_module(self):
        return Standardize(self.mean_, self.scale_)

    def _body_module(self, n_outputs):
        layers = {name: value for name, value in self._spec.items() if name != "standardize"}
        return make_head(self.n_features_in_, n_outputs, **layers)

    def _groups(self, module):
        return [{"params": list(module.parameters()), "lr": self.lr}]
