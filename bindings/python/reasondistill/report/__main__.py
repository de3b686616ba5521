"""python3 -m reasondistill.report"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import ReportError, as_text, read_material, sections_of, write_page


def main(arguments: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python3 -m reasondistill.report", description="A report of runs and experiments: one HTML file with pictures, or tables as text.")
    p.add_argument("inputs", nargs="+", type=Path, metavar="INPUT",
                   help="a run directory, paper.json, or a file that eval, select, sweep, scaling or align --heatmap wrote")
    p.add_argument("--out", type=Path, default=None, metavar="FILE", help="where the page goes (default: report.html in the run directory, or beside the first file)")
    p.add_argument("--title", default=None, help="of the report (default: the name of the first input)")
    p.add_argument("--text", action="store_true", help="tables on standard output instead of a page")
    a = p.parse_args(arguments)
    first: Path = a.inputs[0]
    title = a.title or f"Report: {first.resolve().name}"
    try:
        sections = sections_of(read_material(a.inputs))
        if a.text:
            sys.stdout.write(as_text(title, sections))
            return 0
        out = a.out or (first if first.is_dir() else first.parent) / "report.html"
        write_page(out, title, sections)
        print(f"{out}: {sum(len(s.blocks) for s in sections)} tables and pictures in {len(sections)} sections", file=sys.stderr)
        return 0
    except (ReportError, ImportError) as e:
        print(f"report: {e}", file=sys.stderr)
    except OSError as e:
        print(f"report: {e.filename or a.out}: {e.strerror or e}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
