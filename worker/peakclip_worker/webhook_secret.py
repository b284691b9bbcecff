"""`peakclip webhook-secret`: the secret of one receiver of webhooks."""

from __future__ import annotations

import click

from peakclip_worker.channels.signature import keys_of, receiver_key, secret_text
from peakclip_worker.settings import WorkerSettings


@click.command()
@click.argument("tenant")
@click.argument("user")
def command(tenant: str, user: str) -> None:
    """Print the secret by which USER of TENANT verifies webhooks.

    Derived from PEAKCLIP_WEBHOOK_SECRET. While that holds two secrets there are two lines; signatures of both come with
    every webhook.
    """
    secret = WorkerSettings.load().webhook_secret
    if secret is None:
        raise click.ClickException("PEAKCLIP_WEBHOOK_SECRET is not set, so no webhook is sent.")
    for key in keys_of(secret.get_secret_value()):
        click.echo(secret_text(receiver_key(key, tenant, user)))
