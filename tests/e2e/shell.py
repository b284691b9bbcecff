"""Commands as people type them: kubectl, helm and our own, each with a deadline, and what they said when they fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class CommandError(AssertionError):
    """A command failed, or took too long."""


async def run(
    *command: str | Path,
    seconds: float = 60.0,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    codes: Sequence[int] = (0,),
) -> str:
    """What it wrote to stdout. Raises CommandError with all it said, unless its exit code is one of `codes`."""
    words = [str(word) for word in command]
    process = await asyncio.create_subprocess_exec(
        *words,
        env={**os.environ, **(env or {})},
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate(None if stdin is None else stdin.encode())
    except (TimeoutError, asyncio.CancelledError):
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise
        raise CommandError(f"this took longer than {seconds:g} s: {' '.join(words)}") from None
    if process.returncode not in codes:
        said = f"{out.decode(errors='replace')[-4_000:]}{err.decode(errors='replace')[-4_000:]}"
        raise CommandError(f"exit {process.returncode}: {' '.join(words)}\n{said}")
    return out.decode(errors="replace")


class Kubectl:
    """kubectl in one namespace."""

    def __init__(self, env: Mapping[str, str], namespace: str) -> None:
        self.env = env
        self.namespace = namespace

    def elsewhere(self, namespace: str) -> Kubectl:
        return Kubectl(self.env, namespace)

    async def __call__(self, *args: str, seconds: float = 60.0, stdin: str | None = None) -> str:
        return await run("kubectl", "-n", self.namespace, *args, seconds=seconds, env=self.env, stdin=stdin)

    async def get(self, *args: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self("get", *args, "-o", "json"))
        return found

    async def items(self, *args: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await self.get(*args))["items"]
        return items

    async def get_raw_config(self) -> dict[str, Any]:
        """The kubeconfig of the present context, with its credentials."""
        shown = await self("config", "view", "--raw", "--minify", "--flatten", "-o", "json")
        config: dict[str, Any] = json.loads(shown)
        return config

    async def exec(self, target: str, *command: str, seconds: float = 60.0) -> str:
        return await self("exec", target, "--", *command, seconds=seconds)

    async def patch(self, target: str, change: Mapping[str, Any]) -> None:
        await self("patch", target, "--type=merge", "-p", json.dumps(change))

    async def apply(self, manifest: str) -> str:
        return await self("apply", "-f", "-", stdin=manifest)

    @contextlib.asynccontextmanager
    async def forward(self, target: str, port: int) -> AsyncIterator[int]:
        """A local port that leads to `port` of the target while the block runs."""
        async with self._serving("port-forward", target, f":{port}", "--address", "127.0.0.1") as line:
            yield int(line.split()[2].rpartition(":")[2])

    @contextlib.asynccontextmanager
    async def proxy(self) -> AsyncIterator[int]:
        """A local port on which the API server answers without credentials while the block runs."""
        async with self._serving("proxy", "--port=0") as line:
            yield int(line.rpartition(":")[2])

    @contextlib.asynccontextmanager
    async def _serving(self, *args: str) -> AsyncIterator[str]:
        """Its first line, which says where it listens. What it says later is of no interest, but must be read."""
        process = await asyncio.create_subprocess_exec(
            "kubectl", "-n", self.namespace, *args,
            env={**os.environ, **self.env}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        rest: list[asyncio.Task[bytes]] = []
        try:
            async with asyncio.timeout(20):
                line = (await process.stdout.readline()).decode().strip()
            if not line:
                raise CommandError(f"kubectl {' '.join(args)}: {(await process.stderr.read()).decode()}")
            rest = [asyncio.create_task(pipe.read()) for pipe in (process.stdout, process.stderr)]
            yield line
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            await asyncio.gather(*rest)


class Helm:
    """helm with one release."""

    def __init__(self, env: Mapping[str, str], namespace: str, release: str) -> None:
        self.env = env
        self.namespace = namespace
        self.release = release

    async def __call__(self, verb: str, *args: str | Path, seconds: float = 300.0) -> str:
        """`verb` and the release's name, then `args`."""
        return await run(
            "helm", verb, self.release, *args, "-n", self.namespace, seconds=seconds, env=self.env
        )
