"""One unit: where it is in the tensors of the network, and with which others it is summed."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Unit:
    """Entries by (tensor, axis, exponent); component: of the graph of ties; contexts: sums that it takes part in."""

    component: int
    entries: dict[tuple[int, int, int], list[int]] = field(default_factory=dict)
    contexts: frozenset[int] = frozenset()

    def shape(self) -> Any:
        """In which tensors it has how many entries."""
        return tuple(sorted((key, len(entries)) for key, entries in self.entries.items()))

    def signature(self) -> Any:
        """What two units have in common that may change places."""
        return self.shape(), self.contexts
