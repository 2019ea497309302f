from django.apps import AppConfig


class LlmKeysConfig(AppConfig):
    name = "llmkeys"
    default_auto_field = "django.db.models.BigAutoField"
