"""What a failed test leaves for whoever reads its output: the namespace as it stood."""

from __future__ import annotations

from e2e.shell import CommandError, Kubectl

_LINES = "60"


async def dump(kubectl: Kubectl) -> str:
    """Never fails: whatever cannot be had is said to be missing."""
    parts = [
        await _ask(
            kubectl, "get", "workerpools,pods,deployments,statefulsets,jobs,pvc,ingress", "-o", "wide"
        ),
        await _ask(kubectl, "get", "workerpools", "-o", "yaml"),
        await _ask(kubectl, "get", "events", "--sort-by=.lastTimestamp"),
    ]
    try:
        pods = await kubectl.items("pods")
    except (AssertionError, OSError):
        pods = []
    for pod in pods:
        name = pod["metadata"]["name"]
        statuses = pod["status"].get("containerStatuses", [])
        if not all(status["ready"] for status in statuses) or pod["status"]["phase"] == "Pending":
            parts.append(await _ask(kubectl, "describe", "pod", name))
        parts.append(await _ask(kubectl, "logs", name, "--all-containers", f"--tail={_LINES}", "--prefix"))
        if any(status["restartCount"] for status in statuses):
            parts.append(await _ask(kubectl, "logs", name, "--previous", f"--tail={_LINES}"))
    return "\n".join(parts)


async def _ask(kubectl: Kubectl, *args: str) -> str:
    try:
        said = await kubectl(*args, seconds=20)
    except (CommandError, OSError) as exc:
        said = str(exc)
    return f"--- kubectl {' '.join(args)}\n{said}"
