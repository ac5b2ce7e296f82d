"""As much of LanceDB as the pages use, where it is not installed."""

from __future__ import annotations

import math
from typing import Any


class Store:
    """The nearest records by the cosine of their vectors."""

    def connect(self, path: str) -> Store:
        return self

    def create_table(self, name: str, records: list[dict[str, Any]]) -> Store:
        table = Store()
        table.records = records
        return table

    def search(self, vector: list[float]) -> Store:
        def distance(other: list[float]) -> float:
            return 1 - sum(map(float.__mul__, vector, other)) / math.hypot(*vector) / math.hypot(*other)

        records = [{**record, "_distance": distance(record["vector"])} for record in self.records]
        self.records = sorted(records, key=lambda record: record["_distance"])
        return self

    def distance_type(self, kind: str) -> Store:
        return self

    def limit(self, count: int) -> Store:
        self.records = self.records[:count]
        return self

    def to_list(self) -> list[dict[str, Any]]:
        return self.records
