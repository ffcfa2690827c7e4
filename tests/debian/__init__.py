"""The systemd unit in a Debian root, started by the root's own systemd: scripts/try-unit runs these tests."""
