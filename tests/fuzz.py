"""Mutations of a config.json: what a hand-edited, truncated or hostile file looks like."""

import copy
import json
import random
from typing import Any

BAD: tuple[Any, ...] = (
    0,
    -1,
    -4096,
    1.5,
    1e30,
    10**30,
    2**63,
    float("nan"),
    float("inf"),
    True,
    False,
    None,
    "",
    "32",
    "four",
    [],
    [1],
    {},
    {"a": 1},
    3,
    7,
    1,
    2**24,
    [None] * 3,
    ["full_attention"] * 5,
    "\x00",
    "é" * 100,
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key in value:
            found += _paths(value[key], (*path, key))
    elif isinstance(value, list):
        for i in range(min(len(value), 4)):
            found += _paths(value[i], (*path, i))
    return found


def _at(config: Any, path: tuple[Any, ...]) -> tuple[Any, Any]:
    for key in path[:-1]:
        config = config[key]
    return config, path[-1]


def mutate(config: dict[str, Any], rng: random.Random, other: dict[str, Any] | None = None) -> bytes:
    """The bytes of a config.json made from ``config`` by one to three edits drawn from ``rng``.

    Values are replaced, dropped, moved to another key or taken from ``other``; the text is cut, doubled or damaged.
    """
    found = copy.deepcopy(config)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        parent, key = _at(found, rng.choice(_paths(found)))
        kind = rng.randrange(8)
        if kind <= 3:
            parent[key] = copy.deepcopy(rng.choice(BAD))
        elif kind == 4 and isinstance(parent, dict) and len(found) > 1:
            del parent[key]
        elif kind == 5 and isinstance(parent[key], int) and not isinstance(parent[key], bool):
            parent[key] = parent[key] + rng.choice((-1, 1, 3, 1000))
        elif kind == 6 and isinstance(parent[key], list):
            parent[key] = parent[key][1:] if rng.random() < 0.5 else parent[key] * 2
        elif other:
            name = rng.choice(list(other))
            found[name] = copy.deepcopy(other[name])
        if not found:
            break
    text = json.dumps(found).encode()
    damage = rng.randrange(12)
    if damage == 0:
        return text[: rng.randrange(len(text) + 1)]
    if damage == 1:
        place = rng.randrange(len(text))
        return text[:place] + bytes([rng.randrange(256)]) + text[place + 1 :]
    if damage == 2 and len(text) > 2:
        return text[:-1] + b"," + text[1:]  # every key twice
    if damage == 3:
        return rng.choice((b"[" * 100_000, b"null", b"[]", b"\xff\xfe" + text, b"\xef\xbb\xbf" + text, text + b"x", b""))
    return text
