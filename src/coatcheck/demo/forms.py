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
    """The fields of a POST. Raises a 403 where its `csrf` field is not this session's, and a 400
    where it is no form."""
    form = Form(await _fields(request))
    session = current()
    if not session.check_csrf(form["csrf"]):
        cookie_came = session.refused is not None or not session.is_new
        raise HTTPException(403, _STALE if cookie_came else _NO_COOKIE)
    return form


async def _fields(request: Request) -> list[tuple[str, str]]:
    most, largest = _MOST_FIELDS, _LARGEST_FIELD
    try:
        fields = await request.form(max_files=0, max_fields=most, max_part_size=largest)
        texts = [(name, value) for name, value in fields.items() if isinstance(value, str)]
        "".join(map("".join, texts)).encode()  # a charset of the client's may make other text
    except (UnicodeError, LookupError):
        raise HTTPException(400, "This form is not written in UTF-8.") from None
    return texts
