"""The learning curve by patients as a picture."""

from sklearn_cxr.inspection._display_base import COLORS, LINES, MARKERS, cycle, one_axes
from sklearn_cxr.inspection._studies import learning_curve_by_patients


class PatientLearningCurveDisplay:
    """Score against the number of training patients.

    Made by :meth:`from_estimator`.

    Parameters
    ----------
    curve : DataFrame
        As :func:`learning_curve_by_patients` returns it.

    score_name : str, default="score"
        What the score is called.

    Attributes
    ----------
    ax_ : Axes
        The axes, after :meth:`plot`.

    figure_ : Figure
        The figure, after :meth:`plot`.

    lines_ : dict of str to ErrorbarContainer
        The curves, after :meth:`plot`.

    See Also
    --------
    sklearn.model_selection.ValidationCurveDisplay : For sizes of films and depths of networks.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.inspection import PatientLearningCurveDisplay
    >>> from sklearn_cxr.linear_model import PixelLogisticRegression
    >>> films = make_chest_xrays(
    ...     120, image_size=16, classes=("normal", "viral"), random_state=0
    ... )
    >>> display = PatientLearningCurveDisplay.from_estimator(
    ...     PixelLogisticRegression(C=1e-3), films.images, films.target, groups=films.groups,
    ...     n_patients=[10, 40], cv=3, scoring="roc_auc", random_state=0,
    ... )
    >>> sorted(display.lines_)
    ['test', 'training']

    .. Close the figure.
       >>> import matplotlib.pyplot as plt
       >>> plt.close(display.figure_)
    """

    def __init__(self, curve, *, score_name="score"):
        self.curve = curve
        self.score_name = score_name

    @classmethod
    def from_estimator(cls, estimator, X, y, *, groups, score_name=None, ax=None, **kwargs):
        """Compute the curve and draw it.

        Parameters
        ----------
        estimator : estimator
            Classifier or Pipeline; it is cloned.

        X : array-like of shape (n, ...)
            Films in the form that `estimator` takes.

        y : array-like of shape (n,) or (n, n_labels)
            Labels.

        groups : array-like of shape (n,)
            Patient of each film.

        score_name : str, default=None
            What the score is called; None takes `scoring` where that is a name.

        ax : Axes, default=None
            Where to draw; None makes a figure.

        **kwargs : dict
            Further parameters of :func:`learning_curve_by_patients`.

        Returns
        -------
        display : PatientLearningCurveDisplay
            What was drawn.
        """
        curve = learning_curve_by_patients(estimator, X, y, groups=groups, **kwargs)
        scoring = kwargs.get("scoring")
        if score_name is None:
            score_name = {"roc_auc": "AUC"}.get(scoring, scoring)
            score_name = score_name if isinstance(score_name, str) else "score"
        return cls(curve, score_name=score_name).plot(ax=ax)

    @classmethod
    def from_curve(cls, curve, *, score_name="score", ax=None):
        """Draw a curve that was computed before.

        Parameters
        ----------
        curve : DataFrame
            As :func:`learning_curve_by_patients` returns it.

        score_name : str, default="score"
            What the score is called.

        ax : Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : PatientLearningCurveDisplay
            What was drawn.
        """
        return cls(curve, score_name=score_name).plot(ax=ax)

    def plot(self, *, ax=None, name=None):
        """Draw mean and standard deviation over the folds.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw, beside what is there; None makes a figure.

        name : str, default=None
            Name of the model, to compare several in one axes; None leaves it out.

        Returns
        -------
        self : PatientLearningCurveDisplay
            The display, with `ax_`, `figure_` and `lines_`.
        """
        self.figure_, self.ax_ = one_axes(
            ax, size=(6.4, 4.6), caller="PatientLearningCurveDisplay.plot"
        )
        grouped = self.curve.groupby("n_patients")
        offset = len(self.ax_.containers)
        self.lines_ = {}
        for number, (side, column) in enumerate(
            (("test", "test_score"), ("training", "train_score"))
        ):
            mean, deviation = grouped[column].mean(), grouped[column].std(ddof=1).fillna(0.0)
            self.lines_[side] = self.ax_.errorbar(
                mean.index.to_numpy(),
                mean.to_numpy(),
                deviation.to_numpy(),
                color=cycle(COLORS, offset + number),
                linestyle=cycle(LINES, offset + number),
                marker=cycle(MARKERS, offset + number),
                markersize=8,
                linewidth=2.5,
                capsize=4,
                label=side if name is None else f"{name}, {side}",
            )
        n_folds = self.curve["fold"].nunique()
        self.ax_.set_xlabel("training patients", fontsize=14)
        self.ax_.set_ylabel(
            f"{self.score_name}\n(mean and deviation of {n_folds} folds)", fontsize=14
        )
        self.ax_.tick_params(labelsize=13)
        self.ax_.set_xlim(left=0)
        self.ax_.legend(fontsize=13)
        return self
