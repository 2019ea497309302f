from typing import Any

from django.core.management import BaseCommand, CommandError

from llmkeys import keys
from llmkeys.cipher import CannotUnseal


class Command(BaseCommand):
    help = (
        "Encrypt stored LLM keys and secrets again with the newest of llm.encryption_keys; then remove the older ones."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            count = keys.rotate()
        except CannotUnseal as error:
            raise CommandError(f"A key cannot be decrypted, and was not changed. {error}") from None
        self.stdout.write(f"Re-encrypted: {count}. All keys are now encrypted with the newest of llm.encryption_keys.")
