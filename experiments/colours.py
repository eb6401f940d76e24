"""Colours of methods: the same method has the same colour in every figure, report and view."""

import re
from collections.abc import Iterable
from zlib import crc32

ORACLE_COLOUR = "#6b7280"
METHOD_COLOURS = {
    "graph+mppi": "#2563eb", "scripted": "#d97706", "random": "#7c3aed", "ppo": "#0d9488",
    "sac": "#db2777", "mlp+mppi": "#65a30d", "joint+mppi": "#0891b2", "td3": "#b45309",
    "dyna": "#134e4a", "graph+cem": "#1e3a8a", "graph+icem": "#c084fc", "graph+gradient": "#facc15",
    "graph+mixed": "#67e8f9", "graph+predictive": "#fda4af", "graph+random": "#3f6212", "you": "#dc2626",
}  # fmt: skip
OTHER_COLOURS = ("#451a03", "#0ea5e9", "#a3e635", "#f472b6", "#4c1d95", "#f97316", "#14b8a6", "#9f1239", "#818cf8", "#166534")
NAME_PATTERN = re.compile(r"(?:.*: )?(.+?)(?:-\d+k)?(?:@\d+)?(?: from step \d+)?")  # run, name, data, training seed, branch


def get_method_colours(methods: Iterable[str]) -> dict[str, str]:
    """Look up the colours (#rrggbb) of methods by name.

    The amount of training data and the training seed change nothing; oracles are grey. A method without a colour of its own gets
    one by the hash of its name, or the next one that no other of the methods has.
    """
    colours: dict[str, str] = {}
    other_colours: dict[str, str] = {}
    for method in methods:
        match = NAME_PATTERN.fullmatch(method)
        name = match[1] if match else method
        if name.startswith("oracle"):
            colours[method] = ORACLE_COLOUR
        elif name in METHOD_COLOURS:
            colours[method] = METHOD_COLOURS[name]
        else:
            first = crc32(name.encode()) % len(OTHER_COLOURS)
            candidates = OTHER_COLOURS[first:] + OTHER_COLOURS[:first]
            free = [colour for colour in candidates if colour not in other_colours.values()]
            colours[method] = other_colours.setdefault(name, (free or candidates)[0])
    return colours
