"""Films as points: principal components, t-SNE and k-means over pixels or features."""

from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import adjusted_rand_score
from sklearn.utils import check_array

from sklearn_cxr.inspection._display_base import (
    COLORS,
    MARKERS,
    class_codes,
    cycle,
    generator,
    one_axes,
    preprocess,
)
from sklearn_cxr.utils._sklearn import Interval, StrOptions, validate_params

_LABELS = {"tsne": ("t-SNE 1", "t-SNE 2")}
_TSNE_COMPONENTS = 50


def _flat_features(X):
    """Return pixels or features as finite floats, a row for each film."""
    X = np.asarray(X)
    if X.ndim < 2:
        raise ValueError(
            f"EmbeddingDisplay got an array of shape {X.shape}; expected a row of pixels or of "
            "features for each film. Paths go through from_estimator with an ImageReader."
        )
    X = X.reshape(len(X), -1)
    dtype = np.float32 if X.dtype == np.float32 else np.float64
    return check_array(X, dtype=dtype, ensure_min_samples=3, input_name="X")


def _embed(X, method, *, n_clusters, perplexity, random_state):
    """Coordinates, share of the variance along each axis (or None), clusters (or None)."""
    # One seed for each step, so that the clusters do not depend on the decomposition.
    random = generator(random_state)
    seeds = random.randint(2**31 - 1, size=2).tolist()
    n_components = 2 if method != "tsne" else min(_TSNE_COMPONENTS, *X.shape)
    pca = PCA(min(n_components, *X.shape), random_state=seeds[0]).fit(X)
    coordinates = pca.transform(X)
    if method == "tsne":
        perplexity = min(perplexity, (len(X) - 1) / 3)
        tsne = TSNE(perplexity=perplexity, init="pca", random_state=seeds[1])
        return tsne.fit_transform(coordinates), None, None
    if coordinates.shape[1] < 2:
        coordinates = np.column_stack([coordinates, np.zeros(len(X))])
    shares = np.append(pca.explained_variance_ratio_, 0.0)[:2]
    clusters = None
    if method == "kmeans":
        if n_clusters > len(X):
            raise ValueError(
                f"EmbeddingDisplay got n_clusters={n_clusters} for {len(X)} films; expected at "
                "most as many clusters as films."
            )
        clusters = KMeans(n_clusters, n_init=10, random_state=seeds[1]).fit_predict(X)
    return coordinates, shares, clusters


class EmbeddingDisplay:
    """Films as points in a plane, by pixels or by features of a network.

    Made by :meth:`from_features` or :meth:`from_estimator`.

    Parameters
    ----------
    embedding : ndarray of shape (n, 2)
        Coordinates of the films.

    codes : ndarray of shape (n,), dtype int
        Number of the class of each film.

    names : list of str
        Names of the classes.

    method : {"pca", "tsne", "kmeans"}, default="pca"
        How the films were placed.

    explained_variance_ratio : ndarray of shape (2,), default=None
        Share of the variance along each axis, for "pca" and "kmeans".

    clusters : ndarray of shape (n,), dtype int, default=None
        Number of the cluster of each film, for "kmeans".

    Attributes
    ----------
    contingency : DataFrame of shape (n_clusters, n_classes) or None
        Films of each class in each cluster.

    ax_ : Axes
        The axes, after :meth:`plot`.

    figure_ : Figure
        The figure, after :meth:`plot`.

    Notes
    -----
    Distances between groups and sizes of groups in a t-SNE picture mean nothing [1]_; that films
    lie together means that they are similar. Look at what else separates such groups (view,
    hospital, exposure) before believing that it is the disease.

    References
    ----------
    .. [1] L. van der Maaten and G. Hinton, "Visualizing data using t-SNE", Journal of Machine
       Learning Research 9, 2579-2605, 2008.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.inspection import EmbeddingDisplay
    >>> films = make_chest_xrays(60, image_size=32, random_state=0)
    >>> display = EmbeddingDisplay.from_features(
    ...     films.images, films.target, method="kmeans", target_names=films.target_names,
    ...     random_state=0,
    ... )
    >>> display.embedding.shape, display.contingency.shape
    ((60, 2), (3, 3))

    .. Close the figure.
       >>> import matplotlib.pyplot as plt
       >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        embedding,
        *,
        codes,
        names,
        method="pca",
        explained_variance_ratio=None,
        clusters=None,
    ):
        self.embedding = embedding
        self.codes = codes
        self.names = names
        self.method = method
        self.explained_variance_ratio = explained_variance_ratio
        self.clusters = clusters

    @property
    def contingency(self):
        """Films of each class in each cluster, or None without clusters."""
        if self.clusters is None:
            return None
        names = np.asarray(self.names, dtype=object)
        rows = pd.Series(self.clusters, name="cluster")
        columns = pd.Series(names[self.codes], name="class")
        return pd.crosstab(rows, columns).reindex(columns=names, fill_value=0)

    @classmethod
    @validate_params(
        {
            "method": [StrOptions({"pca", "tsne", "kmeans"})],
            "target_names": ["array-like", None],
            "n_clusters": [Interval(Integral, 2, None, closed="left"), None],
            "perplexity": [Interval(Integral, 1, None, closed="left")],
            "random_state": ["random_state"],
        },
        prefer_skip_nested_validation=True,
    )
    def from_features(
        cls,
        X,
        y=None,
        *,
        method="pca",
        target_names=None,
        n_clusters=None,
        perplexity=30,
        random_state=None,
        ax=None,
    ):
        """Place films in a plane by their pixels or features, and draw them.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Pixels, or features of a network; at least three films.

        y : array-like of shape (n,), default=None
            Class of each film; None takes all films as one class.

        method : {"pca", "tsne", "kmeans"}, default="pca"
            Two principal components; t-SNE (of the first 50 components); or k-means on all
            features, drawn on two principal components.

        target_names : list of str, default=None
            Names of the classes 0, 1, ...; None names them as `y` does.

        n_clusters : int, default=None
            Clusters of "kmeans"; None means as many as classes, and at least two.

        perplexity : int, default=30
            Neighbours of "tsne"; at most a third of the films are used.

        random_state : int, RandomState instance or None, default=None
            Governs t-SNE and k-means.

        ax : Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : EmbeddingDisplay
            What was drawn.

        Raises
        ------
        ValueError
            If `X` is no table of finite numbers, or `y` does not fit it.
        """
        X = _flat_features(X)
        codes, names = class_codes(y, len(X), target_names=target_names, caller="EmbeddingDisplay")
        embedding, shares, clusters = _embed(
            X,
            method,
            n_clusters=max(2, len(names)) if n_clusters is None else n_clusters,
            perplexity=perplexity,
            random_state=random_state,
        )
        display = cls(
            embedding,
            codes=codes,
            names=names,
            method=method,
            explained_variance_ratio=shares,
            clusters=clusters,
        )
        return display.plot(ax=ax)

    @classmethod
    def from_estimator(cls, estimator, X, y=None, **kwargs):
        """Place films by what a fitted transformer makes of them.

        Parameters
        ----------
        estimator : fitted transformer or Pipeline
            Such as a frozen network's features, or a reader; of a Pipeline that ends in a
            classifier, all steps but that.

        X : array-like
            Films in the form that `estimator` takes.

        y : array-like of shape (n,), default=None
            Class of each film.

        **kwargs : dict
            Further parameters of :meth:`from_features`.

        Returns
        -------
        display : EmbeddingDisplay
            What was drawn.
        """
        return cls.from_features(preprocess(estimator, X), y, **kwargs)

    def plot(self, *, ax=None):
        """Draw the films: classes by colour and marker, clusters by colour.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        self : EmbeddingDisplay
            The display, with `ax_` and `figure_`.
        """
        self.figure_, self.ax_ = one_axes(ax, size=(6.4, 5.4), caller="EmbeddingDisplay.plot")
        for code, name in enumerate(self.names):
            chosen = self.codes == code
            colors = cycle(COLORS, code)
            if self.clusters is not None:
                colors = [cycle(COLORS, cluster) for cluster in self.clusters[chosen]]
            self.ax_.scatter(
                *self.embedding[chosen].T,
                c=colors,
                marker=cycle(MARKERS, code),
                s=52,
                alpha=0.75,
                linewidths=0.4,
                edgecolors="white",
                label=name,
            )
        self._label()
        return self

    def _label(self):
        """Write axes, title and legends."""
        if self.method == "tsne":
            x_label, y_label = _LABELS["tsne"]
        else:
            x_label, y_label = (
                f"component {number} ({share:.0%} of the variance)"
                for number, share in enumerate(self.explained_variance_ratio, start=1)
            )
        self.ax_.set_xlabel(x_label, fontsize=14)
        self.ax_.set_ylabel(y_label, fontsize=14)
        self.ax_.tick_params(labelsize=12)
        if len(self.names) > 1:
            handles = self.ax_.get_legend_handles_labels()[0]
            legend = self.ax_.legend(handles, self.names, fontsize=13, title="class (marker)")
            legend.get_title().set_fontsize(12)
            if self.clusters is None:
                legend.set_title(None)
            else:
                for handle in legend.legend_handles:
                    handle.set_facecolor("0.4")
        if self.clusters is not None:
            text = f"{self.clusters.max() + 1} clusters (colour)"
            if len(self.names) > 1:
                agreement = adjusted_rand_score(self.codes, self.clusters)
                text += f"\nagreement with the classes {agreement:.2f}"
            self.ax_.set_title(text, fontsize=14)
