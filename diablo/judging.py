"""What a user says about the `llm` judge: the key `judge` of config.yaml (`diablo.scoring.judges`).

It stands here and not beside the judges because the config is read while the workflow plans.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from diablo.validation import Strict, hidden


class JudgeConfig(Strict):
    """An OpenAI-compatible endpoint that judges completions. It never holds the key itself."""

    endpoint: str = Field(description="base address, such as http://127.0.0.1:8000/v1")
    model: str = Field(min_length=1, description="as the endpoint calls it")
    api_key_env: str | None = Field(
        None, description="name of the environment variable with the key; null: no key is sent"
    )
    prompts: str | None = Field(
        None, description="YAML file with other prompts than diablo/scoring/judges/prompts.yaml"
    )
    max_tokens: int = Field(2048, ge=1, description="tokens of one reply")
    concurrency: int = Field(4, ge=1, description="requests at a time")
    timeout_seconds: float = Field(120.0, gt=0, description="of one attempt")
    max_retries: int = Field(6, ge=0, description="attempts after the first one")
    price_per_million_prompt_tokens: float | None = Field(None, ge=0, description="any currency")
    price_per_million_completion_tokens: float | None = Field(None, ge=0)

    @field_validator("endpoint")
    @classmethod
    def _is_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.username or parts.password or parts.query or parts.fragment:
            raise hidden(
                "an address without user name, password or query (it is recorded with the scores): "
                "put the key into an environment variable and name that in api_key_env"
            )
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected an address such as https://api.example.org/v1")
        return value.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _is_variable(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise hidden(
                "expected the NAME of an environment variable, such as JUDGE_API_KEY, not the key"
            )
        return value

    @model_validator(mode="after")
    def _both_prices(self) -> JudgeConfig:
        prices = (self.price_per_million_prompt_tokens, self.price_per_million_completion_tokens)
        if None in prices and prices != (None, None):
            raise ValueError(
                "give both price_per_million_prompt_tokens and price_per_million_completion_tokens, "
                "or neither"
            )
        return self
