"""What the web role is told by its environment."""

from __future__ import annotations

from typing import Annotated

import msgspec

from outboxkit.modes import Mode
from outboxkit.settings import DatabaseUrl, JobTriggerMode, Variable, whole

DEFAULT_BODY_BYTES = 12_000_000


class WebSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The web role's settings; read with `outboxkit.settings.read_settings`.

    What any process that listens reads besides (PORT, HOST, LOG_LEVEL …) is the command line's.
    """

    database_url: DatabaseUrl
    mode: JobTriggerMode = Mode.DB
    pool_size: Annotated[
        int, Variable("DATABASE_POOL_SIZE", "Connections this process may open.", "5", whole(1, 200))
    ] = 5
    max_body_bytes: Annotated[
        int,
        Variable("WEB_MAX_BODY_BYTES", "The largest request body; a larger one gets 413.", "12000000", whole(1, 10**9)),
    ] = DEFAULT_BODY_BYTES
