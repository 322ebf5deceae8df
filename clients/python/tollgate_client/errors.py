"""What can go wrong, as exceptions: one class for each code a gate answers with."""


class TollgateError(Exception):
    """An answer that is no success. `code` is the gate's own (VALIDATION_ERROR, RATE_LIMITED, ...), `param` the field at fault where one is named,
    `request_id` what to quote when asking the operator."""

    def __init__(self, message, status=None, code=None, param=None, request_id=None, retry_after=None):
        super().__init__(message)
        self.message, self.status, self.code, self.param, self.request_id, self.retry_after = message, status, code, param, request_id, retry_after

    def __str__(self):
        where = f" [{self.status} {self.code}]" if self.status else ""
        return f"{self.message}{where}" + (f" (request {self.request_id})" if self.request_id else "")


class ValidationError(TollgateError):
    """400, 413, 415: the request is not what the route takes; nothing was done."""


class AuthenticationError(TollgateError):
    """401: no key, or one that is not (any more) valid."""


class PermissionDeniedError(TollgateError):
    """403: the key lacks a permission; the message names it."""


class NotFoundError(TollgateError):
    """404, and 400 MODEL_NOT_FOUND."""


class ConflictError(TollgateError):
    """409: not now (a model that is still being trained), or there already."""


class RateLimitedError(TollgateError):
    """429, after as many waits as the client was allowed; `retry_after` in seconds."""


class UnavailableError(TollgateError):
    """503, 504, or no connection."""


class ServerError(TollgateError):
    """Any other 5xx."""


class JobFailed(TollgateError):
    """The job ended without a result; the message is its error."""


class JobCanceled(TollgateError):
    """The job was canceled, or removed, before it ended."""


_BY_STATUS = {400: ValidationError, 401: AuthenticationError, 403: PermissionDeniedError, 404: NotFoundError, 409: ConflictError, 413: ValidationError,
              415: ValidationError, 422: ValidationError, 429: RateLimitedError, 503: UnavailableError, 504: UnavailableError}


def error_of(response):
    """The exception for an answer. A body that is not the gate's (a proxy's page, say) still makes one."""
    try:
        body = response.json()
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    error = body.get("error")
    inner = error if isinstance(error, dict) else {}
    code = body.get("code") or (error if isinstance(error, str) else inner.get("code"))
    kind = NotFoundError if code == "MODEL_NOT_FOUND" else _BY_STATUS.get(response.status_code, ServerError if response.status_code >= 500 else TollgateError)
    message = body.get("detail") or body.get("message") or inner.get("message") or f"HTTP {response.status_code}"
    return kind(message, response.status_code, code, inner.get("param"), body.get("request_id") or response.headers.get("X-Request-ID"), retry_after(response))


def retry_after(response):
    """Seconds to wait, or None. The gate always gives whole seconds."""
    text = response.headers.get("Retry-After", "")
    return int(text) if text.isdigit() else None
