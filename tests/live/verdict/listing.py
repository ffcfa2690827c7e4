"""Run natmirror, and show the rules of its models of production's tables: listing.py SOCKET PYTHON -m natmirror …

A thread listens on the Unix socket. It looks at the models from the time of a connection until the other end shuts its
side down, and then sends, as JSON, all states that it saw: for each, the rules as ``ovs-ofctl dump-flows`` writes them.
"""

import json
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from natmirror.cli.entry import main
from natmirror.openflow.bodies.text import flow_text
from natmirror.openflow.bodies.values import FlowStats
from natmirror.openflow.messages import V10
from natmirror.openflow.tables.entries import Rule
from natmirror.openflow.tables.production import ProductionModel

_PAUSE = 0.005  # seconds between two looks
_models: list[ProductionModel] = []
_make = ProductionModel.__init__


def _made(model: ProductionModel, *arguments: Any) -> None:
    _make(model, *arguments)
    _models.append(model)


def serve(listener: socket.socket) -> None:
    """Serve one connection after another."""
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(_PAUSE)
            seen: dict[tuple[int, ...], tuple[int, list[Rule]]] = {}
            while True:
                for model in list(_models):
                    rules = list(model.state.rules.values())  # one step of the interpreter, so no thread interferes
                    seen[id(model), *map(id, rules)] = model.version, rules  # which also keeps the ids' objects
                try:
                    if not connection.recv(1):
                        break
                except TimeoutError:
                    continue
            connection.settimeout(None)
            connection.sendall(
                json.dumps([[text(version, rule) for rule in rules] for version, rules in seen.values()]).encode()
            )


def text(version: int, rule: Rule) -> str:
    """Return a rule's line. Statistics of OpenFlow 1.0 have no flags."""
    key = rule.key
    return flow_text(
        FlowStats(
            table=key.table,
            priority=key.priority,
            match=key.match,
            instructions=rule.instructions,
            cookie=rule.cookie,
            idle_timeout=rule.idle_timeout,
            hard_timeout=rule.hard_timeout,
            flags=0 if version == V10 else rule.flags,
            importance=rule.importance,
            duration=0.0,
        )
    )


if __name__ == "__main__":
    path = Path(sys.argv[1])
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    setattr(ProductionModel, "__init__", _made)  # noqa: B010 - a type checker does not want a method replaced
    threading.Thread(target=serve, args=(server,), daemon=True).start()
    sys.argv[:] = ["natmirror", *sys.argv[5:]]
    main()
