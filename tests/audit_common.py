"""What the tests of the audit share."""

import numpy as np

from sklearn_cxr.inspection import audit_dataset


def audit(films, images=None, **changes):
    given = {"y": films.target, "groups": films.groups, "frame": films.frame, **changes}
    return audit_dataset(films.images if images is None else images, **given)


def rows_of(report, check):
    return sorted(report.images.query("check == @check")["row"])


def checks(report, *severities):
    found = report.findings
    return set(found[found["severity"].isin(severities)]["check"])


def split_names(groups):
    return np.where(np.arange(len(groups)) % 2 == 0, "train", "test")
