"""The reasons for which the C gear drops a packet. gear.h has their numbers."""

from natmirror._ffi import lib
from natmirror.reasons import DropReason

_PREFIX = "NM_DROP_"

DROPS = {
    int(getattr(lib, name)): DropReason[name.removeprefix(_PREFIX)] for name in dir(lib) if name.startswith(_PREFIX)
}
"""The reasons by the number that nm_process() returns."""
