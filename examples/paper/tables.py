"""paper.json as Markdown: a table and a few sentences for each entry."""

from __future__ import annotations


def cell(value: object, unit: str | None) -> str:
    """Accuracies in percent, with their interval in brackets."""
    percent = unit is not None and unit.startswith("accuracy")
    if isinstance(value, dict) and "low" in value:
        return f"{100 * value['value']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}]" if percent else f"{value['value']:.3g} [{value['low']:.3g}, {value['high']:.3g}]"
    if isinstance(value, dict):
        return "; ".join(f"{k} {cell(v, unit)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "no"
    if isinstance(value, float):
        return f"{100 * value:.1f}" if percent else f"{value:g}"
    return f"{value:,}" if isinstance(value, int) and value >= 10000 else "" if value is None else str(value)


def table(entry: dict) -> str:
    columns = entry["columns"]
    rows = [[cell(row.get(c["key"]), c.get("unit")) for c in columns] for row in entry["rows"]]
    heads = [c["title"] + (", %" if c.get("unit", "").startswith("accuracy") else f", {c['unit']}" if c.get("unit") else "") for c in columns]
    return "\n".join("| " + " | ".join(r) + " |" for r in [heads, ["---"] * len(columns), *rows])


def markdown(paper: dict) -> str:
    out = [f"`{paper['command']}` at {paper['commit'] or 'no commit'} on {paper['machine']}, {paper['date'][:10]}: {paper['parts']['finished']} of {paper['parts']['of']} parts, "
           f"{paper['parts']['seconds_of_one_thread'] / 60:.0f} minutes of one thread. Intervals: {paper['intervals']}."]
    for e in paper["entries"] + paper.get("beside", []):
        if e["state"] != "complete":
            out.append(f"### ({e['id']}) {e['key']}\n\nNot finished.")
            continue
        verdict = {True: " The same here.", False: " Not so here.", None: ""}[e["agrees"]]
        out.append(f"### ({e['id']}) {e['title']}\n\n{e['question']}\n\n{table(e)}\n\n" + "\n".join(f"* {s}" for s in e["summary"]) + f"\n\nThe paper: {e['paper']}{verdict}")
    return "\n\n".join(out) + "\n"
