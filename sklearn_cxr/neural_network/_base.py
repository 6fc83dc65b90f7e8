"""What the networks have in common: fit, predict, go on, be stored."""

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_cxr.neural_network import _persistence
from sklearn_cxr.neural_network._device import resolve_precision
from sklearn_cxr.neural_network._going_on import check_same_structure
from sklearn_cxr.neural_network._inference import forward_batches
from sklearn_cxr.neural_network._labels import (
    check_known,
    check_same_task,
    encode_classes,
    encode_labels,
    encode_part,
    is_multilabel,
    subset_score,
)
from sklearn_cxr.neural_network._network import Network, Probabilities
from sklearn_cxr.neural_network._parameters import ParamsMixin
from sklearn_cxr.neural_network._run import Run
from sklearn_cxr.neural_network._validation import check_groups, check_sides, hold_out
from sklearn_cxr.utils._chunks import validate_rows
from sklearn_cxr.utils._sklearn import (
    CallbackSupportMixin,
    _check_sample_weight,
    _fit_context,
    fit_task,
    with_callbacks,
)

DEFAULT_VALIDATION_FRACTION = 0.1
# Fitted attributes that are not for the user.
_PRIVATE = "_exclusive _n_outputs _constant _history _fitted_on_levels _spec _split_seed".split()


class BaseNetworkClassifier(ParamsMixin, CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    """A network that is trained by `fit` and answers with probabilities.

    A subclass gives ``_settle(X, weight)``, which sets the constants of its preparation in
    `fit`, and ``_spec`` to what ``_structure()`` gives, the parameters that are built in;
    ``_prepare_module()`` and ``_body_module(n_outputs)``, which build the parts of the
    network from fitted attributes alone, and ``_groups(module)``, the optimiser's groups.
    """

    # Whoever splits, splits by patient: a fit asks for the groups where metadata are routed.
    __metadata_request__fit = {"groups": True}
    __metadata_request__partial_fit = {"groups": True}

    # Parameters of images, which a network on features does not have.
    augment = None
    mixup = 0.0
    tta = None
    image_shape = None

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, groups=None):
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images; an array, a memory map, or the view that ImageReader gives.

        y : array-like of shape (n,) or (n, n_labels)
            Class labels of any hashable kind; or a column of 0, 1 and NaN (unknown) for each of
            several labels.

        sample_weight : array-like of shape (n,) or None, default=None
            Weights of the images in the loss.

        groups : array-like of shape (n,) or None, default=None
            Patients, by which images are held out where `early_stopping`, `validation_fraction`
            or ``lr_schedule="plateau"`` need some.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        ValueError
            If `y` holds one class only, a label is known of no image, or the loss diverges.
        MemoryError
            If a batch does not fit into the memory of the device.

        Warns
        -----
        LeakageRiskWarning
            If images are held out and there are no `groups`.
        """
        previous = self._previous(self.warm_start)
        with fit_task(self, X, y, n_steps=self.max_epochs) as task:
            rows, labels, weight = self._validate_fit(X, y, sample_weight, previous is not None)
            rng, split = self._generators(previous)
            sides = self._sides(labels.codes, weight, groups, split)
            if previous is None:
                # What is held out must not tell of itself through the preparation.
                self._settle(rows, np.where(np.isin(np.arange(len(rows)), sides[0]), weight, 0))
            run = Run(self, rows, labels, weight, sides, rng, previous)
            self._begin(labels)
            run.train(self.max_epochs, task=task, given=(X, y))
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, classes=None, sample_weight=None, groups=None):
        """Train for one epoch on a part of the data.

        The network, the optimiser and what was learnt of the grey levels go on from call to call;
        through a file the optimiser and the raw weights behind an average go only with
        ``warm_start=True``. Nothing is held out; schedules of the learning rate do not apply.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images.

        y : array-like of shape (n,) or (n, n_labels)
            Labels as in ``fit``.

        classes : array-like of shape (n_classes,) or None, default=None
            All labels that will come; needed in the first call where `y` has one column.

        sample_weight : array-like of shape (n,) or None, default=None
            Weights of the images in the loss.

        groups : array-like of shape (n,) or None, default=None
            Ignored, since nothing is held out.

        Returns
        -------
        self : object
            The classifier.

        Raises
        ------
        ValueError
            If the first call names no `classes`, or labels come that were not named.
        """
        previous = self._previous(True)
        rows, labels, weight = self._validate_fit(
            X, y, sample_weight, previous is not None, classes=classes, partial=True
        )
        check_groups(groups, len(rows), type(self).__name__)
        if previous is None:
            self._settle(rows, weight)
        rng, _ = self._generators(previous)
        run = Run(self, rows, labels, weight, (np.arange(len(rows)), None), rng, previous)
        self._begin(labels)
        run.train_part()
        return self

    def predict_proba(self, X):
        """Probability of each class.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the shape and kind of grey level seen in ``fit``.

        Returns
        -------
        ndarray of shape (n, n_classes) or (n, n_labels), dtype=float64
            Probabilities in the order of ``classes_``; for several labels that each is present.
        """
        check_is_fitted(self)
        rows = self._validate_predict(X)
        device = _persistence.settle(self)
        dtype = self._dtype(device)
        module = self.net_.predictor(dtype)
        probabilities = forward_batches(
            Probabilities(module, exclusive=self._exclusive, tta=self.tta),
            rows,
            batch_size=self.batch_size,
            device=device,
            dtype=torch.float64 if device.type != "mps" else torch.float32,
            image_shape=self._row_shape(),
        ).astype(np.float64, copy=False)
        if self._constant is not None:
            return np.where(np.isnan(self._constant), probabilities, self._constant)
        if probabilities.shape[1] == 1:
            return np.column_stack([1 - probabilities, probabilities])
        return probabilities

    def predict(self, X):
        """Most probable class; for several labels whether each is more likely than not.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the shape and kind of grey level seen in ``fit``.

        Returns
        -------
        ndarray of shape (n,) or (n, n_labels)
            Labels as ``fit`` got them; 0 and 1 for several labels.
        """
        probabilities = self.predict_proba(X)
        if self._constant is not None:
            return (probabilities > 0.5).astype(np.int64)
        return self.classes_[probabilities.argmax(axis=1)]

    def score(self, X, y, sample_weight=None):
        """Accuracy: the share of the images whose label is predicted right.

        Of several labels all that are known have to be right; an image of which none is known
        does not count.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images.

        y : array-like of shape (n,) or (n, n_labels)
            Labels.

        sample_weight : array-like of shape (n,) or None, default=None
            Weights of the images.

        Returns
        -------
        float
            The accuracy, in [0, 1].
        """
        check_is_fitted(self)
        if self._constant is not None:
            return subset_score(y, self.predict(X), sample_weight)
        check_known(y, self.classes_)
        return super().score(X, y, sample_weight)

    def to_onnx(self, path):
        """Write the network as an ONNX file: stored grey levels in, probabilities out.

        The preparation of the grey levels is part of the file. What onnxruntime answers is
        compared with the network in float32, not with a bfloat16 ``predict_proba``, on three rows
        of noise before the file gets its name. Needs the extra ``onnx``.

        Parameters
        ----------
        path : str or path-like
            The file to write.

        Returns
        -------
        Path
            `path`.

        Raises
        ------
        ImportError
            If a package of the extra is not installed.
        RuntimeError
            If onnxruntime answers differently by more than 1e-4.
        """
        from sklearn_cxr.neural_network._onnx import export

        check_is_fitted(self)
        return export(self, path)

    @property
    def history_(self):
        """What each epoch came to, as a DataFrame."""
        check_is_fitted(self)
        epochs = pd.RangeIndex(1, self.n_iter_ + 1, name="epoch")
        columns = {name: np.array(column) for name, column in self._history.items()}
        return pd.DataFrame(columns, index=epochs)

    # ------------------------------------------------------------------ for the fit's machinery

    def _validate_fit(self, X, y, sample_weight, going_on, *, classes=None, partial=False):
        """Rows, labels and weights of a fit; settles what the network is prepared with."""
        name = type(self).__name__
        if y is None:
            # scikit-learn's own words for an estimator that needs a target.
            validate_data(self, X, y)
        many = is_multilabel(y)
        rows = self._validate_rows(X, reset=not going_on, **({} if many else {"y": y}))
        rows, y = (rows, y) if many else rows
        weight = _check_sample_weight(
            sample_weight, np.empty(len(rows)), dtype=np.float64, ensure_non_negative=True
        )
        if partial and self.class_weight == "balanced":
            raise ValueError(
                f"{name}.partial_fit cannot balance the classes, because a part does not tell how "
                "many there are in all. Give class_weight as a dict."
            )
        if many:
            labels = encode_labels(y, len(rows), weight, name, partial=partial)
        elif partial:
            labels = encode_part(y, self.classes_ if going_on else classes, name)
        else:
            labels = encode_classes(y, weight, name)
        if going_on:
            check_same_task(labels, self.classes_, self._constant, classes, name)
            check_same_structure(self, rows)
        else:
            self.classes_ = labels.classes
            self._exclusive, self._n_outputs = labels.exclusive, labels.n_outputs
            self._constant = labels.constant
        return rows, labels, weight

    def _begin(self, labels):
        """Cease to be fitted, so that no interrupt leaves what only looks like a whole fit."""
        self.__dict__.pop("net_", None)
        if labels.constant is not None:
            # A label that has one value here may have had another before.
            same = self._constant == labels.constant
            self._constant = np.where(same, labels.constant, np.nan)

    def _sides(self, codes, weight, groups, rng):
        """Row numbers that train and that judge, the latter None where nothing asks for them."""
        check_groups(groups, len(codes), type(self).__name__)
        asked = self.early_stopping or self.lr_schedule == "plateau"
        fraction = self.validation_fraction
        if fraction is None and not asked:
            return np.arange(len(codes)), None
        if fraction is None:
            fraction = DEFAULT_VALIDATION_FRACTION
        sides = hold_out(codes, groups, fraction, rng, caller=type(self).__name__)
        check_sides(codes, weight, sides, caller=type(self).__name__)
        return sides

    def _validate_rows(self, X, *, reset, **target):
        out = validate_rows(self, X, *target.values(), reset=reset, image_shape=self.image_shape)
        self._check_levels(out[0] if target else out)
        return out

    def _validate_predict(self, X):
        return self._validate_rows(X, reset=False)

    def _check_levels(self, rows):
        """Hold the grey levels to the range that the network needs, where it needs one."""

    def _levels_of_now(self, rows):
        """Grey levels of black and white that a parameter says for rows; None without one."""
        return None

    def _row_shape(self):
        return tuple(self.image_shape_)

    def _dtype(self, device):
        return resolve_precision(self.precision, device)

    def _build(self):
        """Build the network from fitted attributes, with initial weights."""
        return Network(self._prepare_module(), self._body_module(self._n_outputs))

    def _features(self, module, rows, device, dtype):
        """Rows of what is before the trained part, and that part; None where all is trained."""
        return None

    def _initial(self):
        """Build the network that a fit starts from."""
        return self._build()

    def _bounded(self):
        """Tell whether prepared grey levels are within [0, 1]."""
        return True

    def _auxiliary_weight(self):
        """Weight of the loss of auxiliary branches."""
        return 0.0

    def _previous(self, goes_on):
        """Give the net of an earlier fit to go on from, or forget that fit."""
        net = vars(self).get("net_")
        if goes_on and net is not None:
            return net
        for name in list(vars(self)):
            if name in _PRIVATE or (name.endswith("_") and not name.startswith("_")):
                del self.__dict__[name]
        return None

    def _generators(self, previous):
        """Make the generators of a fit and of what it holds out.

        A fit that goes on draws anew, but holds out the same: what was learnt from cannot judge.
        """
        seed = check_random_state(self.random_state).randint(2**31)
        if previous is None:
            self._split_seed = seed
            rng = np.random.RandomState(seed)
            return rng, rng
        split = np.random.RandomState(self._split_seed)
        return np.random.RandomState((seed + self.n_iter_) % 2**32), split

    def __sklearn_is_fitted__(self):
        return "net_" in self.__dict__

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def __getstate__(self):
        return _persistence.pack(self, super().__getstate__())

    def __setstate__(self, state):
        super().__setstate__(_persistence.unpack(state))
        _persistence.restore(self, state)
