"""Tell PEFT about DiaBlo. The only place that reaches into PEFT's private state.

PEFT's list of methods, the enum ``PeftType``, is closed: an adapter whose ``peft_type`` is not a
member can be neither saved nor loaded. ``register`` adds the member ``DIABLO`` and then uses PEFT's
own public ``register_peft_method``. Everything it relies on is checked first, so a PEFT release that
changes it fails here with a sentence, not later with a puzzle.
"""

from __future__ import annotations

from typing import Any

METHOD = "diablo"
MEMBER = "DIABLO"


def _refuse(what: str) -> RuntimeError:
    import peft

    return RuntimeError(
        f"DiaBlo cannot register with peft {getattr(peft, '__version__', '(unknown version)')}: {what}. "
        "It is known to work with peft 0.21.0 to 0.21.2; install one of those."
    )


def extend_peft_type() -> Any:
    """Add ``PeftType.DIABLO`` and return it; a second call returns the same member.

    Raises:
        RuntimeError: PEFT's enum is not the ``str`` enum that this function knows how to extend.
    """
    try:
        from peft.utils.peft_types import PeftType
    except ImportError as error:
        raise _refuse("peft.utils.peft_types.PeftType is gone") from error
    if MEMBER in getattr(PeftType, "__members__", {}):
        return PeftType[MEMBER]
    tables = ("_member_map_", "_value2member_map_", "_member_names_")
    if not issubclass(PeftType, str) or not all(hasattr(PeftType, table) for table in tables):
        raise _refuse("PeftType is no longer an enum of strings")
    member = str.__new__(PeftType, MEMBER)
    member._name_ = MEMBER
    member._value_ = MEMBER
    # EnumType forbids assigning members; `type.__setattr__` is what EnumType itself ends up calling.
    type.__setattr__(PeftType, MEMBER, member)
    PeftType._member_map_[MEMBER] = member
    PeftType._value2member_map_[MEMBER] = member
    PeftType._member_names_.append(MEMBER)
    if (
        PeftType(MEMBER) is not member
        or PeftType[MEMBER] is not member
        or MEMBER not in list(PeftType)
    ):
        raise _refuse("PeftType no longer accepts a new member")
    return member


def register() -> None:
    """Make ``get_peft_model`` and ``PeftModel.from_pretrained`` accept DiaBlo. Idempotent.

    Raises:
        RuntimeError: PEFT has changed what registration relies on, or another package has already
            registered a method called ``diablo``.
    """
    member = extend_peft_type()
    try:
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
        from peft.utils import register_peft_method
    except ImportError as error:
        raise _refuse(f"{error.name} no longer has what is imported from it ({error})") from error

    from .config import DiabloConfig
    from .model import DiabloModel

    known = PEFT_TYPE_TO_CONFIG_MAPPING.get(member)
    if known is DiabloConfig:
        return
    if known is not None:
        raise _refuse(f"the name 'diablo' is already taken by {known.__module__}.{known.__name__}")
    try:
        register_peft_method(name=METHOD, config_cls=DiabloConfig, model_cls=DiabloModel)
    except (TypeError, ValueError, KeyError) as error:
        raise _refuse(f"register_peft_method refused the method ({error})") from error
