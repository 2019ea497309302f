"""A workflow of the shop. The server runs it; the project names it when it starts one."""

from aipartnerupflow.workflows import gather, step, workflow


@step(idempotent=True)
def ordered(item: str, count: int) -> str:
    """Order from the supplier."""
    return f"{count} {item}"


@workflow
async def restock(items: list[str], count: int = 10) -> list[str]:
    """Order items for the shelf."""
    return await gather(*(ordered(item, count) for item in items))
