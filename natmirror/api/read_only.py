"""What the address of the rules key ``api`` answers: the same as the Unix socket, but no commands.

All who reach the address may read. A web page may not, though a browser on the management network could reach it: the
page's own name may resolve to this address (DNS rebinding), so that the browser takes both for one server. The request
then has the page's name as its Host, and is refused.
"""

import socket
from ipaddress import ip_address

from natmirror.api.http_server import READING, Answer, Request, Respond
from natmirror.api.program import Refused


def read_only(respond: Respond) -> Respond:
    """Return a function that answers as ``respond`` does, but refuses commands and foreign names."""

    def answer(request: Request) -> Answer:
        if request.method != "GET":
            raise Refused(405, "this address is read-only: send commands to the Unix socket", READING)
        own = socket.gethostname().lower()
        if not _is_own(request.host, {"localhost", own, own.partition(".")[0]}):
            raise Refused(
                421,
                f"this address answers as localhost, as {own} and by its IP address, not as {request.host:.100}, which"
                " may be a web page's name",
            )
        return respond(request)

    return answer


def _is_own(host: str, names: set[str]) -> bool:
    """Return whether a request's Host is an address or one of these names; without one the client is no browser."""
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if not name or name.lower().removesuffix(".") in names:
        return True
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
