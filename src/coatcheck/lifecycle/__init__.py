"""Every decision about a session, as pure functions of what is stored, what came, and the time.

    resume   what the cookies that came mean, given the records found for them
    settle   what the request did, as one plan: what to end, what to write, which cookie to send
    replay   a save was refused: begin again with the record found instead
    refuse   a login was not let in: what the request did is dropped
    finish   a write went through: what the session is from now on
    end_of   whether a session goes on after the response, for sockets and streams

Nothing here reads a clock or does I/O; `sessions` carries the plans out.

The seed changes at login and rotation, without grace. The proof alone changes at renewal
(`renew_after`), with a grace that several tabs and lost answers need. The proof is judged once,
when the request is opened; a replay asks only whether the seed is still ours.
"""

from coatcheck.lifecycle.liveness import Reason, end_of, prolonged
from coatcheck.lifecycle.marks import (
    before,
    forbids,
    is_ahead,
    lets_in,
    mark,
    mark_id,
    noted,
    seed_at,
)
from coatcheck.lifecycle.replay import (
    abandon,
    clearing,
    cookies,
    denial,
    ended,
    finish,
    missed,
    refuse,
    replay,
    revocation,
)
from coatcheck.lifecycle.resume import claims, reader, resume
from coatcheck.lifecycle.rules import GRACE, Claim, End, Ending, Plan, Rules, Write
from coatcheck.lifecycle.settle import is_idle, settle

__all__ = [
    "GRACE",
    "Claim",
    "End",
    "Ending",
    "Plan",
    "Reason",
    "Rules",
    "Write",
    "abandon",
    "before",
    "claims",
    "clearing",
    "cookies",
    "denial",
    "end_of",
    "ended",
    "finish",
    "forbids",
    "is_ahead",
    "is_idle",
    "lets_in",
    "mark",
    "mark_id",
    "missed",
    "noted",
    "prolonged",
    "reader",
    "refuse",
    "replay",
    "resume",
    "revocation",
    "seed_at",
    "settle",
]
