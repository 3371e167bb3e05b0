"""The address of a client whose requests come through proxies."""

import functools
import ipaddress
import re
from collections.abc import Sequence

FORWARDED = "x-forwarded-for"
UNIX = "unix"  # the peer of a Unix socket, which has no address
_HOST = re.compile(r"\[(?P<bracketed>[^\]]*)\](?::\d+)?|(?P<plain>[^:]*)(?::\d+)?")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@functools.lru_cache(maxsize=1024)
def find_client(peer: str | None, forwarded: str, trusted: Sequence[Network | str]) -> str | None:
    """Return the address of a client.

    Each proxy appends the address of its own peer to the list, so the list is read from its end, and only for
    as long as the one that wrote an address is trusted.

    Parameters
    ----------
    peer : str or None
        The address at the other end of the connection; None for a Unix socket.
    forwarded : str
        The value of `X-Forwarded-For`: addresses, with ports or without, separated by commas.
    trusted : tuple of networks
        Those of the proxies; `UNIX` for the peers of a Unix socket.
    """
    client = peer
    for text in reversed(forwarded.split(",")):
        address = _read(text.strip())
        if address is None or not _is_trusted(client, trusted):
            break
        client = str(address)
    return client


def _is_trusted(host: str | None, trusted: Sequence[Network | str]) -> bool:
    address = _read(host or "")
    return UNIX in trusted if address is None else any(address in each for each in trusted if each != UNIX)


def _read(text: str) -> Address | None:
    """Return an address, that of IPv4 if it is mapped to IPv6; None if the text is none."""
    match = _HOST.fullmatch(text)
    host = (match["bracketed"] or match["plain"]) if match else text  # an IPv6 address without brackets
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
