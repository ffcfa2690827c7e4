"""Reading the host's addresses when no descriptors are left."""

import os
import resource

import pytest

from natmirror.errors import HostError
from natmirror.linux import addresses


@pytest.mark.parametrize("spare", range(5))
def test_a_shortage_of_descriptors_is_a_host_error_and_leaks_none(spare: int) -> None:
    addresses.own_addresses()
    used = {int(name) for name in os.listdir("/proc/self/fd")}
    free = [number for number in range(len(used) + 10) if number not in used]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[spare], before[1]))
    try:
        with pytest.raises(HostError, match=r"cannot read the addresses of this host: .*Too many open files"):
            addresses.own_addresses()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(os.listdir("/proc/self/fd")) == len(used)
