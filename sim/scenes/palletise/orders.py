"""Orders from CSV files: one line for each kind of carton."""

import csv
import math
from pathlib import Path

import numpy as np

from sim.layout import Layout
from sim.scenes.palletise.layouts import MAX_CARTONS, MAX_STACK_M, Carton, PalletiseDetails, find_faults, make_layout
from sim.scenes.palletise.placing import find_lowest_stack
from sim.utils.errors import BadLayout, GroundError

REQUIRED = ("length", "width", "height", "mass", "count")
OPTIONAL = {"friction": 0.5}


def import_order(path: Path, seed: int = 0) -> Layout:
    """Import an order as a layout; the cartons arrive in a random sequence.

    The file has a header with the columns length, width, height [m, of the half-size cell], mass
    [kg] and count, and optionally friction.

    Args:
        path: CSV file.
        seed: of the sequence.

    Raises:
        GroundError: the file cannot be read, or a value is wrong.
        BadLayout: the order does not fit.
    """
    cartons = read_order(path)
    order = np.random.default_rng(seed).permutation(len(cartons))
    details = PalletiseDetails(tuple(cartons[i] for i in order), max_stack_m=MAX_STACK_M)
    layout = make_layout(details, name=path.stem)
    if faults := find_faults(layout):
        raise BadLayout(str(path), faults)
    half_extents = np.array([carton.half_extents for carton in details.cartons])
    pallet = details.pallet_length_m, details.pallet_width_m
    if find_lowest_stack(half_extents, len(details.slots), pallet, MAX_STACK_M) is None:
        raise BadLayout(str(path), [f"the order cannot fit: no stable stack up to {MAX_STACK_M:g} m was found"])
    return layout


def read_order(path: Path) -> list[Carton]:
    """Read the cartons of an order, each as often as its count says.

    Raises:
        GroundError: the file cannot be read, or a value is wrong.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise GroundError(f"{path} cannot be read ({reason})") from error
    if not rows:
        raise GroundError(f"{path} holds no cartons: a header {', '.join(REQUIRED)} and a line for each kind are needed")
    names = {str(name).strip().lower(): name for name in rows[0] if name is not None}
    if missing := [name for name in REQUIRED if name not in names]:
        raise GroundError(f"{path} lacks the column {missing[0]}: {', '.join(REQUIRED)} are needed")
    if unknown := sorted(set(names) - {*REQUIRED, *OPTIONAL}):
        raise GroundError(f"{path} has an unknown column '{unknown[0]}': {', '.join((*REQUIRED, *OPTIONAL))} are known")
    cartons: list[Carton] = []
    for number, row in enumerate(rows, 2):
        values = {name: _read_number(path, number, name, row[key]) for name, key in names.items()}
        count = values["count"]
        if count != int(count) or not 1 <= count <= MAX_CARTONS:
            raise GroundError(f"{path}, line {number}: count is {count:g}, a whole number from 1 to {MAX_CARTONS} is needed")
        sizes = (values["length"], values["width"], values["height"])
        carton = Carton(*sizes, values["mass"], values.get("friction", OPTIONAL["friction"]))
        if faults := carton.find_faults():
            raise GroundError(f"{path}, line {number}: {'; '.join(faults)}")
        cartons += [carton] * int(count)
        if len(cartons) > MAX_CARTONS:
            raise GroundError(f"{path}: more than {MAX_CARTONS} cartons, split the order")
    return cartons


def _read_number(path: Path, line: int, name: str, text: str | None) -> float:
    try:
        value = float(str(text).strip())
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise GroundError(f"{path}, line {line}: {name} is '{'' if text is None else text}', a number is needed")
    return value
