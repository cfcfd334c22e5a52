"""What the rules look at in a request of Django's."""

from typing import Any

from coatcheck.gate import Request

__all__ = ["facts"]


def facts(request: Any) -> Request:
    """The path is that which Django routes; the root is its script name."""
    query, root = request.META.get("QUERY_STRING", ""), request.META.get("SCRIPT_NAME", "")
    return Request(request.method, request.path_info, query, root, request.headers.get)
