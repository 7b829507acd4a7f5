"""From a row and its sizes to runs: what is trained, and what a run waits for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diablo.experiments import Group, Row
from diablo.launch import check_division
from diablo.methods import METHODS, RETAINED
from diablo.own import OwnExperiment
from diablo.probes import gradient_examples, probed
from diablo.quantized import Quantised
from diablo.realise import Sizes, linear_modules
from diablo.rows import Rows, is_trained
from diablo.settings import Settings
from diablo.specs import RunSpec

if TYPE_CHECKING:
    from diablo.planning import Plan


@dataclass
class Runs:
    """Makes the runs of an experiment's rows and adds them to the plan."""

    rows: Rows
    plan: Plan
    #: Whether anything of what the suite's scores have is shown and can be had.
    scored: bool

    def run(
        self, group: Group, row: Row, used: Settings, sizes: Sizes, seed: int
    ) -> dict[str, Any]:
        """A row's entry for one seed; the run, and those that it depends on, go into the plan."""
        changes: dict[str, Any] = {}
        if self.rows.tune and is_trained(row.method):
            changes["trials"] = self._trials(group, row, used, sizes)
        if self.rows.retain and row.method == "full":
            # Left out of training, so that γ is chosen on examples that nothing has seen.
            changes["held_out"] = self._held_out("retain", self.rows.retain.held_out)
        run = self._add(
            self._spec(group, row, used, sizes, seed, **changes), self._gpus(group, row, used)
        )
        base = self._folder(run)
        suite = self.rows.experiment.suite
        measured = self.rows.experiment.kind == "accuracy"
        return {
            "part": self.rows.part,
            "run": run,
            "seed": seed,
            "lr": used.lr if is_trained(row.method) else None,
            "adapter": f"{base}/adapter",
            "log": f"{base}/log.jsonl",
            "scores": f"{base}/scores/{suite}.json" if self.scored else None,
            "losses": f"{base}/losses/{suite}.json" if measured else None,
            **probed(self.rows, base),
        }

    def _trials(self, group: Group, row: Row, used: Settings, sizes: Sizes) -> list[str]:
        """Runs of the first seed, without the held-out examples, one for each learning rate."""
        tune, seed = self.rows.tune, self.rows.config.seeds[0]
        assert tune is not None
        if used.lr is None:
            raise self._no_rate(group, row)
        self._held_out("tune", tune.held_out)
        rates = [used.lr * factor for factor in tune.factors]
        specs = [
            self._spec(group, row, used, sizes, seed, lr=float(f"{lr:.6g}"), held_out=tune.held_out)
            for lr in rates
        ]
        return [self._add(spec, self._gpus(group, row, used)) for spec in specs]

    def _held_out(self, key: str, held_out: int) -> int:
        """`held_out` of `key`; ValueError if it leaves nothing to train on."""
        limit = self.rows.limits().train
        if limit is not None and held_out >= limit:
            raise ValueError(
                f"{self.rows.where}: {key}.held_out = {held_out} leaves nothing of the "
                f"{limit} training examples; lower it or raise limits.train"
            )
        return held_out

    def _no_rate(self, group: Group, row: Row) -> ValueError:
        experiment, place = self.rows.experiment, ""
        if not isinstance(experiment, OwnExperiment):
            place = f" or to settings.{row.method} of scale {self.rows.scale.name}"
        return ValueError(
            f"{self.rows.place(group, row)}: no learning rate; give `lr` to the row{place}"
        )

    def _gpus(self, group: Group, row: Row, used: Settings) -> int:
        """GPUs of a row's jobs; none is asked for more than once where the jobs have none."""
        gpus = used.gpus or 1
        if is_trained(row.method):
            check_division(self.rows.place(group, row), used.batch_size or 1, gpus)
        return gpus if self.rows.device == "gpu" else 1

    def _add(self, spec: RunSpec, gpus: int) -> str:
        if self.plan.runs.setdefault(spec.run, spec) != spec:
            raise ValueError(f"run {spec.run}: two different specs would share its folder")
        self.plan.gpus[spec.run] = max(gpus, self.plan.gpus.get(spec.run, 1))
        return spec.run

    def _folder(self, run: str) -> str:
        return f"{self.rows.config.results}/{self.rows.scale.name}/runs/{run}"

    def _spec(
        self, group: Group, row: Row, used: Settings, sizes: Sizes, seed: int, **changes: Any
    ) -> RunSpec:
        rows = self.rows
        where = rows.place(group, row)
        model, trains = rows.used_model(group), is_trained(row.method)
        quantised = Quantised(rows, self.plan)
        base = quantised.of_row(group, row, used, sizes)
        fields: dict[str, Any] = {
            "scale": rows.scale.name,
            "model": model,
            "model_path": quantised.folder(base.name)
            if base
            else f"{rows.config.results}/models/{model}",
            "quantized": base and base.name,
            "dataset": None,
            "data_path": None,
            "suite": rows.experiment.suite,
            "variant": rows.variant,
            "method": row.method,
            "precision": used.precision,
            "seed": seed if row.method != "zero-shot" else 0,
        }
        if isinstance(rows.experiment, OwnExperiment):
            fields["protocol"] = rows.experiment.protocol.training()
        if trains:
            if used.lr is None:
                raise self._no_rate(group, row)
            fields |= self._training(group, row, used, sizes)
            if "mask_adapter" in METHODS[row.method].needs:
                fields["mask_adapter"] = self._mask_adapter(group, row, seed, where)
        elif row.method == RETAINED:
            fields |= self._retained(group, row, used, sizes, seed)
        spec = RunSpec(run=where, **fields | changes)
        METHODS[row.method].check(spec)
        setting = "-".join(filter(None, (row.method, row.pattern, sizes.label)))
        trial = None
        if spec.held_out and trains:
            trial = f"lr{spec.lr:g}" if "lr" in changes else f"held{spec.held_out}"
        quantized = row.quantize.label if row.quantize else None
        parts: list[str | None] = [model, quantized, spec.dataset, setting, trial, spec.variant]
        name = ".".join([*filter(None, parts), f"s{spec.seed}", spec.digest[:8]])
        return spec.model_copy(update={"run": name})

    def _training(self, group: Group, row: Row, used: Settings, sizes: Sizes) -> dict[str, Any]:
        """The fields of a spec that say how is trained."""
        rows, needs, where = self.rows, METHODS[row.method].needs, self.rows.place(group, row)
        # A rank that was mapped keeps the paper's ratio of alpha to it.
        alpha = None
        if row.alpha is not None and row.rank is not None and sizes.rank is not None:
            alpha = row.alpha / row.rank * sizes.rank
        elif row.alpha_of_rank is not None and sizes.rank is not None:
            alpha = row.alpha_of_rank * sizes.rank
        batch = used.batch_size or 1
        copied = "dropout optimizer lr weight_decay schedule warmup_ratio epochs batch_size "
        copied += "max_grad_norm gradient_checkpointing"
        return {
            **{key: getattr(used, key) for key in copied.split()},
            **self._where(group, row, used, sizes),
            "rank": sizes.rank,
            "block_size": sizes.block_size,
            "chosen_blocks": sizes.chosen_blocks,
            "alpha": alpha,
            "warmup_steps": used.warmup_steps or 0,
            "max_length": used.max_length or rows.protocol.max_length,
            "max_steps": used.steps,
            "micro_batch_size": min(used.micro_batch_size or batch, batch),
            "calibration": used.calibration if "calibration" in needs else None,
            "gradient_examples": gradient_examples(rows, row, where),
        }

    def _where(self, group: Group, row: Row, used: Settings, sizes: Sizes) -> dict[str, Any]:
        """The fields of a spec that say which examples are looked at, and what of the weights changes."""
        rows, data = self.rows, self.rows.training_set()
        shapes = rows.shapes(rows.used_model(group))
        return {
            "dataset": data,
            "data_path": f"{rows.config.results}/{rows.scale.name}/data/{data}",
            "train_limit": rows.limits().train,
            "num_blocks": sizes.num_blocks,
            "modules": [] if row.method == "full" else linear_modules(used, shapes),
            "layers": shapes.part(used.layers) if used.layers else None,
        }

    def _retained(
        self, group: Group, row: Row, used: Settings, sizes: Sizes, seed: int
    ) -> dict[str, Any]:
        """The fields of a spec that say what is kept of which update, and how γ is searched."""
        retain = self.rows.retain
        assert retain is not None  # the experiment was checked for it
        return {
            **self._where(group, row, used, sizes),
            "pattern": row.pattern,
            "held_out": retain.held_out,
            "gammas": retain.gammas,
            "refine": retain.refine,
            "full_adapter": self._full_adapter(group, row, seed),
        }

    def _full_adapter(self, group: Group, row: Row, seed: int) -> str:
        """Folder of the model whose update is kept: of the experiment's full fine-tuning of this model.

        It may stand in another group, and is made even where a filter leaves its row out.
        """
        for other_group in self.rows.experiment.groups:
            for other in other_group.rows if other_group.model == group.model else ():
                full = other.method == "full" and other.quantize == row.quantize
                if full and not other.not_run:
                    used = self.rows.used_settings(other_group, other)
                    return self.run(other_group, other, used, Sizes(), seed)["adapter"]
        raise ValueError(
            f"{self.rows.place(group, row)}: nothing to retain a part of; give the experiment a row of "
            f"method full in a group of model {group.model}"
        )

    def _mask_adapter(self, group: Group, row: Row, seed: int, where: str) -> str:
        """LoRI-S takes its mask from the group's LoRI-D row of the same rank and seed."""
        for other in group.rows:
            if other.method == "lori-d" and (other.rank, other.rank_of) == (row.rank, row.rank_of):
                used = self.rows.used_settings(group, other)
                sizes = self.rows.sizes(group, other, self.rows.paper_settings(group, other), used)
                if sizes.reason is None:
                    return (
                        f"{self._folder(self.run(group, other, used, sizes, seed)['run'])}/adapter"
                    )
        raise ValueError(
            f"{where}: LoRI-S needs the mask of a LoRI-D run; give the group a row of method lori-d "
            f"with rank {row.rank}, and do not filter it out"
        )
