"""Verbs for the site's own monitoring: what it needs to read the gateway's metrics, printed."""

from __future__ import annotations

import hashlib
import secrets
import socket

import click

from appliance.config import Settings
from appliance.resources import monitoring_file

TOKEN_BYTES = 32


@click.group()
def monitoring() -> None:
    """Print what a site's Prometheus and Grafana need for this node."""


@monitoring.command()
def dashboard() -> None:
    """Print the Grafana dashboard, as JSON to import."""
    click.echo(monitoring_file("grafana-dashboard.json"), nl=False)


@monitoring.command()
def alerts() -> None:
    """Print Prometheus's alerting rules, as YAML."""
    click.echo(monitoring_file("alert-rules.yml"), nl=False)


@monitoring.command()
@click.option("--node", help="The gateway's address, such as node1.site:8443; default: this machine's.")
def prometheus(*, node: str | None) -> None:
    """Print the scrape configuration for Prometheus."""
    target = node or f"{socket.getfqdn()}:{Settings.load().gateway.port}"
    click.echo(
        f"""\
# Under scrape_configs in prometheus.yml. The token is the one of `leeward monitoring token`; the
# certificate is the node's /etc/leeward/tls/server.crt, or that of the authority that signed it.
- job_name: leeward
  scheme: https
  scrape_interval: 15s
  authorization: {{credentials_file: /etc/prometheus/leeward.token}}
  tls_config: {{ca_file: /etc/prometheus/leeward.crt}}
  static_configs: [{{targets: ["{target}"]}}]
"""
    )


@monitoring.command()
def token() -> None:
    """Make a token for reading metrics. It is shown this once; the node keeps its SHA-256 only."""
    made = secrets.token_urlsafe(TOKEN_BYTES)
    digest = hashlib.sha256(made.encode()).hexdigest()
    click.echo(
        f"""\
For Prometheus, in a file that only it can read:
{made}

For /etc/leeward/leeward.toml on the node, then `systemctl restart leeward-gateway`:
[metrics]
token_sha256 = "{digest}"
"""
    )
