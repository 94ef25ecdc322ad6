"""A Content Security Policy that allows nothing inline."""

from __future__ import annotations

from typing import Any


def strict(get_response: Any) -> Any:
    def respond(request: Any) -> Any:
        response = get_response(request)
        response.headers["Content-Security-Policy"] = "default-src 'self'"
        return response

    return respond
