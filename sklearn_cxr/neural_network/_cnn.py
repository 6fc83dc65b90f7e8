"""Convolutional networks trained from scratch."""

from numbers import Integral, Real

from torch import nn

from sklearn_cxr.neural_network._architectures import build_architecture
from sklearn_cxr.neural_network._base import BaseNetworkClassifier
from sklearn_cxr.neural_network._constraints import IMAGE_CONSTRAINTS, TRAINING_CONSTRAINTS
from sklearn_cxr.neural_network._moments import channel_moments, level_bounds
from sklearn_cxr.neural_network._prepare import Prepare, unit_levels
from sklearn_cxr.utils._sklearn import Interval


class CNNClassifier(BaseNetworkClassifier):
    """Convolutional network trained from scratch.

    Grey levels are scaled by the range of their kind, then shifted and divided so that the
    training images have mean 0 and deviation 1; the network takes them from there. Any finite
    real numbers go.

    Parameters
    ----------
    architecture : str, nn.Module class, callable or nn.Module, default="baseline"
        Published layers by name: ``"baseline"``, four convolutions of 32, 64, 128 and 128
        channels and a dense layer of 512; ``"conv3-dense1024"``, convolutions of 32, 64 and 256
        channels and a dense layer of 1024, published at 150 px; ``"conv2-dense128"``,
        convolutions of 64 and 128 channels, a dense layer of 128 and dropout 0.2, published at
        128 px. Each convolution is followed by a pooling by 2. Or a class or function that
        returns a module; it is given those of ``image_shape=(h, w, c)`` and ``n_outputs`` that
        it takes, and the module takes ``(n, c, h, w)`` and returns ``(n, n_outputs)`` logits: one
        for two classes, else one for each class or label. Or a module, with the weights that it
        has: it is stored with the fitted estimator beside the fitted weights, which doubles the
        size; what makes one is not, and skops stores that alone.

    channels : sequence of int or None, default=None
        Output channels of each convolution, and by that their number. None here and in the next
        four is as published.

    dense : sequence of int or None, default=None
        Widths of the dense layers before the output.

    kernel_size : int or None, default=None
        Side of the convolutions, in pixels; odd.

    dropout : float or None, default=None
        Share of the activations, in [0, 1), dropped after each dense layer.

    batch_norm : bool or None, default=None
        Whether each convolution is followed by batch normalisation.

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
        Largest number of passes over the training images.

    batch_size : int, default=32
        Images in a step of the optimiser, and in a pass of a prediction.

    class_weight : dict, list of dict, "balanced" or None, default=None
        Weights of the classes in the loss. ``"balanced"`` weighs inversely to their frequency;
        for several labels, as in the CheXNet study [1]_, each label's positives by the share of
        negatives and the reverse. Several labels take ``{0: ..., 1: ...}``, or a list of them.

    label_smoothing : float, default=0.0
        Share of each label, in [0, 1), that is spread evenly over the classes.

    augment : str, sequence of str, dict, callable or None, default=None
        Random changes of the training images, drawn anew in each epoch: names such as
        ``"flip"``, ``"rotate"``, ``"quarter_turns"``, ``"shift"``, ``"zoom"``, ``"brightness"``,
        ``"contrast"``, ``"gamma"``, ``"noise"`` and ``"erase"``, the presets ``"light"`` and
        ``"strong"``, a dict of names and magnitudes, or a torchvision transform. See
        :ref:`the user guide <augmentation>`.

    mixup : float, default=0.0
        Alpha of the Beta distribution by which each image is mixed with another of its batch
        [2]_; 0 mixes none.

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
        Share of the images, in (0, 1), that is held out, whole patients of it and with the
        shares of the classes, and judged after each epoch. None is 0.1 where `early_stopping` or
        ``lr_schedule="plateau"`` need one, else nothing is held out.

    warm_start : bool, default=False
        Whether ``fit`` goes on from the weights of the previous fit, with the same structure.

    tta : {"flip", "shift"}, sequence of them or None, default=None
        Test-time augmentation: probabilities are averaged over the image, its mirror image,
        and small shifts.

    device : str or torch.device, default="auto"
        Where the network computes: "auto" takes a CUDA GPU or Apple's where there is one, else
        the CPU. Or "cpu", "cuda", "cuda:1", "mps".

    precision : {"auto", "float32", "bfloat16", "float64"}, default="auto"
        What convolutions and products are computed in. "auto" is bfloat16 where the processor
        has it, else float32. The weights that learn and the loss have float32 at least; so have,
        in predictions and validation, batch normalisation and the output layer of the
        architectures that have a name.

    compile : bool, default=False
        Whether :func:`torch.compile` compiles the network for training. It takes a minute or
        more and pays for long fits on a GPU.

    callbacks : list of skorch callbacks or None, default=None
        Called during training, for example ``skorch.callbacks.Checkpoint``.

    image_shape : tuple of int or None, default=None
        ``(h, w)`` or ``(h, w, c)`` behind flat input. None means a square where the number of
        features is one, else one row. Shaped input tells its own.

    random_state : int, RandomState instance or None, default=None
        Governs initial weights, dropout, the order of the images, augmentation and what is held
        out. Two fits with the same int are equal on the CPU.

    verbose : int, default=0
        With 1, a progress bar.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels; the numbers of the labels where there are several columns.

    net_ : skorch.NeuralNet
        The fitted net; ``net_.module_`` is the :class:`torch.nn.Module`.

    history_ : DataFrame
        One row for each epoch: ``train_loss``, ``train_accuracy``, ``lr`` and, where images were
        held out, ``valid_loss`` and ``valid_accuracy``. Training figures are running means over
        the epoch, of augmented images.

    n_iter_ : int
        Number of epochs trained.

    best_epoch_ : int
        Epoch whose weights were kept, from 1.

    mean_, std_ : tuple of float
        Subtracted from grey levels scaled to 0..1, and divided by after that; by channel.

    levels_ : tuple of (float, float)
        Grey levels that stand for black and white.

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
    TransferClassifier : Begin from a network trained on other images: better with few films.
    TrainingHistoryDisplay : The curves of ``history_``.

    References
    ----------
    .. [1] P. Rajpurkar et al., "CheXNet: Radiologist-Level Pneumonia Detection on Chest X-Rays
       with Deep Learning", arXiv:1711.05225, 2017.
    .. [2] H. Zhang, M. Cisse, Y. N. Dauphin, D. Lopez-Paz, "mixup: Beyond Empirical Risk
       Minimization", ICLR 2018.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.neural_network import CNNClassifier
    >>> films = make_chest_xrays(80, image_size=32, random_state=0)
    >>> clf = CNNClassifier(channels=(8, 16), dense=(16,), max_epochs=3, random_state=0)
    >>> clf = clf.fit(films.images, films.target)
    >>> clf.predict_proba(films.images).shape
    (80, 3)
    >>> list(clf.history_.columns)
    ['train_loss', 'train_accuracy', 'lr']
    """

    _parameter_constraints: dict = {
        "architecture": [str, callable, nn.Module],
        "channels": ["array-like", None],
        "dense": ["array-like", None],
        "kernel_size": [Interval(Integral, 1, None, closed="left"), None],
        "dropout": [Interval(Real, 0, 1, closed="left"), None],
        "batch_norm": ["boolean", None],
        **TRAINING_CONSTRAINTS,
        **IMAGE_CONSTRAINTS,
    }

    def __init__(
        self,
        architecture="baseline",
        *,
        channels=None,
        dense=None,
        kernel_size=None,
        dropout=None,
        batch_norm=None,
        optimizer="adam",
        lr=1e-3,
        weight_decay=0.0,
        lr_schedule=None,
        max_epochs=20,
        batch_size=32,
        class_weight=None,
        label_smoothing=0.0,
        augment=None,
        mixup=0.0,
        clip_norm=None,
        weight_averaging=None,
        early_stopping=False,
        patience=5,
        validation_fraction=None,
        warm_start=False,
        tta=None,
        device="auto",
        precision="auto",
        compile=False,
        callbacks=None,
        image_shape=None,
        random_state=None,
        verbose=0,
    ):
        self.architecture = architecture
        self.channels = channels
        self.dense = dense
        self.kernel_size = kernel_size
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.lr_schedule = lr_schedule
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.augment = augment
        self.mixup = mixup
        self.clip_norm = clip_norm
        self.weight_averaging = weight_averaging
        self.early_stopping = early_stopping
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.tta = tta
        self.device = device
        self.precision = precision
        self.compile = compile
        self.callbacks = callbacks
        self.image_shape = image_shape
        self.random_state = random_state
        self.verbose = verbose

    def _settle(self, rows, weight):
        n_channels = self._n_channels()
        if self.input_kind_ == "other":
            self.levels_ = level_bounds(rows)
        else:
            self.levels_ = unit_levels(self.input_kind_)
        low, high = self.levels_
        mean, std = channel_moments(rows, weight, n_channels)
        self.mean_ = tuple(float(value) for value in (mean - low) / (high - low))
        self.std_ = tuple(float(value) for value in std / (high - low))
        self._spec = self._structure()

    def _structure(self):
        names = ("architecture", "channels", "dense", "kernel_size", "dropout", "batch_norm")
        return {name: getattr(self, name) for name in names}

    def _n_channels(self):
        return self.image_shape_[2] if len(self.image_shape_) == 3 else 1

    def _prepare_module(self):
        return Prepare(*self.levels_, self.mean_, self.std_, channels=self._n_channels())

    def _body_module(self, n_outputs):
        shape = (*self.image_shape_[:2], self._n_channels())
        return build_architecture(**self._spec, image_shape=shape, n_outputs=n_outputs)

    def _groups(self, module):
        return [{"params": list(module.parameters()), "lr": self.lr}]

    def _bounded(self):
        return self.input_kind_ != "other"
