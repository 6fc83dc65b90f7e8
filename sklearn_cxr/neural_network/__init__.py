"""Networks as scikit-learn classifiers: from scratch, transferred, and on features."""

from sklearn_cxr.neural_network._backbones import list_backbones
from sklearn_cxr.neural_network._cnn import CNNClassifier
from sklearn_cxr.neural_network._dense import DenseHeadClassifier
from sklearn_cxr.neural_network._history import TrainingHistoryDisplay
from sklearn_cxr.neural_network._transfer import TransferClassifier
from sklearn_cxr.neural_network._weights import WeightsInfo, check_contamination

__all__ = [
    "CNNClassifier",
    "DenseHeadClassifier",
    "TrainingHistoryDisplay",
    "TransferClassifier",
    "WeightsInfo",
    "check_contamination",
    "list_backbones",
]
