"""The films that a classifier is most wrong about."""

from numbers import Integral, Real

import numpy as np
import pandas as pd

from sklearn_cxr.inspection._display_base import (
    axes_grid,
    file_names,
    grey_levels,
    n_rows,
    show_image,
    take_images,
)
from sklearn_cxr.inspection._evaluate_scores import (
    check_binary,
    check_scores,
    ordered_classes,
    predict_scores,
)
from sklearn_cxr.model_selection._groups import encode_groups
from sklearn_cxr.utils._sklearn import Interval, validate_params

KINDS = ("false negative", "false positive")


def find_errors(y, score, *, called, n_errors, groups=None, files=None):
    """Find the most confident errors of both kinds.

    Parameters
    ----------
    y : ndarray of shape (n,), 0 or 1
        What the films show.

    score : ndarray of shape (n,)
        Score of the positive class.

    called : ndarray of shape (n,), dtype bool
        Films that count as positive.

    n_errors : int
        Errors of each kind.

    groups, files : ndarray of shape (n,) or None, default=None
        Patient and file of each film.

    Returns
    -------
    DataFrame
        Columns kind, row, score, and patient and file where they are given; the most confident
        errors of each kind first.
    """
    tables = []
    for kind, wrong, sign in (
        (KINDS[0], (y == 1) & ~called, 1),
        (KINDS[1], (y == 0) & called, -1),
    ):
        rows = np.flatnonzero(wrong)
        rows = rows[np.argsort(sign * score[rows], kind="stable")][:n_errors]
        table = pd.DataFrame({"row": rows, "score": score[rows]})
        table.insert(0, "kind", np.full(len(rows), kind, dtype=object))
        for name, values in (("patient", groups), ("file", files)):
            if values is not None:
                table[name] = np.asarray(values, dtype=object)[rows]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


class ErrorGalleryDisplay:
    """The most confident false negatives and false positives of a classifier.

    Made by :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    errors : DataFrame of shape (n, 3 to 5)
        Columns kind ("false negative" or "false positive"), row (in the data), score, and
        patient and file where they are known.

    images : ndarray of shape (n, h, w) or (n, h, w, c)
        Their films, in the order of `errors`.

    counts : dict of str to int
        All errors of each kind, drawn or not.

    threshold : float, default=0.5
        Films at or above it count as positive.

    levels : tuple of (float, float), default=(0.0, 255.0)
        Grey levels that are drawn black and white.

    Attributes
    ----------
    axes_ : ndarray of Axes of shape (2, n_columns)
        The axes, after :meth:`plot`.

    figure_ : Figure
        The figure, after :meth:`plot`.

    See Also
    --------
    subgroup_report : In which films the errors are.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.inspection import ErrorGalleryDisplay
    >>> from sklearn_cxr.linear_model import PixelLogisticRegression
    >>> train, test = (
    ...     make_chest_xrays(
    ...         100, image_size=32, classes=("normal", "viral"), random_state=seed
    ...     ) for seed in (0, 1)
    ... )
    >>> model = PixelLogisticRegression(C=1e-3).fit(train.images, train.target)
    >>> display = ErrorGalleryDisplay.from_estimator(
    ...     model, test.images, test.target, groups=test.groups, n_errors=3
    ... )
    >>> display.errors.columns.tolist()
    ['kind', 'row', 'score', 'patient']

    .. Close the figure.
       >>> import matplotlib.pyplot as plt
       >>> plt.close(display.figure_)
    """

    def __init__(self, errors, *, images, counts, threshold=0.5, levels=(0.0, 255.0)):
        self.errors = errors
        self.images = images
        self.counts = counts
        self.threshold = threshold
        self.levels = levels

    @classmethod
    @validate_params(
        {
            "threshold": [Interval(Real, None, None, closed="neither")],
            "n_errors": [Interval(Integral, 1, 50, closed="both")],
            "size": [Interval(Integral, 1, None, closed="left"), None],
            "image_shape": ["array-like", None],
        },
        prefer_skip_nested_validation=True,
    )
    def from_predictions(
        cls,
        y_true,
        score,
        *,
        X,
        groups=None,
        files=None,
        pos_label=None,
        threshold=0.5,
        n_errors=5,
        size=None,
        image_shape=None,
        ax=None,
    ):
        """Draw the films behind the most confident errors.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            Class of each film, of two.

        score : array-like of shape (n,)
            Score or probability of the positive class.

        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features), or of n paths
            Films; only those that are drawn are read.

        groups : array-like of shape (n,), default=None
            Patient of each film.

        files : array-like of shape (n,), default=None
            Name of each film's file; None takes those of `X` where it holds paths.

        pos_label : object, default=None
            Positive class; None takes the last of the two in order.

        threshold : float, default=0.5
            Films at or above it count as positive.

        n_errors : int, default=5
            Errors of each kind to draw.

        size : int, default=None
            Height and width that the films are brought to; None leaves them as they are (paths
            are then read at 224).

        image_shape : tuple of int, default=None
            Shape of one image behind flat rows; None means a square.

        ax : Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : ErrorGalleryDisplay
            What was drawn.

        Raises
        ------
        ValueError
            If lengths differ, scores are not finite, or there are not two classes.
        """
        caller = "ErrorGalleryDisplay"
        classes = ordered_classes(y_true, pos_label, caller)
        if len(classes) != 2:
            raise ValueError(f"{caller} got the classes {classes[:5]}; expected two of them.")
        y, score = check_binary(y_true, classes, caller), check_scores(score, caller)
        return cls._of_calls(
            y,
            score,
            score >= threshold,
            X=X,
            groups=groups,
            files=files,
            threshold=threshold,
            n_errors=n_errors,
            size=size,
            image_shape=image_shape,
            ax=ax,
        )

    @classmethod
    def _of_calls(
        cls,
        y,
        score,
        called,
        *,
        X,
        threshold,
        groups=None,
        files=None,
        n_errors=5,
        size=None,
        image_shape=None,
        ax=None,
    ):
        """Draw the errors of films that are called positive by whatever rule."""
        caller = "ErrorGalleryDisplay"
        files = file_names(X) if files is None else files
        for name, values in (("y_true", y), ("score", score), ("files", files)):
            if values is not None and len(values) != n_rows(X):
                raise ValueError(
                    f"{caller} got {len(values)} entries in {name} for {n_rows(X)} films; "
                    "expected one per film."
                )
        if groups is not None:
            codes, patients = encode_groups(groups, len(y), caller=caller)
            groups = patients[codes]
        errors = find_errors(
            y, score, called=called, n_errors=n_errors, groups=groups, files=files
        )
        missed, wrong = (y == 1) & ~called, (y == 0) & called
        counts = dict(zip(KINDS, (int(missed.sum()), int(wrong.sum())), strict=True))
        images = np.empty((0, 1, 1), dtype=np.uint8)
        if len(errors):
            rows = errors["row"].to_numpy()
            images = take_images(X, rows, size=size, image_shape=image_shape, caller=caller)
        levels = grey_levels(images) if len(errors) else (0.0, 255.0)
        display = cls(errors, images=images, counts=counts, threshold=threshold, levels=levels)
        return display.plot(ax=ax)

    @classmethod
    def from_estimator(
        cls, estimator, X, y, *, images=None, pos_label=None, threshold=None, **kwargs
    ):
        """Draw the films that a fitted classifier is most wrong about.

        Parameters
        ----------
        estimator : fitted classifier
            Of two classes.

        X : array-like
            Films in the form that it takes.

        y : array-like of shape (n,)
            Class of each film.

        images : array-like of n films, default=None
            What is drawn; None takes `X`.

        pos_label : object, default=None
            Positive class; None takes ``classes_[1]``.

        threshold : float, default=None
            Films at or above it count as positive; None takes the films
            that its ``predict`` calls positive.

        **kwargs : dict
            Further parameters of :meth:`from_predictions`.

        Returns
        -------
        display : ErrorGalleryDisplay
            What was drawn.

        Raises
        ------
        ValueError
            If the classifier knows more than two classes.
        """
        caller = "ErrorGalleryDisplay.from_estimator"
        scores = predict_scores(
            estimator, X, pos_label=pos_label, with_calls=threshold is None, caller=caller
        )
        if scores.kind != "binary":
            raise ValueError(
                f"{caller} got a classifier of {len(scores.classes)} classes; expected two. For "
                "one class against the others pass its probability to from_predictions."
            )
        y = check_binary(y, scores.classes, caller)
        if kwargs.get("files") is None:
            kwargs["files"] = file_names(X)
        given = {"X": X if images is None else images, **kwargs}
        if scores.called is not None:
            # As predict calls them, which no threshold may say.
            return cls._of_calls(
                y, scores.values, scores.called, threshold=scores.threshold, **given
            )
        return cls.from_predictions(
            y,
            scores.values,
            pos_label=1,
            threshold=scores.threshold if threshold is None else threshold,
            **given,
        )

    def plot(self, *, ax=None):
        """Draw false negatives above, false positives below, the most confident first.

        Parameters
        ----------
        ax : Axes, default=None
            The axes whose place the grid takes; None makes a figure.

        Returns
        -------
        self : ErrorGalleryDisplay
            The display, with `axes_` and `figure_`.
        """
        shown = {kind: self.errors.index[self.errors["kind"] == kind] for kind in KINDS}
        columns = max(1, *(len(index) for index in shown.values()))
        self.figure_, self.axes_ = axes_grid(
            ax, (2, columns), cell=(2.5, 3.2), caller="ErrorGalleryDisplay.plot"
        )
        for axes, (kind, index) in zip(self.axes_, shown.items(), strict=True):
            for axis in axes:
                axis.set(xticks=[], yticks=[])
                axis.set_frame_on(False)
            axes[0].set_ylabel(f"{kind}s\n{len(index)} of {self.counts[kind]}", fontsize=15)
            if not len(index):
                axes[0].text(0.5, 0.5, "none", fontsize=15, ha="center", va="center")
            for axis, number in zip(axes, index, strict=False):
                show_image(axis, self.images[number], self.levels)
                axis.set_title(self._title(self.errors.loc[number]), fontsize=13)
        return self

    def _title(self, error):
        lines = [f"score {error['score']:.3f}"]
        lines += [_short(str(error[name])) for name in ("patient", "file") if name in error.index]
        return "\n".join(lines)


def _short(text, most=20):
    """Keep both ends of a long name: the start says whose it is, the end which."""
    return text if len(text) <= most else f"{text[: most - 10]}...{text[-7:]}"
