"""What the hosts of a pair share, and where."""
