"""A stand-in for nft, which keeps the commands that it gets."""

from natmirror.errors import HostError


class Nft:
    """Keeps each command and its input in ``fed``; raises HostError while ``refuses``."""

    def __init__(self) -> None:
        self.fed: list[str] = []
        self.refuses = False

    def __call__(self, *arguments: str, text: str | None = None) -> str:
        if self.refuses:
            raise HostError("nft failed: it refuses")
        self.fed.append(text or " ".join(arguments))
        return ""
