"""What the server says when it does not answer: OpenAI's error shape with a status that says whose fault it is."""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """A request that is not answered: the HTTP status, the message, the parameter it is about, OpenAI's word for it."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def body(self) -> dict[str, Any]:
        """The reply's JSON."""
        return {"error": {"message": str(self), "type": kind(self.status), "param": self.param, "code": self.code}}


def kind(status: int) -> str:
    """OpenAI's type of error for a status."""
    if status >= 500:
        return "server_error"
    named = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    return named.get(status, "invalid_request_error")


def wrong(message: str, param: str | None = None, code: str | None = None) -> Refused:
    """A request that cannot be answered as it is."""
    return Refused(400, message, param, code)
