"""All settings by section. `make reference` writes the documentation from the declarations.

A setting has a type, a default, a range, a description, and an example if the default is not a good one. The default
of a setting without one depends on other settings: see `sources.Computed`.
"""

from typing import ClassVar, cast

from pydantic import Field
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from apflow_site.config.features import A2a, Email, Executors, Llm, Mcp, Webhooks
from apflow_site.config.operation import Auth, Database, Events, Limits, Log, Redis, Retention, Server, Worker
from apflow_site.config.pools import Pools
from apflow_site.config.values import Percentages, Section


class Config(BaseSettings, Section):
    """The whole configuration."""

    _mask_wrapped: ClassVar = True
    """A marker for Django, which asks for it at each `settings.APFLOW`. A name that pydantic does not find takes it ten times as long."""

    server: Server
    database: Database
    auth: Auth = Auth()
    redis: Redis = Redis()
    worker: Worker
    shares: Percentages | None = Field(
        None,
        examples=[{"alice": 100, "nightly-batch": 25}],
        description="Users who may hold more or less of a worker process than `worker.user_share`: their names, exactly as they log in, and percentages from 1 to 100. Does not apply without authentication. See [Shares of users](../how-to/operate.md#shares-of-users).",
    )
    pools: Pools
    executors: Executors = Executors()
    webhooks: Webhooks = Webhooks()
    email: Email = Email()
    llm: Llm = Llm()
    events: Events = Events()
    retention: Retention = Retention()
    limits: Limits = Limits()
    a2a: A2a = A2a()
    mcp: Mcp = Mcp()
    log: Log = Log()

    def __init__(self, *sources: PydanticBaseSettingsSource) -> None:
        """Merge the sources; the first one wins. Raises pydantic.ValidationError."""
        super().__init__(sources=sources)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources that `__init__` gets, instead of the built-in ones, which do not report where a value comes from."""
        given = cast("InitSettingsSource", init_settings).init_kwargs
        return cast("tuple[PydanticBaseSettingsSource, ...]", given["sources"])

    def share_of(self, user_id: str = "") -> int:
        """Return the percentage of a worker process that the user may hold, or one without a share of its own."""
        return (self.shares or {}).get(user_id, self.worker.user_share) if self.auth.is_on else 100

    @property
    def is_open(self) -> bool:
        """Whether other machines reach the server without authentication."""
        return not self.auth.is_on and not self.server.is_local
