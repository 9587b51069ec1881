"""What happens to whom and when, drawn from a seed: the same seed, the same blows."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

COLLECTOR, STORE, LEADER, BROKERS = "collect", "store", "leader", "brokers"
DETECTORS = ("detect-a", "detect-b")
KILL, FREEZE = "kill", "freeze"

MEAN_PAUSE_S = 3.0
"""Between two blows, whoever they hit."""
DOWN_S = {KILL: (0.0, 3.0), FREEZE: (2.0, 14.0)}
"""How long: some freezes outlast the session of a member (10 s), so that it wakes up replaced."""
LEADER_DOWN_S = {KILL: (8.0, 15.0), FREEZE: (3.0, 9.0)}
REST_S = {COLLECTOR: 8.0, STORE: 6.0, LEADER: 12.0, **dict.fromkeys(DETECTORS, 4.0)}
"""To come back to work before the next blow: who is killed while starting shows nothing."""
WEIGHTS = {COLLECTOR: 2, STORE: 3, LEADER: 2, **dict.fromkeys(DETECTORS, 2)}


@dataclass(frozen=True, order=True, slots=True)
class Blow:
    """One target, from `at_s` for `down_s`: killed and then started again, or frozen and then woken."""

    at_s: float
    down_s: float
    whom: str
    how: str

    def __str__(self) -> str:
        return f"{self.at_s:6.1f} s  {self.how:6} {self.whom:8} for {self.down_s:.1f} s"


def schedule(seed: int, seconds: float, slowness: float = 1.0, spared: Collection[str] = ()) -> list[Blow]:
    """Blows that begin within so many seconds; each target gets up before it is hit again. A leader is killed for sure.

    On a machine that is `slowness` times slower than an idle one there are fewer of them, not others in kind.
    """
    return sorted(_drawn(random.Random(seed), seconds, slowness, spared))


def _drawn(rng: random.Random, seconds: float, slowness: float, spared: Collection[str]) -> Iterator[Blow]:
    free = {whom: 0.0 for whom in WEIGHTS if whom not in spared}
    now = MEAN_PAUSE_S
    if LEADER in free:
        certain = Blow(seconds / 4, LEADER_DOWN_S[KILL][0], LEADER, KILL)
        free[LEADER] = certain.at_s + certain.down_s + REST_S[LEADER] * slowness
        yield certain
    while now < seconds:
        ready = [whom for whom, at in free.items() if at <= now]
        if ready:
            (whom,) = rng.choices(ready, [WEIGHTS[each] for each in ready])
            how = rng.choice((KILL, FREEZE))
            down = rng.uniform(*(LEADER_DOWN_S if whom == LEADER else DOWN_S)[how])
            free[whom] = now + down + REST_S[whom] * slowness
            yield Blow(now, down, whom, how)
        now += rng.expovariate(1 / (MEAN_PAUSE_S * slowness))
