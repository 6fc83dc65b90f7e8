"""Ids of patients, which tables write in more than one way."""

import re
from numbers import Real


def plain_id(patient):
    """Text of an id without spaces, leading zeros and decimals: that of 7, "7.0", " 7" and "007".

    Parameters
    ----------
    patient : object
        The id.

    Returns
    -------
    str
        Equal for ids that may be one patient written in two ways.
    """
    # A column with an empty cell makes 7.0 of 7, and long numbers are written with an exponent.
    if isinstance(patient, Real) and float(patient).is_integer():
        patient = int(patient)
    text = re.sub(r"^(\d+)\.0*$", r"\1", str(patient).strip())
    return text.lstrip("0")
