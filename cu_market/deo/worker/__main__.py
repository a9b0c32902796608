"""``python -m cu_market.deo.worker``: a warm worker on the channel whose descriptor it is given.

One that was started ahead of its run serves on the channel that a run worker opens to it later.
"""

from __future__ import annotations

import os
import socket
import sys

from cu_market.deo.worker.zygote import Zygote
from cu_market.ral.local.variables import STANDBY_VARIABLE

CHANNEL_FD_VARIABLE = "CU_MARKET_CHANNEL_FD"


def main() -> int:
    """Serves until the channel closes."""
    if STANDBY_VARIABLE in os.environ:
        # Imported here: what a worker imports, every run waits for.
        from cu_market.deo.worker.preload import prepare
        from cu_market.ral.local.standby import await_run, open_standby, standby_of

        standby = standby_of(os.environ)
        assert standby is not None  # the variable is set
        listener = open_standby(standby)
        prepared = prepare()
        channel = await_run(listener, standby)
        if channel is not None:  # else nobody came, or nobody looks after it any more
            Zygote(channel, prepared).run()
        return 0
    descriptor = os.environ.pop(CHANNEL_FD_VARIABLE, None)
    if descriptor is None:
        print(
            f"cu_market.deo.worker: {CHANNEL_FD_VARIABLE} is not set: a provider starts this "
            "program with its channel; it is not started by hand",
            file=sys.stderr,
        )
        return 2
    Zygote(socket.socket(fileno=int(descriptor))).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
