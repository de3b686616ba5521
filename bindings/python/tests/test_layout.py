"""Every ctypes structure has the size and the offsets that a C compiler gives it, and every prototype has as many arguments as the header."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from reasondistill import _ffi

INCLUDE = Path(os.environ.get("REASONDISTILL_INCLUDE") or Path(__file__).resolve().parents[3] / "include")


def test_structures_are_laid_out_as_in_c(tmp_path: Path) -> None:
    cc = shutil.which(os.environ.get("CC", "cc"))
    if not cc:
        pytest.skip("no C compiler")
    lines = []
    for c_name, s in _ffi.STRUCTURES.items():
        lines.append(f'printf("%zu", sizeof({c_name}));')
        lines += [f'printf(" %zu", offsetof({c_name}, {field}));' for field, *_ in s._fields_]
        lines.append('puts("");')
    source = tmp_path / "layout.c"
    source.write_text("#include <reasondistill/reasondistill.h>\n#include <stdio.h>\nint main(void) {\n" + "\n".join(lines) + "\nreturn 0;\n}\n")
    subprocess.run([cc, f"-I{INCLUDE}", str(source), "-o", str(tmp_path / "layout")], check=True)
    out = subprocess.run([str(tmp_path / "layout")], check=True, capture_output=True, text=True).stdout.splitlines()
    for (c_name, s), line in zip(_ffi.STRUCTURES.items(), out):
        mine = [ctypes.sizeof(s)] + [getattr(s, field).offset for field, *_ in s._fields_]
        assert [int(x) for x in line.split()] == mine, c_name


def test_prototypes_have_the_arguments_of_the_headers() -> None:
    text = "".join(re.sub(r"/\*.*?\*/", "", h.read_text(), flags=re.S) for h in sorted((INCLUDE / "reasondistill").glob("*.h")))
    declared = dict(re.findall(r"RSD_API[^;(]*?\b(rsd_\w+)\s*\(([^;]*?)\)\s*;", text))
    for name, (_, arguments) in _ffi.PROTOTYPES.items():
        wanted = 0 if declared[name].strip() in ("", "void") else declared[name].count(",") + 1
        assert len(arguments) == wanted, name
