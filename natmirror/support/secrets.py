"""Secrets in texts, and what stands in their place."""

import re
from collections.abc import Iterator

SECRET = "SECRET"
_KEYS = re.compile(
    r"""(?P<key>["']?[\w-]*(?:key|password|passwd|passphrase|secret|token|credential)s?["']?)
        (?P<between>\s*[:=]\s*)
        (?P<value>"[^"\n]*"|'[^'\n]*'|[^\s,{}\[\]#"']+)""",
    re.IGNORECASE | re.VERBOSE,
)
_USERINFO = re.compile(r"(?P<before>[a-z][a-z0-9+.-]*://)(?P<value>[^/\s@'\"]+)@", re.IGNORECASE)
_TOKEN = re.compile(
    r"(?<![\w+/=.-])(?=[A-Za-z0-9+/_-]*[0-9])(?=[A-Za-z0-9+/_-]*[A-Z])[A-Za-z0-9+/_-]{40,}={0,2}(?![\w+/=])"
)
"""A long word of the kinds of characters that base64 has (RFC 4648): a key or a token, whatever stands before it."""
_NO_SECRETS = frozenset(("", "null", "none", "true", "false", "~", "set", "unset", SECRET.lower()))
_MIN_LEN = 4
"""Characters from which on a secret is replaced wherever it stands; a shorter one would be found in other words."""


def find(text: str) -> Iterator[str]:
    """Yield the secrets in a text, each as it stands there."""
    for match in _KEYS.finditer(text):
        value = match["value"].strip("\"'")
        if value.lower() not in _NO_SECRETS:
            yield value
    for match in _USERINFO.finditer(text):
        yield from (part for part in match["value"].split(":", 1) if part)


def remove(text: str, known: set[str]) -> str:
    """Return a text without its secrets, and without those that other texts have."""
    text = _USERINFO.sub(lambda match: f"{match['before']}{SECRET}@", text)
    text = _KEYS.sub(_without_value, text)
    for one in sorted((one for one in known if len(one) >= _MIN_LEN), key=len, reverse=True):
        text = text.replace(one, SECRET)
    return _TOKEN.sub("TOKEN", text)


def _without_value(match: "re.Match[str]") -> str:
    if match["value"].strip("\"'").lower() in _NO_SECRETS:
        return match[0]
    quote = match["value"][0] if match["value"][0] in "\"'" else ""
    return f"{match['key']}{match['between']}{quote}{SECRET}{quote}"
