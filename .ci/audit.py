"""Holds lock files against known vulnerabilities, and tells "none is known" from "nobody could be asked".

    python .ci/audit.py build/audit/bin/pip-audit requirements.lock …

pip-audit says "No known vulnerabilities found", and ends with 0, also where it could ask about nothing at all. Exit
status here: 0 every package was asked about and none is known to be vulnerable; 1 some are; 3 not all could be asked
about, and of the others none is.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

CLEAN, VULNERABLE, UNKNOWN = 0, 1, 3
_SECONDS = 120


class Verdict(NamedTuple):
    """What is known of one lock file."""

    status: int
    lines: list[str]


def main(arguments: Sequence[str]) -> int:
    """Audit each lock file; the worst of it as exit status."""
    program, *locks = arguments
    verdicts = [audited(program, lock) for lock in locks]
    for lock, verdict in zip(locks, verdicts, strict=True):
        for line in verdict.lines:
            print(f"{lock}: {line}")
    statuses = {verdict.status for verdict in verdicts}
    return next((status for status in (VULNERABLE, UNKNOWN) if status in statuses), CLEAN)


def audited(program: str, lock: str) -> Verdict:
    """What pip-audit says of a lock file, whose packages it takes as they stand there, with their hashes."""
    command = [program, "--requirement", lock, "--disable-pip", "--require-hashes", "--format", "json"]
    try:
        ended = subprocess.run(  # noqa: S603 - the program and the file are those of whoever runs this
            [*command, "--progress-spinner", "off"], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Verdict(UNKNOWN, [f"NOT AUDITED: the advisory service did not answer within {_SECONDS} s"])
    try:
        report = json.loads(ended.stdout)
    except ValueError:
        last = ended.stderr.strip().rpartition("\n")[2]
        return Verdict(UNKNOWN, [f"NOT AUDITED: pip-audit ended with status {ended.returncode}: {last}"])
    return judged(report)


def judged(report: Any) -> Verdict:
    """What a report of pip-audit's comes to."""
    packages = report["dependencies"]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    vulnerable = [package for package in packages if package.get("vulns")]
    lines = [_told(package, finding) for package in vulnerable for finding in package["vulns"]]
    if skipped or not packages:
        lines.append(f"NOT AUDITED: {len(skipped)} of {len(packages)} packages could not be asked about")
    if not lines:
        lines.append(f"{len(packages)} packages, none known to be vulnerable")
    return Verdict(VULNERABLE if vulnerable else UNKNOWN if skipped or not packages else CLEAN, lines)


def _told(package: Any, finding: Any) -> str:
    fixed = ", ".join(finding["fix_versions"]) or "no version yet"
    return f"VULNERABLE: {package['name']} {package['version']}: {finding['id']}, fixed in {fixed}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
