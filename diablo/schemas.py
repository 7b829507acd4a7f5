"""JSON schemas for editors; `python -m diablo.schemas` writes them."""

from __future__ import annotations

from pydantic import BaseModel

from diablo.claims.model import Claims
from diablo.config import Config
from diablo.experiments import WORKFLOW, Experiment
from diablo.io import write_json
from diablo.scales import Scale

#: A test keeps `workflow/schemas/` in step with these.
SCHEMAS: dict[str, type[BaseModel]] = {
    "claims": Claims,
    "config": Config,
    "experiment": Experiment,
    "scale": Scale,
}


if __name__ == "__main__":
    for name, model in SCHEMAS.items():
        write_json(WORKFLOW / "schemas" / f"{name}.json", model.model_json_schema())
