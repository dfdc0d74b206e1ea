"""The user's own function as the last rule of redaction: `redact_with`.

It fails closed: what it was given is hidden when it raises, or returns what no attribute can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from hh_jupyter.redaction import Redactor

RedactWith = Callable[[str, Any], Any]

HIDDEN: Final = "[redacted: redact_with]"
_PLAIN: Final = (str, bool, int, float)


class RedactorWith:
    """A redactor, and after it a function of the user's for every value that is left. Used like a `Redactor`.

    Args:
        rules: applied first; the function never sees what they hide.
        function: takes a key and its value, returns the value to keep; None hides it. The key is that of the attribute,
            inside documents with dots between the levels, and "" for names and error messages.
    """

    def __init__(self, rules: Redactor, function: RedactWith) -> None:
        self._rules, self._function = rules, function

    def attributes(self, attrs: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """As `Redactor.attributes`."""
        found, changed = self._rules.attributes(attrs)
        for key, value in found.items():
            kept = self._kept(key, value)
            if kept is not value:
                found[key] = kept
                changed += value == attrs.get(key)  # Counted once, whichever rule changed it first.
        return found, changed

    def document(self, value: Any) -> Any:
        """As `Redactor.document`."""
        return self._walked("", self._rules.document(value))

    def text(self, text: str) -> tuple[str, int]:
        """As `Redactor.text`."""
        found, changed = self._rules.text(text)
        kept = str(self._kept("", found))
        return kept, changed or int(kept != found)

    def _walked(self, key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: self._walked(f"{key}.{name}" if key else str(name), item) for name, item in value.items()}
        if isinstance(value, list):
            return [self._walked(key, item) for item in value]
        return value if value is None else self._kept(key, value)

    def _kept(self, key: str, value: Any) -> Any:
        try:
            kept = self._function(key, value)
        except Exception as error:  # boundary: the user's function may do anything, but not let a value through
            return f"{HIDDEN[:-1]} failed, {type(error).__name__}]"
        if kept is value or _is_plain(kept):
            return kept
        return HIDDEN


def _is_plain(value: Any) -> bool:
    return isinstance(value, _PLAIN) or (isinstance(value, list | tuple) and all(isinstance(v, _PLAIN) for v in value))
