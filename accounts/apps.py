import warnings

from django.apps import AppConfig
from jwt import InsecureKeyLengthWarning


class AccountsConfig(AppConfig):
    name = "accounts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # `accounts.secret` says it at the start, and where it matters refuses; PyJWT would say it at every token.
        warnings.filterwarnings("ignore", category=InsecureKeyLengthWarning)
