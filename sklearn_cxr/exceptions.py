"""Errors and warnings that sklearn-cxr raises beside Python's own."""

__all__ = [
    "AuditError",
    "ContaminationWarning",
    "DatasetError",
    "DatasetWarning",
    "DownloadError",
    "FallbackWarning",
    "ImageFormatError",
    "LeakageRiskWarning",
    "PatientLeakageError",
    "StoreWarning",
    "UnreadableImageWarning",
    "VersionMismatchWarning",
    "WeightsError",
]


class PatientLeakageError(ValueError):
    """The same patient stands on both sides of a split."""


class ImageFormatError(ValueError):
    """An image file cannot be read, or its content is not what was asked for."""


class DatasetError(ValueError):
    """A folder, label table or list file does not fit the images beside it."""


class DownloadError(OSError):
    """A data set could not be downloaded, or what came is not what was published."""


class DatasetWarning(UserWarning):
    """A loader met rows or files that it kept apart, and says how many."""


class UnreadableImageWarning(UserWarning):
    """Images could not be read and their rows hold the fill value instead."""


class WeightsError(ValueError):
    """Weights of a network are not there, or do not fit it; nothing was loaded."""


class FallbackWarning(UserWarning):
    """A method did not apply to some images and a stated fallback was used for them."""


class StoreWarning(UserWarning):
    """A file of the decode store was damaged; it is set aside and its images decoded again."""


class LeakageRiskWarning(UserWarning):
    """Something is split without patients being known, so that a patient may leak."""


class ContaminationWarning(UserWarning):
    """A network is evaluated on a data set whose images its weights were trained on."""


class VersionMismatchWarning(UserWarning):
    """A stored model was fitted with other versions than those that load it."""


class AuditError(ValueError):
    """An audit has findings of a severity that it was told to raise on."""
