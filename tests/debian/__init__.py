"""A Debian root started by its own systemd: scripts/try-unit and scripts/try-package run these tests."""
