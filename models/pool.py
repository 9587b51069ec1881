"""What the hosts of one role do in an hour: River's half-space trees, and the scores that ordinary hours get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.hours import NAMES
from models.typical import middle

TREES, HEIGHT = 16, 8
"""0.1 ms an hour of a host; 131 kB of counters saved for each role."""
SEED = 1
SCORES_KEPT = 4
"""Times as many scores as hours are remembered: five days of any role, so that what comes back in them is known."""
SETTLED_EVERY = 32
"""Hours learned until what is typical is taken anew, as medians cost."""
LIMIT = 5.0
"""Trees see by how much features exceed, on the log scale, the median of the hours that they were planted with, up to a
factor of 150: explicit limits that no outlier can stretch, and fine enough for a factor of three."""
LEAST_REACH = 0.05
"""Scores of equal hours differ by so much from one set of trees to another."""
Features = Sequence[float]


class Pool:
    """Half-space trees of one role. The first `size` hours are kept as numbers; River is imported after them.

    The trees take what they counted as their reference whenever they have counted as many again (Tan et al.).
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.young: list[list[float]] = []
        self.scores: list[float] = []
        self.typical: list[float] = []
        """Medians of the features, of the hours learned last."""
        self._trees: Any = None
        self._origin: list[float] = []
        self._learned = 0
        self._centre = 0.0

    @property
    def speaks(self) -> bool:
        return self._trees is not None

    def strangeness(self, features: Features) -> float:
        """How far the trees find it from the usual hour of this role, over how far the strangest hour remembered was.

        0 before the pool `speaks`.
        """
        if not self.speaks:
            return 0.0
        return (self._score(features) - self._centre) / max(LEAST_REACH, max(self.scores) - self._centre)

    def shares(self, features: Features) -> list[tuple[str, float, float]]:
        """By ablation: name, value and typical value of the features that lower the strangeness when made typical."""
        whole = self._score(features)
        found = []
        for at, name in enumerate(NAMES):
            without = [*features[:at], self.typical[at], *features[at + 1 :]]
            found.append((whole - self._score(without), name, features[at], self.typical[at]))
        ordered = sorted(found, key=lambda share: (-share[0], share[1]))
        return [(name, value, typical) for share, name, value, typical in ordered if share > 0]

    def learn(self, features: Features) -> None:
        self.young.append(list(features))
        self._learned += 1
        if not self.speaks:
            if len(self.young) >= self.size:
                self._trees = _planted(self.size)
                self._origin = _medians(self.young)
                for each in self.young:
                    self._trees.learn_one(self._seen(each))
                self.scores = [self._score(each) for each in self.young]
                self._settle()
            return
        self.scores.append(self._score(features))
        self._trees.learn_one(self._seen(features))
        if self._learned % SETTLED_EVERY == 0:
            self._settle()

    def _settle(self) -> None:
        """Takes the latest hours as what is typical, and forgets the oldest."""
        self.young, self.scores = self.young[-self.size :], self.scores[-SCORES_KEPT * self.size :]
        self.typical = _medians(self.young)
        self._centre = middle(self.scores)

    def _seen(self, features: Features) -> dict[str, float]:
        """As the trees see it."""
        named = zip(NAMES, features, self._origin, strict=True)
        return {name: min(max(value - usual, 0.0), LIMIT) for name, value, usual in named}

    def _score(self, features: Features) -> float:
        return float(self._trees.score_one(self._seen(features)))

    def dump(self) -> list[Any]:
        """JSON values that `load` makes an equal pool of."""
        masses = [[node.l_mass, node.r_mass] for nodes in self._nodes() for node in nodes]
        counter = self._trees.counter if self.speaks else 0
        return [
            self.size,
            [*self.young],
            [*self.scores],
            self.typical,
            self._centre,
            self._origin,
            self._learned,
            counter,
            masses,
        ]

    @classmethod
    def load(cls, values: list[Any]) -> Pool:
        pool = cls(values[0])
        pool.young, pool.scores, pool.typical, pool._centre, pool._origin, pool._learned = values[1:-2]
        counter, masses = values[-2:]
        if masses:
            pool._trees = _planted(pool.size)
            pool._trees.learn_one(dict.fromkeys(NAMES, 0.0))
            pool._trees.counter, pool._trees._first_window = counter, False
            for node, mass in zip((node for tree in pool._nodes() for node in tree), masses, strict=True):
                node.l_mass, node.r_mass = mass
        return pool

    def _nodes(self) -> list[list[Any]]:
        return self._trees._tree_nodes if self.speaks else []


def _planted(size: int) -> Any:
    # Imported late: River brings SciPy along (0.7 s), and a capture of a few hours never gets here.
    from river.anomaly import HalfSpaceTrees

    limits: dict[Any, tuple[float, float]] = dict.fromkeys(NAMES, (0.0, LIMIT))
    return HalfSpaceTrees(n_trees=TREES, height=HEIGHT, window_size=size, limits=limits, seed=SEED)


def _medians(hours: Sequence[Features]) -> list[float]:
    return [middle(column) for column in zip(*hours, strict=True)]
