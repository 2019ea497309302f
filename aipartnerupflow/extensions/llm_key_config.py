"""Access to users' LLM keys from Python programs.

The store, the encryption and the validation are those of the server.
"""

from aipartnerupflow import bootstrap


class LLMKeyConfigManager:
    """Stores and reads users' keys for LLM providers.

    Usable in a plain script that has the same settings as the server (environment variables or
    `AIPARTNERUPFLOW_CONFIG`). The methods are synchronous and use Django's ORM: from a coroutine,
    call them with `asyncio.to_thread`.

    Providers have LiteLLM's names; `google` is an alias of `gemini`. Methods raise ValueError if
    the provider is unknown or the key is malformed.
    """

    def __init__(self) -> None:
        _load_django()

    def set_key(self, user_id: str, api_key: str, provider: str) -> None:
        """Store a user's key for a provider, replacing an earlier one."""
        from llmkeys import keys
        from llmkeys.providers import MalformedKey
        from llmkeys.secret import Secret

        try:
            if not 1 <= len(user_id) <= 255 or "\0" in user_id:
                raise ValueError("A user id has 1 to 255 characters.")
            keys.set_key(user_id=user_id, provider=_known(provider), key=Secret(api_key))
        except MalformedKey as error:
            raise ValueError(f"The key {error.message}.") from None

    def get_key(self, user_id: str, provider: str) -> str | None:
        """Return the decrypted key, or None.

        Raises RuntimeError if none of `llm.encryption_keys` decrypts it.
        """
        from llmkeys import keys
        from llmkeys.cipher import CannotUnseal

        try:
            key = keys.get_key(user_id=user_id, provider=_known(provider))
        except CannotUnseal as error:
            raise RuntimeError(f"Cannot decrypt the key of {user_id!r} for {provider!r}. {error}") from None
        return None if key is None else key.reveal()

    def has_key(self, user_id: str, provider: str) -> bool:
        """Return whether the user has a key for the provider."""
        return _known(provider) in self.get_all_providers(user_id)

    def get_all_providers(self, user_id: str) -> list[str]:
        """Return the providers for which the user has a key, sorted by name."""
        from llmkeys import keys

        return [key.provider for key in keys.list_keys(user_id=user_id)]

    def delete_key(self, user_id: str, provider: str) -> bool:
        """Delete a key. Returns False if there was none."""
        from llmkeys import keys

        return keys.delete_key(user_id=user_id, provider=_known(provider))

    def clear_all(self, user_id: str) -> int:
        """Delete all keys of a user. Returns their number."""
        from llmkeys import keys

        return keys.clear_keys(user_id=user_id)


def _load_django() -> None:
    """Set up Django and migrate the database, unless Django is set up already."""
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
