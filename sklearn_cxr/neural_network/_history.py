"""Curves of a training."""

from sklearn.utils.validation import check_is_fitted

from sklearn_cxr.utils._optional import import_optional

# Of Okabe and Ito, told apart by colour-blind readers too.
_TRAIN, _VALID = "#0072B2", "#D55E00"
_LABELS = {"loss": "Loss", "accuracy": "Accuracy"}


class TrainingHistoryDisplay:
    """Loss and accuracy of each epoch, of training and held-out images.

    Parameters
    ----------
    history : DataFrame
        ``history_`` of a network: epochs as the index, columns such as ``train_loss`` and
        ``valid_loss``.

    best_epoch : int or None, default=None
        Epoch to mark, whose weights were kept.

    estimator_name : str or None, default=None
        Put into the title.

    Attributes
    ----------
    axes_ : ndarray of Axes
        The axes, one for each quantity.

    figure_ : Figure
        The figure.

    lines_ : list of Line2D
        The curves.

    See Also
    --------
    CNNClassifier, TransferClassifier, DenseHeadClassifier : Have such a history.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn_cxr.neural_network import DenseHeadClassifier, TrainingHistoryDisplay
    >>> X, y = make_classification(random_state=0)
    >>> clf = DenseHeadClassifier((8,), max_epochs=3, random_state=0).fit(X, y)
    >>> display = TrainingHistoryDisplay.from_estimator(clf)
    >>> [ax.get_ylabel() for ax in display.axes_]
    ['Loss', 'Accuracy']
    """

    def __init__(self, history, *, best_epoch=None, estimator_name=None):
        self.history = history
        self.best_epoch = best_epoch
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(cls, estimator, *, axes=None, estimator_name=None, **line_kw):
        """Plot the history of a fitted network.

        Parameters
        ----------
        estimator : estimator or Pipeline
            A fitted network of this library, or a pipeline that ends in one.

        axes : sequence of two Axes or None, default=None
            Where to plot; None makes a figure.

        estimator_name : str or None, default=None
            Put into the title. None takes the name of the class.

        **line_kw : dict
            Passed to ``Axes.plot``.

        Returns
        -------
        TrainingHistoryDisplay
            The display.

        Raises
        ------
        TypeError
            If the estimator has no history.
        """
        if hasattr(estimator, "steps"):
            estimator = estimator[-1]
        if not hasattr(type(estimator), "history_"):
            raise TypeError(
                f"{type(estimator).__name__} has no training history. Give a fitted network of "
                "sklearn_cxr.neural_network, or a Pipeline that ends in one."
            )
        check_is_fitted(estimator)
        best = estimator.best_epoch_ if estimator.early_stopping else None
        display = cls(
            estimator.history_,
            best_epoch=best,
            estimator_name=estimator_name or type(estimator).__name__,
        )
        return display.plot(axes=axes, **line_kw)

    def plot(self, *, axes=None, **line_kw):
        """Plot the curves.

        Parameters
        ----------
        axes : sequence of two Axes or None, default=None
            For loss and accuracy; None makes a figure.

        **line_kw : dict
            Passed to ``Axes.plot``.

        Returns
        -------
        TrainingHistoryDisplay
            The display.
        """
        plt = import_optional(
            "matplotlib.pyplot", extra="plot", caller="TrainingHistoryDisplay.plot"
        )
        if axes is None:
            _, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
        self.axes_, self.figure_, self.lines_ = axes, axes[0].figure, []
        for ax, quantity in zip(axes, _LABELS, strict=True):
            self._plot_one(ax, quantity, line_kw)
        if self.estimator_name and len(self.lines_):
            self.figure_.suptitle(self.estimator_name)
        return self

    def _plot_one(self, ax, quantity, line_kw):
        marker = "o" if len(self.history) < 30 else None
        sides = (("train", "training", _TRAIN, "-"), ("valid", "held out", _VALID, "--"))
        for prefix, label, color, style in sides:
            column = f"{prefix}_{quantity}"
            if column not in self.history:
                continue
            options = {"color": color, "linestyle": style, "marker": marker, "markersize": 4}
            line = ax.plot(
                self.history.index, self.history[column], label=label, **{**options, **line_kw}
            )
            self.lines_ += line
        if self.best_epoch is not None:
            ax.axvline(self.best_epoch, color="0.6", linewidth=1, label="kept epoch", zorder=0)
        ax.set(xlabel="Epoch", ylabel=_LABELS[quantity])
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
