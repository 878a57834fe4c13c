from __future__ import annotations

from typing import TypedDict


class Order(TypedDict):
    item: str
    status: str  # "packing", "shipped" or "delivered"
    days: int  # until it leaves or arrives, or since it was delivered


ORDERS: dict[str, dict[str, Order]] = {
    "alice": {
        "1001": Order(item="Luna lamp", status="shipped", days=2),
        "1003": Order(item="Pico lamp", status="delivered", days=5),
    },
    "bob": {
        "1002": Order(item="Nova lamp", status="packing", days=3),
        "1004": Order(item="Vega lamp", status="shipped", days=4),
    },
}


def orders_of(username: str) -> dict[str, Order]:
    """Return this customer's orders by their number."""
    return ORDERS.get(username, {})
