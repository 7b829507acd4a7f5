"""Files of the Hub whose terms must be accepted first: who asks, and what to say where it refuses."""

from __future__ import annotations

from dataclasses import dataclass

from diablo.data.source_kinds import HfFileSource, RemoteFile


@dataclass(frozen=True)
class Access:
    """How a gated file is asked for: the user's token (None: there is none), and what a refusal means."""

    token: str | None
    advice: str


def access_of(source: RemoteFile) -> Access | None:
    """None for what anybody may download."""
    if not (isinstance(source, HfFileSource) and source.gated):
        return None
    from huggingface_hub import get_token

    return Access(get_token(), f"{source.repo}: {how_to_get_access(f'datasets/{source.repo}')}")


def how_to_get_access(page: str, gated: bool = True) -> str:
    """What a user does about a page of the Hub that refuses access."""
    terms = f"accept its terms on https://huggingface.co/{page} with your account, then "
    return (terms if gated else "") + (
        "create a read token on https://huggingface.co/settings/tokens and give it as the "
        "environment variable HF_TOKEN, or log in once with `hf auth login`"
    )


def why_missing(source: RemoteFile) -> str:
    """What to add to the news that a file is neither in the mirror nor in the cache."""
    if not isinstance(source, HfFileSource):
        return ""
    if source.gone:
        return f"; {source.gone}"
    return f"; to get it, {how_to_get_access(f'datasets/{source.repo}')}" if source.gated else ""
