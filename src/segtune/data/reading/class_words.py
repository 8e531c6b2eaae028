"""The names of classes that mean that nothing is there."""

BACKGROUND = frozenset("background _background_ __background__ bg unlabeled unlabelled".split())
"""Names of the class of unlabelled pixels, in lower case."""

NO_OBJECT = BACKGROUND | {"void", "none"}
"""Names beside which another class of two is the object."""

VOID = frozenset(
    "void ignore ignored unlabeled unlabelled border boundary unknown dontcare".split()
)
"""Names that make 255 the id of ignored pixels."""


def is_background(name: str) -> bool:
    """Whether a class of this name is that of unlabelled pixels."""
    return name.lower() in BACKGROUND


def is_void(name: str) -> bool:
    """Whether pixels of this name are to be ignored where their id is 255."""
    return name.lower().strip("_") in VOID


def is_no_object(name: str) -> bool:
    """Whether a class of this name shows no object."""
    return name.lower() in NO_OBJECT
