"""nft, as far as it takes what it is fed."""

from natmirror.errors import HostError


class Nft:
    """Takes all that it is fed; ``refuses`` to go on."""

    def __init__(self) -> None:
        self.fed: list[str] = []
        self.refuses = False

    def __call__(self, *arguments: str, text: str | None = None) -> str:
        if self.refuses:
            raise HostError("nft failed: it refuses")
        self.fed.append(text or " ".join(arguments))
        return ""
