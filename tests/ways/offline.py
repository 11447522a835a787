"""Run the whole test suite in a network namespace that has no network: `make test-offline` (Linux).

`unshare -rn` gives an empty namespace; inside it this script brings up the loopback interface, which the kernels of
the lessons talk over, proves that a connection to anywhere else fails, and hands over to pytest.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = ("192.0.2.1", 443)  # an address kept for documentation (RFC 5737): nobody is there
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1


def bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(plug, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(plug, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def prove_that_there_is_no_network() -> None:
    interfaces = sorted(name for _, name in socket.if_nameindex())
    try:
        socket.create_connection(ELSEWHERE, timeout=5).close()
    except OSError as error:
        refused = error
    else:
        sys.exit("this namespace has a network, so the run would prove nothing")
    if refused.errno != errno.ENETUNREACH or interfaces != ["lo"]:
        sys.exit(f"expected no route and the loopback interface alone; found {refused} and {interfaces}")
    print(f"no network here: interfaces {interfaces}, a connection to {ELSEWHERE[0]} fails ({refused.strerror})")


def run_again_without_network() -> int | None:
    """Run this program again in an empty network namespace and return its exit status; inside, return None."""
    if os.environ.get("INSIDE_BERT_UNSHARED"):
        bring_up_loopback()
        prove_that_there_is_no_network()
        return None
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-rn", "true"], capture_output=True).returncode:
        print("this machine cannot make a network namespace (unshare -rn), so nothing can be proven here")
        return 1
    again = [unshare, "-rn", sys.executable, *sys.argv]
    return subprocess.run(again, env={**os.environ, "INSIDE_BERT_UNSHARED": "1"}).returncode


def main() -> int:
    status = run_again_without_network()
    if status is not None:
        return status
    os.chdir(ROOT)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
