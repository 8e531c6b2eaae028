"""The names of classes that say what kind of thing they show: nothing, or thin lines."""

import re

BACKGROUND = frozenset("background _background_ __background__ bg unlabeled unlabelled".split())
"""Names of the class of unlabelled pixels, in lower case."""

NO_OBJECT = BACKGROUND | {"void", "none"}
"""Names beside which another class of two is the object."""

VOID = frozenset(
    "void ignore ignored unlabeled unlabelled border boundary unknown dontcare".split()
)
"""Names that make 255 the id of ignored pixels."""

LINES = frozenset(
    "border borders boundary boundaries contour contours edge edges line lines membrane membranes "
    "outline outlines rim rims".split()
)
"""Words in the names of classes that are thin lines between others."""


def is_line(name: str) -> bool:
    """Whether a name says that a class is a thin line.

    >>> is_line("cell_boundary"), is_line("Edges"), is_line("hedge")
    (True, True, False)
    """
    return bool(LINES & set(re.split(r"[^a-z]+", name.lower())))


def is_background(name: str) -> bool:
    """Whether a class of this name is that of unlabelled pixels."""
    return name.lower() in BACKGROUND


def is_void(name: str) -> bool:
    """Whether pixels of this name are to be ignored where their id is 255."""
    return name.lower().strip("_") in VOID


def is_no_object(name: str) -> bool:
    """Whether a class of this name shows no object."""
    return name.lower() in NO_OBJECT
