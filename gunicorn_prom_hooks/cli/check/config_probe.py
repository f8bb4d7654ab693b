"""The process that evaluates a config as gunicorn does, checks it, and writes a report as JSON.

Run with the path of the report, then the options and arguments of ``check``. It has no report if the config raises.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

PLACEHOLDER: Final = "app:app"
"""The application if the arguments name none. It is not loaded."""


def main(arguments: Sequence[str]) -> None:
    """Evaluate the config and write the report."""
    report, *rest = arguments
    is_running = rest[:1] == ["--running"]
    config, *more = rest[1:] if is_running else rest
    cfg = load_config(config, more)
    # Late: the config comes first, as under gunicorn, and may set the environment.
    from .config_rules import check

    facts, findings = check(cfg, is_running=is_running)
    text = json.dumps({"facts": facts, "findings": [dataclasses.asdict(finding) for finding in findings]})
    Path(report).write_text(text)


def load_config(config: str, arguments: Sequence[str]) -> Any:
    """Return the configuration that gunicorn makes of a config file and arguments.

    Raises:
        SystemExit: gunicorn refuses it, with a message on standard error.
    """
    from gunicorn.app.wsgiapp import WSGIApplication

    # gunicorn reads the arguments of the process. Of several applications it takes the first.
    sys.argv = ["gunicorn", "--config", config, *arguments, PLACEHOLDER]
    return WSGIApplication(prog="gunicorn").cfg


if __name__ == "__main__":
    main(sys.argv[1:])
