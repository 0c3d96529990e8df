"""Dashboards for Grafana, as code: what lies here as JSON is made by `python -m deploy.grafana`.

The command `proxyctl dashboards export` hands out that JSON and needs none of this.
"""
