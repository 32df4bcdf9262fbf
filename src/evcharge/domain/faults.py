"""The faults of a charge point that others see in it; those that an Engine has itself carry names of its own."""

CONNECTION_LOST = "connection_lost"
"""Central has no connection to the Monitor."""

ENGINE_LOST = "engine_lost"
"""The Monitor has no connection to the Engine; a charge may go on, and settles when the Engine is back."""

ENGINE_SILENT = "engine_silent"
"""The Engine has not answered for the whole health timeout: Central closes its session from the last reading."""

SEEN_FROM_OUTSIDE = frozenset({CONNECTION_LOST, ENGINE_LOST, ENGINE_SILENT})
