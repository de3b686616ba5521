"""The house rules that a compiler does not know: who may include whom, which file is the door to which library, and what the library must never call.

    python3 tests/checks/layering.py SOURCE_ROOT
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

# Folder: the folders of this project that its files may include from (besides its own).
MAY_INCLUDE = {
    "lib/core": set(),
    "lib/tensor": {"core"},
    "lib/kernels": {"core", "tensor"},
    "src/base": {"core", "tensor", "kernels"},
    "src/text": {"core", "base"},
    "src/teacher": {"core", "base", "text"},
    "src/align": {"core", "base", "text", "teacher"},
    "src/data": {"core", "base", "text", "align"},
    "src/t5": {"core", "tensor", "kernels", "base"},
    "src/train": {"core", "tensor", "kernels", "base", "t5", "data", "text"},
    "src/eval": {"core", "base", "text", "data"},
    "src/cli": {"core"},
    "include/reasondistill": set(),
    "examples": set(),
    "bindings/cpp": set(),
}
PUBLIC = {folder for folder in MAY_INCLUDE if folder.startswith(("src/", "examples", "bindings"))}  # may include reasondistill/*.h
ROOMS = {folder.split("/")[1] for folder in MAY_INCLUDE if folder.startswith(("lib/", "src/"))}
DOORS = {"cJSON.h": "lib/core/json.c", "cblas.h": "lib/kernels/gemm.c", "curl.h": "src/teacher/http.c", "utf8proc.h": "src/text/utf8.c",
         "zlib.h": "lib/core/gzip.c"}
BANNED = re.compile(r"\b(printf|fprintf|vprintf|puts|fputs|putchar|perror|exit|_exit|abort|assert|setenv|putenv|unsetenv|setlocale|signal|sigaction|"
                    r"cJSON_InitHooks|curl_global_init_mem|strcpy|strcat|sprintf|vsprintf|gets|strtok|rand|srand|system|popen|alloca)\s*\(")
COMMENT_OR_STRING = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:[^"\\\n]|\\.)*"', re.S)


def code_only(text: str) -> str:
    """Comments and strings blanked out, line numbers kept."""
    return COMMENT_OR_STRING.sub(lambda m: "\n" * m.group().count("\n"), text)


def check_file(root: Path, path: Path) -> list[str]:
    name = path.relative_to(root).as_posix()
    folder = max((f for f in MAY_INCLUDE if name.startswith(f + "/")), key=len)
    text = path.read_text()
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        m = re.match(r'\s*#\s*include\s*([<"])([^>"]+)', line)
        if not m:
            continue
        kind, target = m.groups()
        base = target.rsplit("/", 1)[-1]
        if base in DOORS and name != DOORS[base]:
            found.append(f"{name}:{number}: {base} has one door, {DOORS[base]}")
        if kind == "<":
            continue
        top = target.split("/")[0] if "/" in target else None
        if top == "reasondistill":
            if folder not in PUBLIC and folder != "include/reasondistill":
                found.append(f"{name}:{number}: the floor does not know the product")
        elif top in ROOMS or top == "cli":
            own = folder.split("/")[-1]
            if top != own and top not in MAY_INCLUDE[folder]:
                found.append(f"{name}:{number}: {folder} may not include {target}")
        elif top is not None and folder.startswith(("lib/", "src/")):
            found.append(f"{name}:{number}: {target}: rooms are included as room/file.h")
    if folder.startswith(("lib/", "src/")) and folder != "src/cli":
        for number, line in enumerate(code_only(text).splitlines(), 1):
            m = BANNED.search(line)
            if m:
                found.append(f"{name}:{number}: the library never calls {m.group(1)}")
    return found


def main() -> int:
    root = Path(sys.argv[1]).resolve()
    files = [p for folder in ("lib", "src", "include", "examples", "bindings/cpp") for p in sorted((root / folder).rglob("*.[ch]*")) if p.suffix in (".c", ".h", ".hpp")]
    found = [line for p in files if any(p.relative_to(root).as_posix().startswith(f + "/") for f in MAY_INCLUDE) for line in check_file(root, p)]
    allowed = {"include", "lib", "src", "bindings", "examples", "tests"}
    found += [f"{p.name}: no folder of this name at the top" for p in root.iterdir()
              if p.is_dir() and not p.name.startswith((".", "build", "quickstart-out")) and p.name not in allowed]
    print("\n".join(found) or f"layering: {len(files)} files keep the rules")
    return 1 if found or len(files) < 50 else 0


if __name__ == "__main__":
    sys.exit(main())
