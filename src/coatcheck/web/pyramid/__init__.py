"""Pyramid: `config.include("coatcheck.web.pyramid")`, `config.set_coatcheck_sessions(sessions)`."""

from coatcheck.web.pyramid.hook import (
    gate_tween_factory,
    includeme,
    login_required,
    session_tween_factory,
    set_coatcheck_sessions,
    set_login_gate,
)
from coatcheck.web.pyramid.security import CSRFStoragePolicy, SessionSecurityPolicy
from coatcheck.web.pyramid.session import PyramidSession

__all__ = [
    "CSRFStoragePolicy",
    "PyramidSession",
    "SessionSecurityPolicy",
    "gate_tween_factory",
    "includeme",
    "login_required",
    "session_tween_factory",
    "set_coatcheck_sessions",
    "set_login_gate",
]
