"""`POST /ag-ui`: a RunAgentInput in, a stream of events out."""

from functools import partial
from typing import Final

from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from a2a.agui.following import Stream, beginning
from a2a.agui.params import RunAgentInput
from a2a.agui.starting import start
from a2a.core.errors import as_rest
from a2a.core.http import decoded_in_turn, headers_of, refusal, require_method, turn
from a2a.core.metrics import metered, note
from a2a.live import sse, stream_limits
from a2a.live.streaming import held
from a2a.methods.dispatch import require
from a2a.protocol.params import RequestContext
from accounts.auth import authenticate
from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.storage import loads

NAME: Final = "ag-ui"


@csrf_exempt
async def ag_ui(request: HttpRequest) -> HttpResponseBase:
    """Start or continue a run, and stream its events. A run is stored before the first of them."""
    try:
        require_method(request, "POST")
        caller = await authenticate(request)
        with metered(NAME):
            stream = await _stream(request, caller)
        return held(sse.replies(stream.events()), caller=caller, who_is_it=partial(authenticate, request))
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return refusal(error, shape=as_rest)


async def _stream(request: HttpRequest, caller: Caller) -> Stream:
    require(caller, Role.OPERATOR, what=f"POST /{NAME}")
    note(user=caller.user_id)
    loads.charge(caller.user_id)
    async with turn(request, caller):  # also of the read pool: a large body makes a large tree
        given = RunAgentInput.parse(await decoded_in_turn(request))
        stream_limits.open_streams().refuse_if_full(caller)
        headers = headers_of(request)
        asked = RequestContext(caller=caller, url=headers.url, version="1.0", llm_key=headers.sent_key())
        started = await pools.write(start, asked, given)
        note(run=started.run_id)
        return Stream(caller=caller, given=given, started=started, begun=await beginning(caller, started))
