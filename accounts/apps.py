import warnings

from django.apps import AppConfig
from jwt import InsecureKeyLengthWarning


class AccountsConfig(AppConfig):
    name = "accounts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from accounts.recent import forget_on_changes  # noqa: PLC0415  models cannot be imported before

        forget_on_changes()
        # `accounts.secret` reports a short key once at start-up; PyJWT would warn for every token.
        warnings.filterwarnings("ignore", category=InsecureKeyLengthWarning)
