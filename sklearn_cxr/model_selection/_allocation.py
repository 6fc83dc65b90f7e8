"""Distribution of whole patients over parts of given sizes, so that all counts keep their share.

The cost of a distribution is the chi-square distance between what the parts hold and what
they should hold, summed over the images, the images per label and the patients per label.
"""

import numpy as np

# More than any chi-square change of one patient: a part without a class comes last.
_ABSENCE = 1e5
_TOLERANCE = 1e-8
_BATCH = 64
_MAX_ROUNDS = 300
_MAX_SWAPS = 300
_SWAP_CANDIDATES = 300


class Allocation:
    """Patients assigned to parts, with the moves that bring the counts to their targets.

    Parameters
    ----------
    sizes : ndarray of shape (n_patients,)
        Images of each patient.

    counts : ndarray of shape (n_patients, n_columns)
        Images of each patient per class, or per label and value.

    shares : ndarray of shape (n_parts,)
        Share of the images that each part is to hold; they sum to 1.

    random_state : RandomState
        Draws candidates of swaps.

    spread : bool, default=True
        Whether a class is to stand in every part before anything else, if its patients suffice.
    """

    def __init__(self, sizes, counts, shares, random_state, *, spread=True):
        presence = (counts > 0).astype(np.float64)
        self.features = np.column_stack([sizes, counts, presence]).astype(np.float64)
        # The first column makes a part without any patient count as the lack of a class.
        self.presence = np.column_stack([np.ones(len(presence)), presence])
        self.shares = np.asarray(shares, dtype=np.float64)
        self.random_state = random_state
        totals = self.features.sum(axis=0)
        self.targets = self.shares[:, None] * totals
        self.weights = np.divide(
            1.0, self.targets, out=np.zeros_like(self.targets), where=self.targets > 0
        )
        self.quadratic = (self.features**2) @ self.weights.T
        # A class with fewer patients than parts has to be absent somewhere.
        self.spreadable = self.presence.sum(axis=0) >= len(self.shares)
        self.spreadable[1:] &= spread
        self.parts = None

    def start(self, parts):
        """Take an assignment of patients to parts as the place to start from."""
        n_parts = len(self.shares)
        self.parts = np.array(parts)
        self.filled = np.zeros((n_parts, self.features.shape[1]))
        self.holders = np.zeros((n_parts, self.presence.shape[1]))
        for part in range(n_parts):
            self.filled[part] = self.features[self.parts == part].sum(axis=0)
            self.holders[part] = self.presence[self.parts == part].sum(axis=0)
        self.members = np.bincount(self.parts, minlength=n_parts)
        return self

    def start_greedy(self, order):
        """Place the patients one by one where they are needed most."""
        n_parts, n_features = self.targets.shape
        filled = np.zeros((n_parts, n_features))
        parts = np.empty(len(order), dtype=np.int64)
        linear = -2.0 * self.weights * self.targets
        for patient in order:
            row = self.features[patient]
            gain = linear @ row + self.quadratic[patient]
            part = int(np.argmin(np.round(gain, 8)))
            parts[patient] = part
            filled[part] += row
            linear[part] += 2.0 * self.weights[part] * row
        return self.start(parts)

    def cost(self):
        """Return the chi-square distance and the number of parts that lack a class."""
        distance = float((self.weights * (self.filled - self.targets) ** 2).sum())
        return int((self.holders[:, self.spreadable] == 0).sum()), distance

    def _changes(self, patients):
        """Return the cost of taking patients out of their parts and of putting them into each."""
        slope = 2.0 * self.weights * (self.filled - self.targets)
        linear = self.features[patients] @ slope.T
        into = self.quadratic[patients] + linear
        out = self.quadratic[patients] - linear
        empty = (self.holders == 0) & self.spreadable
        last = (self.holders == 1) & self.spreadable
        if empty.any():
            into -= _ABSENCE * (self.presence[patients] @ empty.T)
        if last.any():
            out += _ABSENCE * (self.presence[patients] @ last.T)
        return out[np.arange(len(into)), self.parts[patients]], into

    def _move(self, patient, part):
        here = self.parts[patient]
        for table, rows in ((self.filled, self.features), (self.holders, self.presence)):
            table[here] -= rows[patient]
            table[part] += rows[patient]
        self.members[here] -= 1
        self.members[part] += 1
        self.parts[patient] = part

    def _best_moves(self, patients):
        """Return the best part of each patient and what a move there changes."""
        out, into = self._changes(patients)
        into[np.arange(len(into)), self.parts[patients]] = np.inf
        change = np.round(out[:, None] + into, 8)
        # The last patient of a part stays: no part may become empty.
        change[self.members[self.parts[patients]] == 1] = np.inf
        best = change.argmin(axis=1)
        return best, change[np.arange(len(best)), best]

    def improve_by_moves(self):
        """Move single patients as long as that brings the counts nearer; tell whether any was."""
        everyone = np.arange(len(self.parts))
        moved = False
        for _ in range(_MAX_ROUNDS):
            _, change = self._best_moves(everyone)
            candidates = np.argsort(change, kind="stable")[:_BATCH]
            candidates = candidates[change[candidates] < -_TOLERANCE]
            if not len(candidates):
                break
            for patient in candidates:
                part, now = self._best_moves(np.array([patient]))
                if now[0] < -_TOLERANCE:
                    self._move(patient, int(part[0]))
                    moved = True
        return moved

    def _candidates(self, part):
        members = np.flatnonzero(self.parts == part)
        if len(members) > _SWAP_CANDIDATES:
            members = np.sort(self.random_state.choice(members, _SWAP_CANDIDATES, replace=False))
        return members

    def _swap_once(self, first, second):
        """Exchange the pair of patients of two parts that helps most, if one does."""
        mine, theirs = self._candidates(first), self._candidates(second)
        out_mine, into_mine = self._changes(mine)
        out_theirs, into_theirs = self._changes(theirs)
        weight = 2.0 * (self.weights[first] + self.weights[second])
        change = (out_mine + into_mine[:, second])[:, None] + (out_theirs + into_theirs[:, first])
        change = np.round(change - (self.features[mine] * weight) @ self.features[theirs].T, 8)
        best = np.unravel_index(change.argmin(), change.shape)
        if change[best] >= -_TOLERANCE:
            return False
        self._move(mine[best[0]], second)
        self._move(theirs[best[1]], first)
        return True

    def improve_by_swaps(self):
        """Exchange pairs of patients as long as that helps; tell whether any pair was."""
        pairs = [(a, b) for b in range(len(self.shares)) for a in range(b)]
        swapped = False
        for _ in range(_MAX_SWAPS // len(pairs) + 1):
            helped = [self._swap_once(a, b) for a, b in pairs]
            swapped |= any(helped)
            if not any(helped):
                break
        return swapped

    def improve(self):
        """Alternate moves and swaps until neither helps, or for a few turns."""
        for _ in range(5):
            moved = self.improve_by_moves()
            if not self.improve_by_swaps() and not moved:
                break
        return self


def rarest_first(sizes, counts, random_state=None):
    """Order patients by their rarest column, then by the number of their images.

    Parameters
    ----------
    sizes : ndarray of shape (n_patients,)
        Images of each patient.

    counts : ndarray of shape (n_patients, n_columns)
        Images of each patient per column.

    random_state : RandomState or None, default=None
        Shuffles patients that are alike; None keeps their order.

    Returns
    -------
    order : ndarray of shape (n_patients,)
        Patient numbers, the hardest to place first.
    """
    n_patients = len(sizes)
    holders = (counts > 0).sum(axis=0)
    rarest = np.where(counts > 0, holders, n_patients + 1).min(axis=1, initial=n_patients + 1)
    order = np.arange(n_patients)
    if random_state is not None:
        random_state.shuffle(order)
    return order[np.lexsort((-sizes[order], rarest[order]))]
