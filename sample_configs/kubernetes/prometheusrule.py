"""Print the PrometheusRule for the Prometheus operator, from the rules for Prometheus.

``python sample_configs/kubernetes/prometheusrule.py > sample_configs/kubernetes/prometheusrule.yaml``
"""

from pathlib import Path

RULES = Path(__file__).parents[1] / "prometheus" / "gunicorn.rules.yml"
HEAD = """\
# The rules of sample_configs/prometheus/gunicorn.rules.yml for the Prometheus operator. Made by prometheusrule.py.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: gunicorn
spec:
"""


def prometheus_rule(rules: str) -> str:
    """Return the PrometheusRule with these groups: the text of a rules file from its line ``groups:`` on."""
    groups = rules[rules.index("groups:") :]
    return HEAD + "".join(f"  {line}" if line.strip() else line for line in groups.splitlines(keepends=True))


if __name__ == "__main__":
    print(prometheus_rule(RULES.read_text()), end="")
