"""A growing orthonormal basis with the coefficients of A in it: the workspace of the eigenvalue solver.

Rows b_0 … b_{p-1} are orthonormal. Those that have been multiplied ("expanded") satisfy

    A b_j = Σ_i H_ij b_i                                    (1)

to rounding, because every product is split by Gram-Schmidt into the rows there were, plus one new row. Rows
not yet multiplied are "pending". One start vector gives Lanczos (one pending row, H tridiagonal); a second
random vector may join at any time, and thick restarts rotate rows, without any change to (1). As (1) is an
identity of what was computed, residuals taken from H are those of explicit products.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Matvec, Vector
from landscape.errors import illegal
from landscape.methods.inner import inner, norm
from landscape.methods.lanczos import breakdown, orthogonalise, require_finite
from landscape.methods.rows import Rows, rows_at


@dataclass(frozen=True)
class RitzValues:
    """Rayleigh-Ritz on the m expanded rows: values (m,) ascending, coordinates (m, m) in columns.

    residuals: (m,) ‖Ax − θx‖ as equation (1) has it. couplings: (pending, m), the part of each residual
    along each pending row. asymmetry: ‖(H − Hᵀ)/2‖₂ on the expanded rows, which errors of the products make;
    residuals include it and do not fall below.
    """

    values: np.ndarray
    coordinates: np.ndarray
    residuals: np.ndarray
    couplings: np.ndarray
    asymmetry: float


class Basis:
    """At most `capacity` orthonormal rows of length n, and H. Methods that read H wait for the device.

    rows: where the rows are stored; by default beside the start vector `like`.
    """

    def __init__(self, like: Vector, capacity: int, rows: Rows | None = None):
        self.rows = rows or rows_at(like, capacity)
        self.count = 0
        self.pending: list[int] = []
        self._parents: dict[int, int | None] = {}
        """Rows whose products lie along themselves, one row more (or none) and new ones alone: by A's symmetry, those
        that joined when every product so far lay in the rows."""
        self._H = torch.zeros(capacity, capacity, dtype=torch.float64, device=like.device)
        self._scale = torch.zeros((), dtype=torch.float64, device=like.device)
        self._breakdown = breakdown(like)
        self._born: list[tuple[int, int]] = []
        self.dropped = 0.0
        """The largest remainder that was taken for zero."""
        self._aside: tuple[list[Vector], Tensor] = [], self._H[:0, :0]
        self._set_aside_at = self._held = 0

    @property
    def room(self) -> int:
        """How many rows may still be added."""
        return len(self.rows) - self.count - self._held

    @property
    def expanded(self) -> list[int]:
        return [i for i in range(self.count) if i not in self.pending]

    def inject(self, vector: Vector) -> bool:
        """Add the part of `vector` orthogonal to all rows as a pending row; False when nothing is left of it."""
        length = norm(vector)
        if not length.item() < float("inf"):
            raise illegal("norm of a start vector", length.item(), "finite", "Draw another one.")
        if length.item() == 0 or self.count >= self.rows.shape[1]:
            return False
        _, rest, length = orthogonalise(self._filled, vector * (1 / length).to(vector.dtype))
        if length.item() <= self._breakdown:
            return False
        _, rest, length = orthogonalise(self._filled, rest * (1 / length).to(rest.dtype))
        self.rows[self.count] = rest * (1 / length).to(rest.dtype)
        if not self.count:
            self._parents[0] = None
        self.pending.append(self.count)
        self.count += 1
        return True

    def expand(self, matvec: Matvec, row: int) -> int:
        """Multiply a pending row; returns the new pending row. Does not wait for the device."""
        new, vector = self.count, self.rows[row]
        short = row in self._parents and len(self.pending) == 1
        h, w, length = (
            self._recur(row, vector, matvec(vector)) if short else orthogonalise(self._filled, matvec(vector))
        )
        column = self._H[: new + 1, row]
        column[:new], column[new] = h, length
        self._scale = torch.maximum(self._scale, torch.linalg.vector_norm(column))
        alive = length > self._breakdown * self._scale
        column[new].mul_(alive)
        self.rows[new] = w * torch.where(alive, 1 / length, column[new]).to(w.dtype)
        self.pending.remove(row)
        if not self.pending and not self._held:
            self._parents[new] = row
        self.pending.append(new)
        self._born.append((new, row))
        self.count += 1
        return new

    def _recur(self, row: int, vector: Vector, w: Vector) -> tuple[Tensor, Vector, Tensor]:
        """`orthogonalise` of the product of a row that is known to lie along few others: these first, then all.

        The first two terms of Lanczos' recurrence take the place of the first of two passes over the rows.
        """
        parent = self._parents[row]
        beta = None if parent is None else self._H[row, parent].to(w.dtype)
        if parent is not None and beta is not None:
            w = torch.addcmul(w, self.rows[parent], beta, value=-1)
        alpha = inner(vector, w).to(w.dtype)
        w = torch.addcmul(w, vector, alpha, value=-1)
        h = self._filled.products(w)
        w = self._filled.without(h, w)
        h[row].add_(alpha)
        if parent is not None and beta is not None:
            h[parent].add_(beta)
        return h, w, norm(w)

    @property
    def _filled(self) -> Rows:
        return self.rows.first(self.count)

    def coefficients(self) -> np.ndarray:
        """H (p, p), columns of pending rows zero, after cutting off rows that a breakdown left empty."""
        H = self._H[: self.count, : self.count].cpu().numpy().copy()
        require_finite(H)
        dead = [new for new, row in self._born if H[new, row] == 0]
        if dead:
            self.dropped = max(self.dropped, self._breakdown * self._scale.item())
            self._remove(dead)
            H = self._H[: self.count, : self.count].cpu().numpy().copy()
        self._born.clear()
        return H[: self.count, : self.count]

    def ritz(self, first: int = 0) -> RitzValues:
        """Rayleigh-Ritz on the expanded rows from `first` on, of A compressed to the complement of rows before."""
        H = self.coefficients()
        chosen = [i for i in self.expanded if i >= first]
        A = H[np.ix_(chosen, chosen)]
        values, coordinates = np.linalg.eigh((A + A.T) / 2)
        along = H[:, chosen] @ coordinates
        along[chosen] -= coordinates * values
        asymmetry = float(np.linalg.norm((A - A.T) / 2, 2))
        return RitzValues(values, coordinates, np.linalg.norm(along[first:], axis=0), along[self.pending], asymmetry)

    def defect(self, matvec: Matvec, coordinates: np.ndarray) -> float:
        """‖Ax − (what equation (1) says it is)‖ for the unit vector x with `coordinates` (m,), in float64."""
        y = np.zeros(self.count)
        y[self.expanded] = coordinates
        image = self.coefficients()[:, self.expanded] @ coordinates
        pair = self._H.new_empty(2, self.rows.shape[1])
        self._filled.combine(torch.from_numpy(np.stack([y, image])).to(self._H.device), pair)
        return norm(matvec(pair[0]) - pair[1]).item()

    def compress(self, coordinates: np.ndarray, first: int = 0) -> None:
        """Thick restart: the expanded rows from `first` on become the combinations in `coordinates` (m, kept).

        Rows before `first` and pending rows stay; of more pending rows than combinations, only as many
        mixtures stay as the combinations' residuals need. New order: rows before, combinations, pending rows.
        """
        before = list(range(first))
        chosen = [i for i in self.expanded if i >= first]
        waiting = [i for i in self.pending if i >= first]
        kept = coordinates.shape[1]
        mixtures = np.eye(len(waiting))
        if len(waiting) > kept:
            couplings = self.coefficients()[np.ix_(waiting, chosen)] @ coordinates
            mixtures = np.linalg.svd(couplings, full_matrices=False)[0].T
        M = np.zeros((first + kept + len(mixtures), self.count))
        M[before, before] = 1
        M[first : first + kept, chosen] = coordinates.T
        M[first + kept :, waiting] = mixtures
        self._transform(M)
        self.pending = [i for i in self.pending if i < first] + list(range(first + kept, len(M)))

    def set_aside(self) -> None:
        """Take the pending rows out, so that rows to come need not be orthogonal to them."""
        order = self.expanded + self.pending
        if order != list(range(self.count)):
            self._transform(np.eye(self.count)[order])
        m = self.count - len(self.pending)
        self._aside = [self.rows[i].clone() for i in range(m, self.count)], self._H[m : self.count, :m].clone()
        self._set_aside_at, self._held, self.pending = m, len(self.pending), []
        self._parents.clear()
        self._truncate(m)

    def bring_back(self) -> None:
        """Put what was set aside back: its part along newer rows into H, the rest as pending rows."""
        m, self._held = self._set_aside_at, 0
        self._parents.clear()
        for vector, coupling in zip(*self._aside, strict=True):
            along, rest, length = orthogonalise(self._filled, vector)
            self._H[: self.count, :m] += torch.outer(along, coupling)
            if self.inject(rest):
                self._H[self.count - 1, :m] = length * coupling

    def roll_back(self) -> None:
        """Return to the state before `set_aside`; may follow `bring_back`, once."""
        self._truncate(self._set_aside_at)
        self.bring_back()

    def _remove(self, dead: list[int]) -> None:
        """Forget rows that are zero; several chains may have grown past the one that ended."""
        alive = [i for i in range(self.count) if i not in dead]
        if alive == list(range(len(alive))):
            self._truncate(len(alive))
            return
        pending = [alive.index(i) for i in self.pending if i not in dead]
        self._transform(np.eye(self.count)[alive])
        self.pending = pending

    def _truncate(self, count: int) -> None:
        """Forget the rows from `count` on, of which no expanded row before may make use."""
        self._H[count:, :] = 0
        self._H[:, count:] = 0
        self.pending = [i for i in self.pending if i < count]
        self._parents = {row: parent for row, parent in self._parents.items() if row < count}
        self.count = count

    def _transform(self, M: np.ndarray) -> None:
        """rows ← M rows, H ← M H Mᵀ, for M with orthonormal rows."""
        rotation = torch.from_numpy(M).to(self._H.device)
        H = rotation @ self._H[: self.count, : self.count] @ rotation.T
        self._H.zero_()
        self._H[: len(M), : len(M)] = H
        self.rows.rotate(rotation, self.count)
        self._parents.clear()
        self.count = len(M)

    def vectors(self, coordinates: np.ndarray) -> Float[Tensor, "k n"]:
        """The combinations of the expanded rows in `coordinates` (m, k), orthonormal, stored where the rows are."""
        M = np.zeros((coordinates.shape[1], self.count))
        M[:, self.expanded] = coordinates.T
        out = self.rows.parts[0].new_empty(len(M), self.rows.shape[1], dtype=self.rows.dtype)
        self._filled.combine(torch.from_numpy(M).to(self._H.device), out)
        found = self.rows.over(out)
        gram = torch.stack([found.products(found[i]) for i in range(len(M))])  # rounding of restarts has added up
        found.rotate(torch.linalg.inv(torch.linalg.cholesky(gram)), len(M))
        return out
