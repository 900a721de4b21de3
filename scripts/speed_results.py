"""Run every benchmark on an idle machine and write the tables of `docs/speed.md`.

.venv/bin/python scripts/speed_results.py               # all benchmarks
.venv/bin/python scripts/speed_results.py cpc loader    # these again, the others as measured before
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BENCHES = (
    "tones", "features", "vae", "disentangle", "cpc", "loader", "syrinx", "hmm", "mrgan", "dreaming", "ppo",
    "rollout", "dqn", "pqn", "dreamer", "separator", "seek", "replay",
)  # fmt: skip


def results(bench: str) -> Path:
    return ROOT / "docs" / "results" / f"bench-{bench}.json"


def measure(bench: str) -> None:
    words = [sys.executable, "-m", "sonarium", "bench", bench, "--repeats", "9", "--json"]
    found = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    results(bench).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(bench, "measured", flush=True)


def main() -> None:
    for bench in sys.argv[1:] or BENCHES:
        measure(bench)
    tables: dict[str, list[str]] = {}
    for bench in filter(lambda bench: results(bench).exists(), BENCHES):
        found = json.loads(results(bench).read_text(encoding="utf-8"))
        for case in found["cases"]:
            seconds = f"{case['ours_s']:.4f} | {case['peer_s']:.4f} | {case['ratio']:.1f} ×"
            line = f"| {bench} | {case['name']} | {case['work']} | {case['peer']} | {seconds} |"
            tables.setdefault(found["hardware"], []).append(line)
    head = ["| bench | case | work | peer | ours s | peer s | ratio |", "|---|---|---|---|---|---|---|"]
    lines = [line for machine, rows in tables.items() for line in (f"{machine}\n", *head, *rows, "")]
    path = ROOT / "docs" / "speed.md"
    before, _, rest = path.read_text(encoding="utf-8").partition("<!-- measured -->")
    _, _, after = rest.partition("<!-- end of measured -->")
    marked = "\n".join(["<!-- measured -->", *lines, "<!-- end of measured -->"])
    path.write_text(before + marked + after, encoding="utf-8")


if __name__ == "__main__":
    main()
