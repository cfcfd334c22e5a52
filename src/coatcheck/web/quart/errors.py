"""An app's errors, followed through those of its methods which all of them pass."""

from collections.abc import Awaitable, Callable
from typing import Any

from quart import Quart

from coatcheck.web.exchange import abandon
from coatcheck.web.quart.visits import Answer, current_visit

__all__ = ["FOLLOWED"]


def _stopped(app: Quart, dispatch: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """See what is no error to Quart, which is its being cancelled."""

    async def full_dispatch(*context: Any) -> Any:
        try:
            return await dispatch(*context)
        except Exception:
            raise  # `_followed` sees it next
        except BaseException:
            visit = current_visit()
            if visit is not None:
                await abandon(visit.exchange)
            raise

    return full_dispatch


def _judged(
    app: Quart, judge: Callable[[Exception], Awaitable[Any]]
) -> Callable[[Exception], Awaitable[Any]]:
    """See each error that a handler of the app may take."""

    async def handle_user_exception(error: Exception) -> Any:
        visit = current_visit()
        if visit is not None:
            visit.cause = error
        return await judge(error)

    return handle_user_exception


def _followed(
    app: Quart, handle: Callable[[Exception], Awaitable[Answer | None]]
) -> Callable[[Exception], Awaitable[Answer | None]]:
    """See each error that no handler of the app took, whether it becomes a response or goes on."""

    async def handle_exception(error: Exception) -> Answer | None:
        visit = current_visit()
        if visit is None:
            return await handle(error)
        visit.error = error
        try:
            response = await handle(error)
        except Exception:
            if (await visit.exchange.fail(error)).refused is None:
                raise
            response = app.response_class()
        if response is not None:
            await visit.answer(response)  # where an `after_request` function failed, it was not yet
        return response

    return handle_exception


FOLLOWED: dict[str, Callable[[Quart, Any], Any]] = {
    "full_dispatch_request": _stopped,
    "full_dispatch_websocket": _stopped,
    "handle_user_exception": _judged,
    "handle_exception": _followed,
    "handle_websocket_exception": _followed,
}
