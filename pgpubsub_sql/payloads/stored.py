"""Reading payloads that are stored."""

from __future__ import annotations

import json
from typing import Any


class PayloadDecoder(json.JSONDecoder):
    """Decodes any JSON that may be stored.

    What Python cannot decode, nested too deeply or with numbers of thousands of digits, becomes
    ``{"$raw": text}``, so that the row can still be loaded.
    """

    def decode(self, s: str, *args: Any) -> Any:
        """Return the value of the JSON *s*."""
        try:
            return super().decode(s, *args)
        except (RecursionError, ValueError):
            return {"$raw": s}
