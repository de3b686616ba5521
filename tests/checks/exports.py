"""What the library exports is what the headers declare and what the version script names: no more, no less; and the floor needs nothing of the product.

    python3 tests/checks/exports.py SOURCE_ROOT LIBREASONDISTILL.SO LIBRSDFLOOR.A
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def nm(*args: str) -> list[str]:
    return subprocess.run(["nm", *args], check=True, capture_output=True, text=True).stdout.splitlines()


def main() -> int:
    root, so, floor = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    declared = set()
    for header in (root / "include" / "reasondistill").glob("*.h"):
        text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
        declared |= set(re.findall(r"RSD_API[^;(]*?\b(rsd_\w+)\s*\(", text))
    script = set(re.findall(r"^\s+(rsd_\w+);", (root / "src" / "reasondistill.map").read_text(), flags=re.M))
    exported = {line.split()[-1].split("@")[0] for line in nm("-D", "--defined-only", so) if " T " in line or " D " in line or " B " in line}
    undefined = {line.split()[-1] for line in nm("-u", floor) if line.strip() and not line.endswith(":")}
    found = [f"declared, not exported: {s}" for s in sorted(declared - exported)]
    found += [f"exported, not declared: {s}" for s in sorted(exported - declared)]
    found += [f"in the version script, not declared: {s}" for s in sorted(script - declared)]
    found += [f"declared, not in the version script: {s}" for s in sorted(declared - script)]
    found += [f"the floor needs {s}" for s in sorted(undefined) if s.startswith("rsd_")]
    print("\n".join(found) or f"exports: {len(exported)} symbols, as declared")
    return 1 if found or not exported else 0


if __name__ == "__main__":
    sys.exit(main())
