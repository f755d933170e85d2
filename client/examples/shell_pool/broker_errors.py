"""What the broker says when it refuses: google.rpc details, carried in the trailer of a failed call."""

from dataclasses import dataclass, field

DETAILS_TRAILER = "grpc-status-details-bin"


@dataclass(frozen=True)
class BrokerError:
    code: str
    """The gRPC code's name, such as RESOURCE_EXHAUSTED."""
    reason: str
    """ErrorInfo.reason, such as CAPACITY_EXHAUSTED; the code's name if the broker did not say."""
    message: str
    metadata: dict = field(default_factory=dict)
    """ErrorInfo.metadata: numbers and names about the reason, as text."""
    retry_seconds: float = 0.0
    """RetryInfo.retry_delay: waiting less than this does not help. 0: nothing was said."""


def decode(stubs, error):
    """The BrokerError in `error`, a grpc.RpcError of a call."""
    code = error.code().name
    reason, metadata, retry_seconds = code, {}, 0.0
    for name, value in error.trailing_metadata() or ():
        if name != DETAILS_TRAILER:
            continue
        for detail in stubs.status.Status.FromString(value).details:
            info = stubs.details.ErrorInfo()
            retry = stubs.details.RetryInfo()
            if detail.Unpack(info):
                reason, metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(retry):
                retry_seconds = retry.retry_delay.ToTimedelta().total_seconds()
    return BrokerError(code, reason, error.details() or "", metadata, retry_seconds)
