"""Errors: one class for each status of Rukun, all of them subclasses of `Error`."""

from __future__ import annotations

from typing import Any

from . import _rukun


class Error(Exception):
    """A call failed. Its text is one line, with the values; the rest is here:

    code: the wire's name of the status, "held" and the like.
    field: the request's field that was wrong, or "".
    node: the node that answered, or "".
    retryable: the same call may succeed later.
    outcome: "not_done", or "unknown": it may have happened.
    request_id: the number of the request at this client.
    retry_after: seconds after which to try again, or None.
    """

    code: str = "error"
    field: str = ""
    node: str = ""
    retryable: bool = False
    outcome: str = "not_done"
    request_id: int = 0
    retry_after: float | None = None


class Invalid(Error):
    """The call makes no sense: a programming error."""

    code = "invalid"


class OutOfMemory(Error):
    """This process, or the node, has no memory left."""

    code = "no_memory"


class Exists(Error):
    """It exists already, and was to be absent."""

    code = "exists"


class NotFound(Error):
    """There is no such thing."""

    code = "not_found"


class LimitReached(Error):
    """A limit of the cluster, of a topic or of the client is reached."""

    code = "limit"


class OutOfBounds(Error):
    """A field is out of its bounds; `field` names it."""

    code = "out_of_bounds"


class LockHeld(Error):
    """Someone else holds the lock, and the call was not to wait."""

    code = "held"


class LockTimeout(Error):
    """The lock was not granted within the wait."""

    code = "wait_timeout"


class Deadlock(Error):
    """To go on waiting would close a cycle; the text names it."""

    code = "deadlock"


class NotOwner(Error):
    """The lock is not, or no longer, this owner's."""

    code = "not_owner"


class StaleDelivery(Error):
    """The message was delivered again since: this delivery settles nothing any more."""

    code = "stale_delivery"


class Gone(Error):
    """The message is no more: acknowledged, purged or expired."""

    code = "gone"


class SessionExpired(Error):
    """The client's session expired, and with it every lock it held."""

    code = "session_expired"


class VersionMismatch(Error):
    """The entry has another version than the one that was asked for."""

    code = "version_mismatch"


class TooLarge(Error):
    """A value or a request is larger than allowed."""

    code = "too_large"


class UnsupportedMedia(Error):
    """The encoding is not one that the node knows."""

    code = "unsupported_media"


class NotLeader(Error):
    """The node does not lead the group, and was not to forward."""

    code = "not_leader"


class Busy(Error):
    """Too many requests, or too many calls that wait."""

    code = "busy"


class Unavailable(Error):
    """No majority of the nodes can be reached."""

    code = "unavailable"


class OutcomeUnknown(Error):
    """No answer came in time: the call may have happened, and may not."""

    code = "unknown_outcome"


class Full(Error):
    """The nodes' storage is full."""

    code = "full"


class Unauthorized(Error):
    """The token is missing or wrong."""

    code = "unauthorized"


class Forbidden(Error):
    """The token does not allow this."""

    code = "forbidden"


class MethodNotAllowed(Error):
    """The HTTP method does not fit the path."""

    code = "method_not_allowed"


class NotConvertible(Error):
    """A value has no such form: no JSON, or no integer."""

    code = "not_acceptable"


class Cancelled(Error):
    """The call was ended from elsewhere while it waited."""

    code = "cancelled"


class StaleFence(Error):
    """The object has seen a higher fence: this writer's lock is someone else's now."""

    code = "stale_fence"


class VoidToken(Error):
    """The fill token is no longer valid: the key was changed since."""

    code = "void_token"


class Corrupt(Error):
    """Data failed its checksum."""

    code = "corrupt"


class InputOutputError(Error):
    """A node could not read or write."""

    code = "io"


class ProtocolError(Error):
    """The other side does not speak Rukun's protocol, or another version of it."""

    code = "protocol"


class Closed(Error):
    """The client is closed."""

    code = "closed"


class Dropped(Error):
    """The node had to drop the proposal; nothing happened."""

    code = "dropped"


class CannotConnect(Error):
    """No endpoint could be reached before the deadline."""

    code = "connect"


class Forked(Error):
    """The client was made before a fork, in the parent: the child needs one of its own."""

    code = "forked"


class Paused(Error):
    """The topic is paused."""

    code = "paused"


class Unsupported(Error):
    """The cluster's engine does not offer this."""

    code = "unsupported"


class LockLost(Error):
    """The lock is lost, or may be: its lease ran out by this client's clock."""

    code = "lost"


_by_code: dict[str, type[Error]] = {kind.code: kind for kind in Error.__subclasses__()}


def make(status: int, text: str, field: str = "", node: str = "", outcome: int = 0,
         retryable: bool = False, request_id: int = 0, retry_after_ms: int = 0) -> Error:
    """The exception of a status of librukun."""
    code = _rukun.status_name(status)
    error = _by_code.get(code, Error)(text)
    error.code = code
    error.field = field
    error.node = node
    error.retryable = retryable
    error.outcome = "unknown" if outcome == _rukun.OUTCOME_UNKNOWN else "not_done"
    error.request_id = request_id
    error.retry_after = retry_after_ms / 1000 if retry_after_ms else None
    return error


def _factory(*arguments: Any) -> Error:
    return make(*arguments)


_rukun.error_factory_use(_factory)
