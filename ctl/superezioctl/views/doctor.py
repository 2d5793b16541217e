"""What doctor found, as text or as one document."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from superezioctl.doctor.finding import Finding
from superezioctl.output import Output

_STYLES = {"ok": "good", "warn": "warn", "fail": "bad"}


def show(out: Output, findings: Sequence[Finding]) -> None:
    """Print a line for each check, with the command that mends what is wrong."""
    if out.json:
        out.document(msgspec.json.encode({"checks": list(findings)}))
        return
    columns = max(len(finding.check) for finding in findings)
    arrow = "→" if out.unicode else "->"
    for finding in findings:
        word = "FAIL" if finding.status == "fail" else finding.status
        mark = out.style(f"{word:<4}", _STYLES[finding.status])
        mend = f" {arrow} {finding.action}" if finding.action else ""
        out.line(f"{mark}  {finding.check:<{columns}}  {finding.message}{mend}".replace("\n", " "))
