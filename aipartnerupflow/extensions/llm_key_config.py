"""Users' LLM keys for programs that run beside the server: the same store, the same sealing, the same rules."""

from typing import TYPE_CHECKING

from aipartnerupflow import bootstrap

if TYPE_CHECKING:
    from llmkeys.secret import Secret


class LLMKeyConfigManager:
    """The keys that users keep for providers of language models.

    It works in a plain script, which needs the same settings as the server (environment or `AIPARTNERUPFLOW_CONFIG`), and, as all that
    uses Django's database, not on a running event loop: there, call it by `asyncio.to_thread`.

    Providers go by LiteLLM's names; `google` and `gemini` are one. Methods raise ValueError where a provider is unknown or a key cannot be one.
    """

    def __init__(self) -> None:
        _load_django()

    def set_key(self, user_id: str, api_key: str, provider: str) -> None:
        """Keep a user's key for a provider, in the place of an earlier one."""
        from llmkeys import keys
        from llmkeys.header import MalformedKey
        from llmkeys.secret import Secret

        try:
            keys.set_key(user_id=_checked(user_id), provider=_known(provider), key=Secret(api_key))
        except MalformedKey as error:
            raise ValueError(f"The key {error.message}.") from None

    def get_key(self, user_id: str, provider: str) -> str | None:
        """The key itself, or None. Raises RuntimeError when it was sealed with a key that is not here."""
        key = self._find(user_id, provider)
        return None if key is None else key.reveal()

    def has_key(self, user_id: str, provider: str) -> bool:
        """Whether there is one."""
        return _known(provider) in self.get_all_providers(user_id)

    def get_all_providers(self, user_id: str) -> list[str]:
        """The providers that the user has a key for, in order."""
        from llmkeys import keys

        return [key.provider for key in keys.list_keys(user_id=user_id)]

    def delete_key(self, user_id: str, provider: str) -> bool:
        """Forget a key. False: there was none."""
        from llmkeys import keys

        return keys.delete_key(user_id=user_id, provider=_known(provider))

    def clear_all(self, user_id: str) -> int:
        """Forget all keys of a user. Returns how many there were."""
        from llmkeys import keys

        return keys.clear_keys(user_id=user_id)

    def _find(self, user_id: str, provider: str) -> "Secret | None":
        from llmkeys import keys
        from llmkeys.cipher import CannotUnseal

        try:
            return keys.get_key(user_id=user_id, provider=_known(provider))
        except CannotUnseal as error:
            raise RuntimeError(f"The key of {user_id!r} for {provider!r} does not open. {error}") from None


def _load_django() -> None:
    """Make the project's packages importable and its database ready, unless we are inside of it."""
    bootstrap()
    import django
    from django.apps import apps

    if apps.ready:
        return
    django.setup()
    from apflow_site.prepare import prepare

    prepare()


def _known(provider: str) -> str:
    from llmkeys.providers import UnknownProvider, provider_named

    try:
        return provider_named(provider)
    except UnknownProvider as error:
        raise ValueError(f"{provider!r} is {error.message}") from None


def _checked(user_id: str) -> str:
    if not 1 <= len(user_id) <= 255 or "\0" in user_id:
        raise ValueError("A user id has 1 to 255 characters.")
    return user_id
