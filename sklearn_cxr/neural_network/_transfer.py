"""Pretrained backbones with a new head."""

import os
from numbers import Real

import numpy as np
from torch import nn

from sklearn_cxr.neural_network._backbones import build_backbone
from sklearn_cxr.neural_network._base import BaseNetworkClassifier
from sklearn_cxr.neural_network._constraints import (
    IMAGE_CONSTRAINTS,
    TRAINING_CONSTRAINTS,
    check_widths,
)
from sklearn_cxr.neural_network._inference import forward_batches
from sklearn_cxr.neural_network._moments import check_levels
from sklearn_cxr.neural_network._network import BackboneBody, Network, inference_copy, make_head
from sklearn_cxr.neural_network._prepare import Prepare
from sklearn_cxr.neural_network._weights import NEUTRAL_MEAN, NEUTRAL_STD, check_contamination
from sklearn_cxr.utils._sklearn import Interval, StrOptions


class TransferClassifier(BaseNetworkClassifier):
    """Pretrained network with a new head, trained in part or whole.

    Grey levels are scaled to 0..1 by their absolute range, then normalised as the weights ask
    for; the images keep their size. With ``fine_tune="head"``, no augmentation and no mixup the
    backbone runs once over the images, and the epochs go over what it gave.

    Parameters
    ----------
    backbone : str, nn.Module or callable, default="densenet121"
        Network by name: see :func:`list_backbones`. Or a module of your own, or what makes one
        without arguments: it takes ``(n, c, h, w)``, and what it returns is taken as features.
        Its grey levels are 0..1 less 0.5 and divided by 0.25. A module is stored with the
        fitted estimator, which doubles the size of what training changed; what makes one is
        not, and skops stores that alone.

    weights : str, path-like or None, default="imagenet"
        Where the backbone starts: ``"imagenet"``; for DenseNet-121 and ResNet-50 also the
        chest weights of torchxrayvision by name, such as ``"densenet121-res224-chex"``; the
        path of a ``.pth`` or ``.safetensors`` file; None for random weights, or those that a
        module of your own has. ``"imagenet"`` is downloaded, except for ``"efficientnet_lite0"``
        to ``"efficientnet_lite2"``, whose weights come with the extra ``weights``.

    fine_tune : {"head", "last", "all"}, default="all"
        What is trained: the new head alone, with it the last stage of the backbone, or all.
        What is not trained also keeps its batch statistics.

    head : sequence of int, default=()
        Widths of dense layers between the features and the output.

    dropout : float, default=0.2
        Share of the values, in [0, 1), dropped after each layer of `head`; of the features where
        there is none.

    channels : {"repeat", "sum"}, default="repeat"
        What becomes of a grey channel where the network takes three: it is repeated, or the
        kernels of the first layer are summed to one channel.

    auxiliary_weight : float, default=0.0
        Weight of the losses of the auxiliary branches of ``"googlenet"`` and ``"inception_v3"``
        in training. 0 drops the branches.

    value_range : tuple of (float, float) or None, default=None
        Grey levels of black and white. None means 0 to 255 for uint8, 0 to 65535 for uint16 and
        0 to 1 for floats; any other dtype, and values outside, then raise.

    sha256 : str or None, default=None
        Checksum that the file of the weights must have.

    dataset : str or None, default=None
        Name of the data set that the images are from, such as "nih". It is warned of where the
        weights were trained on it.

    optimizer : {"adam", "amsgrad", "adamw", "rmsprop", "sgd"} or type, default="adamw"
        Optimiser, by name or as a subclass of :class:`torch.optim.Optimizer`. SGD has momentum
        0.9.

    lr : float, default=1e-3
        Learning rate of the head, the highest where `lr_schedule` changes it.

    backbone_lr : float or None, default=None
        Learning rate of the backbone. None is that of the head.

    weight_decay : float, default=1e-2
        Decay of the weights at each step: decoupled with ``"adamw"``, an L2 penalty with the
        others.

    lr_schedule : {"plateau", "onecycle", "cosine"} or None, default="onecycle"
        ``"plateau"`` divides the rates by ten after an epoch without a lower validation loss;
        they fall to nothing with ``"cosine"``, and with ``"onecycle"`` after a rise at first.

    max_epochs : int, default=8
        Largest number of passes over the training images.

    batch_size : int, default=32
        Images in a step of the optimiser, and in a pass of a prediction.

    class_weight : dict, list of dict, "balanced" or None, default=None
        Weights of the classes in the loss. ``"balanced"`` weighs inversely to their frequency;
        for several labels, as in the CheXNet study [1]_, each label's positives by the share of
        negatives and the reverse. Several labels take ``{0: ..., 1: ...}``, or a list of them.

    label_smoothing : float, default=0.0
        Share of each label, in [0, 1), that is spread evenly over the classes.

    augment : str, sequence of str, dict, callable or None, default="strong"
        Random changes of the training images, drawn anew in each epoch: names such as
        ``"flip"``, ``"rotate"``, ``"quarter_turns"``, ``"shift"``, ``"zoom"``, ``"brightness"``,
        ``"contrast"``, ``"gamma"``, ``"noise"`` and ``"erase"``, the presets ``"light"`` and
        ``"strong"``, a dict of magnitudes, or a transform: :ref:`the user guide <augmentation>`.

    mixup : float, default=0.0
        Alpha of the Beta distribution by which each image is mixed with another of its batch
        [2]_; 0 mixes none.

    clip_norm : float or None, default=None
        Largest norm of the gradient of a step.

    weight_averaging : float or None, default=0.998
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
        Views whose probabilities are averaged: mirror image, small shifts.

    device : str or torch.device, default="auto"
        Where the network computes: "auto" takes a CUDA GPU or Apple's where there is one, else
        the CPU. Or "cpu", "cuda", "cuda:1", "mps".

    precision : {"auto", "float32", "bfloat16", "float64"}, default="auto"
        What convolutions and products are computed in. "auto" is bfloat16 where the processor
        has it, else float32. The weights that learn and the loss have float32 at least; so have,
        in predictions and validation, batch normalisation and the head of the network.

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
    weights_info_ : WeightsInfo or None
        What is known of the weights: mean, deviation, licence, what they were trained on.

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
    sklearn_cxr.feature_extraction.BackboneFeatures : Features of a frozen backbone, kept on disk,
        for any classifier.
    CNNClassifier : Networks trained from scratch.
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
    >>> from sklearn_cxr.neural_network import TransferClassifier
    >>> films = make_chest_xrays(40, image_size=64, random_state=0)
    >>> clf = TransferClassifier("mobilenet_v2", weights=None, fine_tune="head", augment=None,
    ...                          max_epochs=2, random_state=0)
    >>> clf = clf.fit(films.images, films.target)
    >>> clf.predict_proba(films.images).shape
    (40, 3)
    """

    _parameter_constraints: dict = {
        "backbone": [str, callable, nn.Module],
        "weights": [str, os.PathLike, None],
        "fine_tune": [StrOptions({"head", "last", "all"})],
        "head": ["array-like"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "channels": [StrOptions({"repeat", "sum"})],
        "auxiliary_weight": [Interval(Real, 0, None, closed="left")],
        "value_range": ["array-like", None],
        "sha256": [str, None],
        "dataset": [str, None],
        "backbone_lr": [Interval(Real, 0, None, closed="neither"), None],
        **TRAINING_CONSTRAINTS,
        **IMAGE_CONSTRAINTS,
    }

    def __init__(
        self,
        backbone="densenet121",
        *,
        weights="imagenet",
        fine_tune="all",
        head=(),
        dropout=0.2,
        channels="repeat",
        auxiliary_weight=0.0,
        value_range=None,
        sha256=None,
        dataset=None,
        optimizer="adamw",
        lr=1e-3,
        backbone_lr=None,
        weight_decay=1e-2,
        lr_schedule="onecycle",
        max_epochs=8,
        batch_size=32,
        class_weight=None,
        label_smoothing=0.0,
        augment="strong",
        mixup=0.0,
        clip_norm=None,
        weight_averaging=0.998,
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
        self.backbone = backbone
        self.weights = weights
        self.fine_tune = fine_tune
        self.head = head
        self.dropout = dropout
        self.channels = channels
        self.auxiliary_weight = auxiliary_weight
        self.value_range = value_range
        self.sha256 = sha256
        self.dataset = dataset
        self.optimizer = optimizer
        self.lr = lr
        self.backbone_lr = backbone_lr
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

    def _check_levels(self, rows):
        check_levels(rows, self.value_range, type(self).__name__)

    def _settle(self, rows, weight):
        self.levels_ = check_levels(rows, self.value_range, type(self).__name__)
        self._spec = self._structure()

    def _levels_of_now(self, rows):
        return check_levels(np.asarray(rows[:0]), self.value_range, type(self).__name__)

    def _structure(self):
        spec = {name: getattr(self, name) for name in ("backbone", "channels", "dropout")}
        spec["head"] = check_widths("head", self.head)
        return spec | {"auxiliary": self.auxiliary_weight > 0}

    def _initial(self):
        backbone = self._backbone(weights=self.weights, sha256=self.sha256)
        self.weights_info_ = info = backbone.weights_info
        n_channels = backbone.in_channels
        self.mean_ = tuple(info.mean) if info else (NEUTRAL_MEAN,) * n_channels
        self.std_ = tuple(info.std) if info else (NEUTRAL_STD,) * n_channels
        if self.dataset is not None and info is not None:
            check_contamination(info, self.dataset)
        return Network(self._prepare_module(), self._with_head(backbone, self._n_outputs))

    def _backbone(self, **source):
        spec = self._spec
        return build_backbone(
            spec["backbone"],
            channels=spec["channels"],
            auxiliary=spec["auxiliary"],
            image_size=tuple(self.image_shape_[:2]),
            **source,
        )

    def _prepare_module(self):
        n_channels = self.image_shape_[2] if len(self.image_shape_) == 3 else 1
        return Prepare(*self.levels_, self.mean_, self.std_, channels=n_channels)

    def _body_module(self, n_outputs):
        return self._with_head(self._backbone(weights=None, random_init=False), n_outputs)

    def _with_head(self, backbone, n_outputs):
        head, dropout = self._spec["head"], self._spec["dropout"]
        auxiliary = None
        if backbone.n_auxiliary:
            widths = backbone.auxiliary_widths
            auxiliary = nn.ModuleList(make_head(width, n_outputs) for width in widths)
        main = make_head(backbone.n_features, n_outputs, head, dropout)
        return BackboneBody(backbone, main, auxiliary)

    def _groups(self, module):
        body = module.body
        trained = {"head": (), "last": body.backbone.last_stage, "all": ("",)}[self.fine_tune]
        body.freeze(trained)
        backbone = [p for p in body.backbone.parameters() if p.requires_grad]
        heads = [p for name, p in body.named_parameters() if not name.startswith("backbone.")]
        rate = self.lr if self.backbone_lr is None else self.backbone_lr
        return [{"params": heads, "lr": self.lr}, {"params": backbone, "lr": rate}]

    def _features(self, module, rows, device, dtype):
        changed = self.augment is not None or self.mixup or self._auxiliary_weight()
        if self.fine_tune != "head" or changed:
            return None
        frozen = inference_copy(Network(module.prepare, module.body.backbone), dtype, device)
        features = forward_batches(
            frozen,
            rows,
            batch_size=self.batch_size,
            device=device,
            dtype=dtype,
            image_shape=self._row_shape(),
            verbose=self.verbose,
            description="features",
        )
        return features, module.body.head

    def _auxiliary_weight(self):
        return self.auxiliary_weight
