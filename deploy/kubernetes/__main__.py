"""`python -m deploy.kubernetes`: the PrometheusRule anew."""

from deploy.kubernetes import RULE, rule

RULE.write_text(rule())
