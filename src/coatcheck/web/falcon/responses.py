"""What a response gets from its sessions, and what takes its place."""

import falcon

from coatcheck.gate import Refused
from coatcheck.web.exchange import Head
from coatcheck.web.headers import merge_str

__all__ = ["add_headers", "replace"]


def add_headers(resp: falcon.Response, head: Head) -> None:
    if head.vary:
        merged = merge_str(list(resp.headers.items()), head)
        for name in resp.headers:
            resp.delete_header(name)
        for name, value in merged:
            resp.append_header(name, value)  # one header for each cookie


def replace(resp: falcon.Response, refused: Refused) -> None:
    """A whole response of our own."""
    for name in resp.headers:
        resp.delete_header(name)
    resp._cookies = resp._extra_headers = None  # Falcon has no public way to take them back
    resp.set_headers(refused.headers)
    resp.status = refused.status
    resp.data = resp.media = resp.stream = None
    resp.content_type = falcon.MEDIA_TEXT
    resp.text = refused.body
