"""Reading a form: bounded, as plain text, and only with this session's CSRF token."""

from starlette.exceptions import HTTPException
from starlette.requests import Request

from coatcheck import current

__all__ = ["Form", "read_form"]

_MOST_FIELDS = 20
_LARGEST_FIELD = 16_384

_STALE = (
    "This form belongs to another session: one that has ended since, or that a login in another "
    "tab replaced. Go back, reload the page and send it again; if that fails too, wait a minute."
)
_NO_COOKIE = (
    "Your browser sent no session cookie with this form. The cookie is Secure: over plain HTTP, "
    "Chrome and Firefox keep it for http://localhost, and for no other name; Safari never does."
)


class Form(dict[str, str]):
    """The fields of a form; one that is missing reads as the empty text."""

    def __missing__(self, name: str) -> str:
        return ""


async def read_form(request: Request) -> Form:
    """The fields of a POST. Raises a 403 where its `csrf` field is not this session's."""
    fields = await request.form(max_files=0, max_fields=_MOST_FIELDS, max_part_size=_LARGEST_FIELD)
    form = Form((name, value) for name, value in fields.items() if isinstance(value, str))
    session = current()
    if not session.check_csrf(form["csrf"]):
        cookie_came = session.refused is not None or not session.is_new
        raise HTTPException(403, _STALE if cookie_came else _NO_COOKIE)
    return form
