import warnings

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from accounts.recent import forget_on_changes  # noqa: PLC0415  models cannot be imported before

        forget_on_changes()
        # `accounts.secret` reports a short key once at start-up; PyJWT would warn for every token.
        # By its text: to import PyJWT for its class takes a twentieth of the start of a worker.
        warnings.filterwarnings("ignore", message="The HMAC key is ")
