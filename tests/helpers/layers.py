"""The order of the packages: each imports, and calls, what stands in rows below its own."""

# Highest first: a package imports from rows below its own.
LAYERS = (
    ("__main__", "reference"),
    ("cli",),
    ("lab", "runtime"),
    ("doctor", "replication", "replay", "capture", "support", "top"),
    ("engine", "ha"),
    ("mirror", "nat", "linux"),
    ("tcp", "backends", "judging"),
    ("fastpath", "rules", "api"),
    ("net", "openflow", "events", "metrics", "actions", "errors", "unprivileged"),
    ("_ffi", "_fastpath_build", "docstrings", "reasons", "findings", "threads", "histograms"),
)


def row(name: str) -> int:
    """Return the row of a package, or of a module beside them; 0 is the highest."""
    rows = [index for index, layer in enumerate(LAYERS) if name in layer]
    assert len(rows) == 1, f"natmirror.{name} has to stand in exactly one row of LAYERS"
    return rows[0]
