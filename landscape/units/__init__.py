"""Hidden units of a network, found by running it, and transformations of them that leave its function the same.

`tracing.units_of` finds them by a run that `tape` records and `sorting` sorts; the rules of what an operation does
to units are in `elementwise`, `layers`, `attention`, `norms` and `recurrent`, and `ties` says what must go together.
`transform` applies and verifies, and `alignment` puts the units of one network into the order of another's.
"""

from landscape.units.groups import Group, Place, Units
from landscape.units.tracing import units_of

__all__ = ["Group", "Place", "Units", "units_of"]
