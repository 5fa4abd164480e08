"""Every guard of the product, and what the code is without it; a file for each room of the code."""

from tests.guards import (
    api,
    calibration,
    cli,
    clustered,
    consumers,
    core,
    forgetting,
    lua,
    operating,
    projections,
)
from tests.guards.guard import Guard

GUARDS: tuple[Guard, ...] = (
    *api.GUARDS,
    *calibration.GUARDS,
    *cli.GUARDS,
    *clustered.GUARDS,
    *consumers.GUARDS,
    *core.GUARDS,
    *forgetting.GUARDS,
    *lua.GUARDS,
    *operating.GUARDS,
    *projections.GUARDS,
)
