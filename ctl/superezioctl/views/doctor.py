"""What doctor found, as text or as one document."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from superezioctl.doctor.finding import Finding
from superezioctl.output import Output

#: Where what follows a line on a terminal begins: under the names of the checks.
_MESSAGES_FROM = 6
_STYLES = {"ok": "good", "info": "note", "warn": "warn", "fail": "bad"}


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
        found = f"{mark}  {finding.check:<{columns}}  {finding.message}".replace("\n", " ")
        mend = f"{arrow} {finding.action}".replace("\n", " ") if finding.action else ""
        if not out.on_terminal:
            out.line(f"{found} {mend}".rstrip())
            continue
        out.paragraph(found, indent=_MESSAGES_FROM)
        if mend:
            # Not broken: a command in it is there to be copied.
            out.line(f"{' ' * _MESSAGES_FROM}{mend}")
