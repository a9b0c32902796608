"""``python -m cu_market.deo.worker``: a warm worker on the channel whose descriptor it is given."""

from __future__ import annotations

import os
import socket
import sys

from cu_market.deo.worker.zygote import Zygote

CHANNEL_FD_VARIABLE = "CU_MARKET_CHANNEL_FD"


def main() -> int:
    """Serves until the channel closes."""
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
