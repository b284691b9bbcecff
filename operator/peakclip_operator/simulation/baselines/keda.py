"""KEDA's nats-jetstream scaler with the HPA that it makes.

Read in kedacore/keda, main of 2026-08-20 (8b4f083, between 2.20.2 and 2.21): pkg/scalers/nats_jetstream_scaler.go
(getMaxMsgLag, GetMetricsAndActivity), pkg/scaling/scale_handler.go (startScaleLoop, checkScalers),
pkg/scaling/executor/scale_scaledobjects.go (RequestScale, scaleFromZeroOrIdle, scaleToZeroOrIdle),
apis/keda/v1alpha1 (defaults), controllers/keda/hpa.go. The HPA asks the scaler itself each time: `useCachedMetrics`
is off by default, so pollingInterval is about 0 and 1 workers only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from peakclip_operator.simulation.autoscalers import Seen
from peakclip_operator.simulation.baselines.hpa import UP, Behavior, Hpa, HpaSettings, Policy
from peakclip_operator.simulation.baselines.outstanding import outstanding
from peakclip_operator.simulation.baselines.timer import Timer


@dataclass(frozen=True, slots=True)
class KedaSettings:
    """Defaults of a ScaledObject with one nats-jetstream trigger; times in seconds."""

    lag_threshold: int = 10
    activation_lag_threshold: int = 0
    polling_seconds: float = 30.0
    cooldown_seconds: float = 300.0
    """Since the last poll with a lag, until 0 workers."""
    minimum: int = 0
    maximum: int = 100
    behavior: Behavior | None = None
    sync_seconds: float = 15.0
    """The HPA's: a flag of kube-controller-manager, not of the ScaledObject."""


def tuned(settings: KedaSettings) -> KedaSettings:
    """As tuned as an engineer can: polls of 5 s, and 100 workers up each second without stabilization."""
    eager = Behavior(up=replace(UP, policies=(Policy("Pods", 100, 1.0),)))
    return replace(settings, polling_seconds=5.0, behavior=eager)


class Keda:
    """KEDA makes 0 workers 1 and 1 or more 0, the HPA does the rest; each has its own timer.

    A ScaledObject that is made anew starts both timers, which locks their phases together. Where they are with
    regard to a burst is a matter of luck: up to polling_seconds and 15 s.
    """

    limited = False

    def __init__(
        self,
        settings: KedaSettings,
        *,
        polling_phase_seconds: float = 0.0,
        sync_phase_seconds: float = 0.0,
        name: str = "keda",
    ) -> None:
        self.name = name
        self.settings = settings
        self._poll = Timer(settings.polling_seconds, polling_phase_seconds)
        self._sync = Timer(settings.sync_seconds, sync_phase_seconds)
        self._hpa = Hpa(
            HpaSettings(
                threshold=settings.lag_threshold,
                minimum=max(settings.minimum, 1),
                maximum=settings.maximum,
                behavior=settings.behavior,
            )
        )
        self._last_active: float | None = None

    def look(self, seen: Seen, now: float) -> int | None:
        """Workers wished for; None where neither loop changes them."""
        found = outstanding(seen)
        lag = None if found is None else round(found)
        wanted = seen.asked
        polled, synced = self._poll.due(now), self._sync.due(now)
        # Both since the last look: in the order they were due.
        poll_first = polled is not None and (synced is None or polled <= synced)
        if poll_first:
            wanted = self._after_poll(lag, wanted, now)
        if synced is not None:
            wanted = self._hpa.sync(lag, wanted, seen.existing, now)
        if polled is not None and not poll_first:
            wanted = self._after_poll(lag, wanted, now)
        return None if wanted == seen.asked else wanted

    def _after_poll(self, lag: int | None, current: int, now: float) -> int:
        if lag is None:
            return current  # an error of the scaler, and no fallback
        minimum = self.settings.minimum
        if lag > self.settings.activation_lag_threshold:
            self._last_active = now
            return max(minimum, 1) if current == 0 else current
        if current > 0 and minimum == 0:
            return 0 if self._cooled(now) else current
        return max(current, minimum)

    def _cooled(self, now: float) -> bool:
        """lastActiveTime is kept in whole seconds, and a poll is never early: 76.5 s and 300 s are over at 376.5 s."""
        return self._last_active is None or int(self._last_active) + self.settings.cooldown_seconds <= now
