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
    "carla": {"1005": Order(item="Luna lamp", status="shipped", days=3)},
    "chloe": {"1006": Order(item="Pico lamp", status="delivered", days=6)},
    "emre": {"1007": Order(item="Nova lamp", status="packing", days=6)},
    "finn": {"1008": Order(item="Vega lamp", status="shipped", days=3)},
    "grace": {"1009": Order(item="Luna lamp", status="delivered", days=4)},
    "hugo": {"1010": Order(item="Pico lamp", status="packing", days=6)},
    "ines": {"1011": Order(item="Nova lamp", status="shipped", days=5)},
    "jonas": {"1012": Order(item="Vega lamp", status="delivered", days=6)},
    "kim": {"1013": Order(item="Luna lamp", status="packing", days=2)},
    "lea": {"1014": Order(item="Pico lamp", status="shipped", days=6)},
}


def orders_of(username: str) -> dict[str, Order]:
    """Return this customer's orders by their number."""
    return ORDERS.get(username, {})
