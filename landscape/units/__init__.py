"""Hidden units of a network, found by running it, and transformations of them that leave its function the same.

`groups.units_of` finds them by a run that `tape` records; the rules of what an operation does to units are in
`elementwise`, `layers` and `norms`, and `ties` says what must go together. `transform` applies and verifies.
"""

from landscape.units.groups import Group, Place, Units, units_of

__all__ = ["Group", "Place", "Units", "units_of"]
