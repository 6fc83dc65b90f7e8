"""Patient-wise folds that keep the shares of several labels at once."""

import numpy as np
from sklearn.utils import check_random_state

from sklearn_cxr.model_selection._allocation import Allocation, rarest_first
from sklearn_cxr.model_selection._groups import (
    count_by_patient,
    describe_column,
    encode_groups,
    label_indicators,
    warn_of_alike_ids,
)
from sklearn_cxr.utils._sklearn import GroupsConsumerMixin, _BaseKFold, _num_samples
from sklearn_cxr.utils._warn import warn

_RESTARTS = 10
_FEW_PATIENTS = 500


def _warn_about_rare(counts, names, n_splits):
    """Warn once about the labels that cannot stand in every fold."""
    holders = (counts > 0).sum(axis=0)
    rare = [
        f"{describe_column(name)} in {n} patient{'' if n == 1 else 's'}"
        for name, n in zip(names, holders, strict=True)
        if n < n_splits
    ]
    if rare:
        warn(
            f"With n_splits={n_splits} some folds lack: {'; '.join(rare)}. A score that needs "
            "them is undefined there; use fewer folds or leave these labels out of the score.",
            UserWarning,
        )


class MultilabelStratifiedGroupKFold(GroupsConsumerMixin, _BaseKFold):
    """Patient-wise cross-validation folds that keep the label shares of a 0/1/NaN matrix.

    All images of a patient stand in one fold. Over the folds, the numbers of images, of
    positive and of negative (hence also of known) images of every label, and of patients that
    have them, are brought as near to equal as whole patients allow. Patients with the rarest
    labels are placed first, each where it is needed most, as in iterative stratification [1]_;
    moves and exchanges of patients then even out what is left.

    A vector of classes is accepted as well: each class is then a label of its own.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2 and at most the number of patients.

    shuffle : bool, default=False
        Whether to place patients that are alike in random order. The folds do not depend on
        chance otherwise.

    random_state : int, RandomState instance or None, default=None
        Governs the order when `shuffle` is True. Pass an int for the same folds at every call.

    See Also
    --------
    sklearn.model_selection.StratifiedGroupKFold : The same for one label without NaN.
    sklearn_cxr.model_selection.patient_train_test_split : One split instead of folds.
    sklearn_cxr.model_selection.check_patient_leakage : Check any split for shared patients.

    Notes
    -----
    A label with fewer positive (or negative) patients than folds cannot stand in every fold;
    a ``UserWarning`` names its index. Any other label has at least one positive and one
    negative patient in every fold unless two labels contradict each other.

    References
    ----------
    .. [1] K. Sechidis, G. Tsoumakas, I. Vlahavas, "On the Stratification of Multi-Label Data",
       ECML PKDD 2011, https://doi.org/10.1007/978-3-642-23808-6_10

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_cxr.model_selection import MultilabelStratifiedGroupKFold
    >>> y = np.array([[1, 0], [1, 0], [0, 1], [0, np.nan], [1, 0], [0, 1], [0, 0], [1, 0]])
    >>> patients = ["a", "a", "b", "c", "d", "e", "f", "g"]
    >>> folds = MultilabelStratifiedGroupKFold(n_splits=2)
    >>> for train, test in folds.split(y, y, groups=patients):
    ...     print(len(test), np.nansum(y[test], axis=0))
    4 [2. 1.]
    4 [2. 1.]
    """

    def __init__(self, n_splits=5, *, shuffle=False, random_state=None):
        super().__init__(n_splits=n_splits, shuffle=shuffle, random_state=random_state)

    def split(self, X, y=None, groups=None):
        """Generate the row numbers of each training and test set.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            The images, or anything else with one row per image.

        y : array-like of shape (n_samples,) or (n_samples, n_labels), default=None
            Has to be given: one class per image, or a matrix of 0, 1 and NaN (unknown).

        groups : array-like of shape (n_samples,), default=None
            Has to be given: patient id of each image, a string, an integer or another hashable
            object.

        Yields
        ------
        train : ndarray of shape (n_train,), dtype=int64
            Row numbers of the training set of that split.

        test : ndarray of shape (n_test,), dtype=int64
            Row numbers of its test set.

        Raises
        ------
        ValueError
            If `y` or `groups` is absent or of another length than `X`, a patient id is
            missing, `y` has other values, or there are fewer patients than folds.
        """
        # Only documented here: the patients are placed in `_iter_test_masks`.
        yield from super().split(X, y, groups)

    def _iter_test_masks(self, X=None, y=None, groups=None):
        fold_of_image = self._assign_folds(_num_samples(X), y, groups)
        for fold in range(self.n_splits):
            yield fold_of_image == fold

    def _assign_folds(self, n_samples, y, groups):
        caller = type(self).__name__
        codes, patients = encode_groups(groups, n_samples, caller=caller)
        warn_of_alike_ids(patients, caller=caller)
        indicators, names = label_indicators(y, n_samples, caller=caller)
        if len(patients) < self.n_splits:
            raise ValueError(
                f"{caller} got n_splits={self.n_splits} for {len(patients)} patients; expected "
                "at most one fold per patient."
            )
        sizes, counts = count_by_patient(codes, len(patients), indicators)
        present = counts.any(axis=0)
        asked = present | np.array([not isinstance(n, tuple) or n[1] == 1 for n in names])
        _warn_about_rare(
            counts[:, asked], [n for n, a in zip(names, asked, strict=True) if a], self.n_splits
        )
        random_state = check_random_state(self.random_state if self.shuffle else 0)
        best, lowest = None, None
        # Small data sets have poor local optima: there, more than one start is tried.
        for restart in range(_RESTARTS if len(patients) <= _FEW_PATIENTS else 1):
            shuffled = random_state if self.shuffle or restart else None
            allocation = Allocation(
                sizes, counts[:, present], np.full(self.n_splits, 1 / self.n_splits), random_state
            )
            allocation.start_greedy(rarest_first(sizes, counts[:, present], shuffled))
            cost = allocation.improve().cost()
            if lowest is None or cost < lowest:
                best, lowest = allocation.parts, cost
        return best[codes]
