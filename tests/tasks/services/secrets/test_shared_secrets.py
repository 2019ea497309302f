"""Fingerprints of shared secrets: another secret is noticed when a process starts, and no secret can be read from them."""

from pathlib import Path

import orjson
import pytest
from django.conf import LazySettings

from tasks.models import InstallationFact
from tasks.services.secrets import shared_secrets
from tasks.services.secrets.shared_secrets import SecretsDiffer, compare, join, keep_fresh
from tests.sections import replace

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
OLD, NEW = "the-old-key-of-the-tests-0123456789", "the-new-key-of-the-tests-9876543210"


def use(settings: LazySettings, *keys: str, jwt_secret: str | None = None, signing_key: Path | None = None) -> None:
    settings.APFLOW_ENCRYPTION_KEYS = keys
    auth = replace(settings.APFLOW.auth, jwt_secret=jwt_secret)
    a2a = replace(settings.APFLOW.a2a, signing_key=str(signing_key) if signing_key else None)
    settings.APFLOW = replace(settings.APFLOW, auth=auth, a2a=a2a)


def move_to_another_machine() -> None:
    moved_longest_first = InstallationFact.objects.filter(name__startswith="secret:").order_by("-name")
    for fact in moved_longest_first:  # else the next name may still be taken
        InstallationFact.objects.filter(name=fact.name).delete()
        fact.name, fact.value = f"{fact.name}x", fact.value | {"host": "elsewhere", "process": "elsewhere/1/1.00"}
        fact.save(force_insert=True)


@pytest.mark.parametrize("name", ["auth.jwt_secret", "llm.encryption_keys", "a2a.signing_key"])
def test_another_secret_than_that_of_another_machine_is_refused(
    settings: LazySettings, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "card-key.pem"

    def have(secret: str) -> None:
        file.write_text(secret if name == "a2a.signing_key" else OLD)
        jwt_secret = secret if name == "auth.jwt_secret" else OLD
        use(settings, secret if name == "llm.encryption_keys" else OLD, jwt_secret=jwt_secret, signing_key=file)

    have(OLD)
    join()
    move_to_another_machine()
    compare()
    have(NEW)
    for look in (compare, join):
        with pytest.raises(SecretsDiffer) as caught:
            look()
        assert caught.value.message.startswith(f"{name}: another value than that of the processes on elsewhere")
        assert OLD not in str(caught.value)
    assert not any(secret in orjson.dumps([*InstallationFact.objects.values()]).decode() for secret in (OLD, NEW))


def test_a_key_is_rotated_machine_by_machine(settings: LazySettings) -> None:
    """As the page on LLM keys says: the new one first, the old one still there."""
    use(settings, OLD)
    join()
    move_to_another_machine()
    use(settings, NEW, OLD)
    join()
    move_to_another_machine()
    use(settings, OLD)
    with pytest.raises(SecretsDiffer):
        join()


def test_a_secret_that_signs_tokens_is_first_accepted_everywhere(settings: LazySettings) -> None:
    """Else the machines that have it sign what the others reject."""

    def have(*secrets: str) -> None:
        use(settings, OLD, jwt_secret=secrets[0])
        auth = replace(settings.APFLOW.auth, accepted_jwt_secrets=secrets[1:])
        settings.APFLOW = replace(settings.APFLOW, auth=auth)

    have(OLD)
    join()
    move_to_another_machine()
    have(NEW, OLD)
    with pytest.raises(SecretsDiffer, match=r"auth\.accepted_jwt_secrets"):
        join()
    have(OLD, NEW)
    join()
    InstallationFact.objects.filter(value__contains="elsewhere").delete()
    move_to_another_machine()
    have(NEW, OLD)
    join()


def test_a_secret_changes_once_no_process_with_the_old_one_is_left(settings: LazySettings) -> None:
    use(settings, OLD)
    join()
    use(settings, NEW)
    with pytest.raises(SecretsDiffer):  # this process lives, and has the old one
        join()
    for fact in InstallationFact.objects.filter(name__startswith="secret:"):
        host = fact.value["host"]
        fact.value |= {"process": f"{host}/999999999/1.00"}  # has ended, which its own machine knows at once
        fact.save()
    join()
    move_to_another_machine()
    InstallationFact.objects.update(updated_at="2020-01-01T00:00Z")
    use(settings, OLD)
    join()


def test_a_live_machine_stays_known_and_one_that_is_gone_for_long_is_forgotten(settings: LazySettings) -> None:
    use(settings, OLD)
    join()
    InstallationFact.objects.update(updated_at="2020-01-01T00:00Z")
    keep_fresh()
    use(settings, NEW)
    with pytest.raises(SecretsDiffer):
        compare()
    move_to_another_machine()
    InstallationFact.objects.update(updated_at="2020-01-01T00:00Z")
    keep_fresh()
    assert [*InstallationFact.objects.values_list("name", flat=True)] == [shared_secrets.SALT]
