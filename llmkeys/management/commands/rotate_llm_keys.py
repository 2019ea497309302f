from typing import Any

from django.core.management import BaseCommand, CommandError

from llmkeys import keys
from llmkeys.cipher import CannotUnseal


class Command(BaseCommand):
    help = "Seal stored LLM keys anew with the newest of llm.encryption_keys; then the older ones can go."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            count = keys.rotate()
        except CannotUnseal as error:
            raise CommandError(f"A key does not open, and stays as it is. {error}") from None
        self.stdout.write(f"Sealed anew: {count}. All keys are sealed with the newest of llm.encryption_keys now.")
