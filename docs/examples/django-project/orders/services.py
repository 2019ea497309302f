"""Place an order: its row and the run that fulfils it are stored together, or neither is."""

from django.db import transaction

from aipartnerupflow.django import start_flow
from orders.models import Order


@transaction.atomic
def place_order(item: str, *, customer: str) -> Order:
    """Store an order, and start the run that fulfils it. Raises aipartnerupflow.django.Refused; then nothing is stored."""
    order = Order.objects.create(customer=customer, item=item)
    started = start_flow(
        "fulfil", {"order": order.pk, "item": item}, user=customer, idempotency_key=f"order-{order.pk}"
    )
    order.task_id = started.task_id
    order.save(update_fields=["task_id"])
    return order
