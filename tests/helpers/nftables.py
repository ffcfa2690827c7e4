"""A stand-in for nft, which keeps the commands that it gets."""

from natmirror.errors import HostError


class Nft:
    """Keeps each command's input in ``fed``, and lists it as the table; raises HostError while ``refuses``."""

    def __init__(self) -> None:
        self.fed: list[str] = []
        self.refuses = False

    def __call__(self, *arguments: str, text: str | None = None) -> str:
        if self.refuses:
            raise HostError("nft failed: it refuses")
        if arguments[0] == "list":
            return "\n".join(self.fed)
        self.fed.append(text or " ".join(arguments))
        return ""
