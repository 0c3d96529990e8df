"""`python -m deploy.grafana` writes the dashboards anew."""

from __future__ import annotations

from pathlib import Path

from deploy.grafana.written import texts

if __name__ == "__main__":
    for name, text in texts().items():
        (Path(__file__).parent / name).write_text(text)
