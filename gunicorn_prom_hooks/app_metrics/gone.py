"""What processes that are gone have counted, as if one process had: their files need not stay for it."""

from __future__ import annotations

from .columns import MERGES
from .keys import Key
from .layouts import Layout, Layouts, Values
from .names import FileName
from .plan import Source

IDENTITY = "gone"
"""Value of the label ``pid``, where a gauge has one."""


class Gone:
    """Adds up files by type and mode, in memory; of live gauges nothing is kept.

    Its size is that of the label sets which such processes have used, and not the number of the processes.

    Args:
        layouts: makes layouts of keys.
    """

    def __init__(self, layouts: Layouts) -> None:
        self._layouts = layouts
        self._kept: dict[tuple[str, str], dict[Key, tuple[float, float]]] = {}

    def add(self, name: FileName, layout: Layout, values: Values) -> None:
        """Keeps what a process has left: added up, or the least, greatest or latest, as the metric has it."""
        if name.live:
            return
        kept = self._kept.setdefault((name.typ, name.mode), {})
        merge = MERGES[name.mode or "sum"]
        stamps = values.timestamps or (0.0,) * len(values.values)
        for key, value, stamp in zip(layout.keys, values.values, stamps, strict=True):
            before, stamped = kept.get(key, (None, 0.0))
            if before is None or (name.mode == "mostrecent" and stamped < stamp):
                kept[key] = value, stamp
            elif name.mode != "mostrecent":
                kept[key] = merge(before, value), stamp

    def sources(self) -> list[tuple[Source, Values]]:
        """What is kept, as files."""
        found = []
        for (typ, mode), kept in self._kept.items():
            timed = typ == "gauge"
            layout = self._layouts.of(tuple(kept), timed=timed)
            values = tuple(value for value, _ in kept.values())
            stamps = tuple(stamp for _, stamp in kept.values()) if timed else ()
            found.append((Source(FileName(typ, mode, False, IDENTITY), layout), Values(values, stamps)))
        return found
