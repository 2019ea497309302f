"""The parameters of the methods for notifications."""

from typing import Annotated, Literal

from msgspec import Meta
from msgspec.structs import asdict

from a2a.core.conditions import NotWith, Problem
from a2a.core.parsing import Params
from a2a.methods.flow_params import FlowName
from a2a.methods.params import HEADERS, HeaderText, HookUrl
from tasks.rules.strict_json import Json

Name = Annotated[str, Meta(min_length=1, max_length=100)]
About = Literal["failures", "questions"]
Address = Annotated[str, Meta(min_length=3, max_length=254)]


class SetNotification(Params, frozen=True, kw_only=True):
    """notifications.set: about failed runs, questions or both, of a flow or, without one, of all runs; to a URL, or to an e-mail
    address.
    """

    CONDITIONS = (
        NotWith("email", "url", "choose one of url and email"),
        NotWith("token", "email", "only requests are signed"),
        NotWith("headers", "email", "only requests have them"),
    )
    name: Name
    about: Annotated[list[About], Meta(min_length=1, max_length=2, extra_json_schema={"uniqueItems": True})] | None = (
        None
    )
    """Default: failures."""
    flow: FlowName | None = None
    url: HookUrl | None = None
    email: Address | None = None
    token: HeaderText | None = None
    """Signs the requests. Default: the server makes one, and returns it once as `signing_key`."""
    headers: Annotated[dict[str, HeaderText], Meta(extra_json_schema=HEADERS)] | None = None

    def contradictions(self) -> list[Problem]:
        is_missing = self.url is None and self.email is None
        return [*([("url", "required, or email")] if is_missing else []), *super().contradictions()]

    @property
    def arguments(self) -> Json:
        given = asdict(self)
        return given if self.about is not None else {name: value for name, value in given.items() if name != "about"}


class NotificationNamed(Params, frozen=True, kw_only=True):
    """notifications.delete, notifications.test"""

    name: Name
