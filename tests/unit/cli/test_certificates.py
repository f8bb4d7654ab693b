"""The dates of certificates."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import trustme

from gunicorn_prom_hooks.cli.check.certificates import find_date_problem
from gunicorn_prom_hooks.exporter.tls import server_context

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("begins", "ends", "problem"),
    [(-2, -1, "certificate has expired"), (1, 2, "certificate is not yet valid"), (-1, 1, "")],
)
@pytest.mark.parametrize("client_cafile", [False, True])
def test_certificate_outside_its_dates_is_found(
    tmp_path: Path, begins: int, ends: int, problem: str, client_cafile: bool
) -> None:
    """A certificate of an authority that is not known here is judged by its dates only."""
    now = datetime.now(timezone.utc)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued = authority.issue_cert("shop.example", not_before=now + begins * DAY, not_after=now + ends * DAY)
    file = str(tmp_path / "both.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(file)
    context = server_context(file, "", str(tmp_path / "ca.pem") if client_cafile else "")
    assert find_date_problem(file, context) == problem
