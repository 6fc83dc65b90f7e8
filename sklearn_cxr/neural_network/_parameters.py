"""Parameters that are no estimators, though scikit-learn takes them for some."""

import copy

from sklearn.base import BaseEstimator


class ParamsMixin:
    """Parameters of other libraries whose ``get_params`` is not that of an estimator.

    Most random transforms of torchvision have one: it draws. scikit-learn would call it wherever
    it clones the classifier or sets a parameter.
    """

    def get_params(self, deep=True):
        """Get the parameters of this estimator.

        Parameters
        ----------
        deep : bool, default=True
            Ignored: no parameter is an estimator itself.

        Returns
        -------
        dict
            Values by name.
        """
        return super().get_params(deep=False)

    def __sklearn_clone__(self):
        foreign = {
            name: value
            for name, value in self.get_params().items()
            if hasattr(value, "get_params") and not isinstance(value, type | BaseEstimator)
        }
        if not foreign:
            return super().__sklearn_clone__()
        bare = type(self).__new__(type(self))
        vars(bare).update(vars(self), **dict.fromkeys(foreign))
        cloned = super(ParamsMixin, bare).__sklearn_clone__()
        # As scikit-learn copies what is no estimator.
        vars(cloned).update(copy.deepcopy(foreign))
        return cloned
