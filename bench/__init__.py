"""The benchmark: natmirror beside the kernel, HAProxy, nginx and a per-packet script, on the same path in the same run.

    python -m bench            # everything, into docs/; about a quarter of an hour
    python -m bench --quick    # under a minute, into --output

It needs root: like the live tests it builds its own network namespaces, and leaves nothing behind.
"""
