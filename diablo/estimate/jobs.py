"""Every job of an experiment, by the workflow's rules, with what it costs and what that rests on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from diablo.data.catalog import Model
from diablo.data.decoding import Decoding
from diablo.data.protocol import protocol_of
from diablo.methods import METHODS
from diablo.planning import Plan
from diablo.specs import QuantSpec, RunSpec, SuiteSpec

from .cards import Cards, gpus_of
from .decode import Decoder
from .facts import Assumptions
from .flops import (
    matrix_parameters,
    quantising_flops,
    trainable_parameters,
    training_flops,
)
from .memory import FROZEN, GB, form_of
from .rates import Rates
from .sizes import Count, test_sizes, train_size, trained_examples

Key = tuple[str, str]

#: What the time of a form in the benchmark files is.
TIMED_AS = {
    "inplace": "timed as DiaBlo's in place form",
    "lora": "timed as LoRA",
    "pissa": "timed as PiSSA",
    "dora": "timed as DoRA",
    "full": "timed in pure 16 bits alone (x_frozen); float32 weights are slower",
}


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        rule, name: the rule (without its object) and what it makes.
        run: the run that it belongs to.
        flops: operations on the GPU.
        seconds: from its start to its end; 0 for jobs that use no GPU.
        disk, download, temporary: bytes that stay, that are fetched, and that lie there while it runs.
        rests_on: what the numbers rest on.
        gpus: that it holds all the time.
    """

    rule: str
    name: str
    run: str | None = None
    flops: float = 0.0
    seconds: float = 0.0
    disk: float = 0.0
    download: float = 0.0
    temporary: float = 0.0
    rests_on: tuple[str, ...] = ()
    gpus: int = 1


@dataclass
class Costs:
    """The jobs of a plan on a card; each is worked out once.

    Attributes:
        backend: the config's, of generation.
    """

    plan: Plan
    rates: Rates
    known: Assumptions
    backend: str = "auto"
    _made: dict[Key, Job] = field(default_factory=dict)

    def runs_of(self, table: str) -> list[str]:
        """A table's runs and those that they wait for: trials, masks, full updates."""
        names = dict.fromkeys(self.plan.runs_of(table))
        for name in list(names):
            names |= dict.fromkeys(waits_for(self.plan.runs[name]))
        return list(names)

    def jobs_of(self, table: str, without: Collection[str] = ()) -> dict[Key, Job]:
        """All jobs that make a table, by rule and name; runs that tables share have the same keys.

        Args:
            without: runs that are left out, with the models that only they need.
        """
        found: list[Job] = []
        runs = [self.plan.runs[name] for name in self.runs_of(table) if name not in without]
        trials = {trial for run in runs for trial in run.trials}
        quantised = {Path(path).parent.name for path in self.plan.quantizers_of(table)}
        quantised |= {run.quantized for run in runs if run.quantized}
        models = {run.model for run in runs} | {self.plan.quantized[q].model for q in quantised}
        data = set(self.plan.datasets_of(table)) | {run.dataset for run in runs if run.dataset}
        found += [self._once("download", name, self._model) for name in sorted(models)]
        found += [self._once("download", name, self._dataset) for name in sorted(data)]
        found += [self._once("quantize", name, self._quantize) for name in sorted(quantised)]
        found += [self._once("finetune", run.run, self._finetune) for run in runs]
        found += [self._once("measure", f"{name} held out", self._held_out) for name in trials]
        for row in (row for group in self.plan.tables[table]["groups"] for row in group["rows"]):
            for entry in (one for one in row["runs"] if one["run"] not in without):
                if entry["scores"]:
                    found.append(self._once("generate", entry["run"], self._generate))
                    found.append(self._once("score", entry["run"], self._score))
                if entry["losses"]:
                    found.append(self._once("measure", entry["run"], self._measure))
        return {(job.rule, job.name): job for job in found}

    def job(self, rule: str, name: str) -> Job:
        """The job of a rule that works on a GPU; `measure` is that of a suite's gold answers."""
        makers = {"quantize": self._quantize, "finetune": self._finetune}
        makers |= {"generate": self._generate, "measure": self._measure}
        return self._once(rule, name, makers[rule])

    def gpus(self, rule: str, name: str) -> int:
        """See :func:`cards.gpus_of`."""
        return gpus_of(self.plan, self.backend, rule, name)

    def cards(self, name: str) -> Cards:
        """What a run trains on."""
        return Cards(self.rates.gpu, max(1, self.gpus("finetune", name)))

    def parts(self, run: str) -> tuple[RunSpec, Model, SuiteSpec]:
        """A run with its model and its suite."""
        spec = self.plan.runs[run]
        return spec, self.plan.catalog.model(spec.model), self.plan.suites[spec.suite_key]

    def quantized(self, run: RunSpec) -> QuantSpec | None:
        """The spec of a run's quantised base model."""
        return self.plan.quantized[run.quantized] if run.quantized else None

    def _once(self, rule: str, name: str, make: Callable[[str], Job]) -> Job:
        if (rule, name) not in self._made:
            self._made[rule, name] = make(name)
        return self._made[rule, name]

    def _start(self, weights: float, times: int = 1) -> float:
        """Seconds until a job that reads (or writes) a model's weights so many times begins its work."""
        return self.known.jobs.start_s + times * weights / (self.known.jobs.read_gbs * GB)

    def _model(self, name: str) -> Job:
        model = self.plan.catalog.model(name)
        size = model.shapes.base_parameters
        recorded = getattr(model.sources[0], "bytes", None)
        published = 4 if model.kind == "seq2seq" else 2
        if model.builder == "folder":
            return Job("download", name, disk=2.0 * size, rests_on=("your own model's parameters",))
        if recorded:
            text = f"{name}: bytes recorded in the catalogue; float32 on disk"
            return Job("download", name, disk=4.0 * size, download=recorded, rests_on=(text,))
        text = f"{name}: {size:,} parameters × {published} bytes as published (assumed)"
        weights = float(published * size)
        return Job("download", name, disk=weights, download=weights, rests_on=(text,))

    def _dataset(self, name: str) -> Job:
        total, unknown = 0.0, 0
        for source in self.plan.catalog.dataset(name).sources:
            if source.kind in ("github", "hf-file"):
                size = getattr(source, "bytes", None)
                total += size or 0
                unknown += size is None
        each = self.known.jobs.unknown_file_mb
        text = "data sets: bytes recorded in the catalogue"
        notes = (text, f"{name}: {unknown} file(s) of unknown size, {each:g} MB assumed each")
        total += unknown * each * 1e6
        return Job(
            "download", name, disk=total, download=total, rests_on=notes[: 1 + (unknown > 0)]
        )

    def _quantize(self, name: str) -> Job:
        spec = self.plan.quantized[name]
        model = self.plan.catalog.model(spec.model)
        products, decompositions, columns = quantising_flops(spec, model)
        peak = self.rates.gpu.fp32_tflops * 1e12
        q = self.known.quantise
        weights = FROZEN[spec.precision] * model.shapes.base_parameters
        seconds = products / (q.rate_share * peak) + decompositions / (q.svd_share * peak)
        seconds += columns * q.column_ms / 1000 + self._start(weights, 2)
        packed = spec.form == "packed" or spec.quantizer == "nf4"
        disk = model.shapes.base_parameters * self.known.memory.packed_bytes if packed else weights
        text = (
            f"analytic FLOPs at assumed shares of the published fp32 peak ({self.rates.gpu.source})"
        )
        total = float(products + decompositions)
        return Job("quantize", name, None, total, seconds, disk, rests_on=(text,))

    def _finetune(self, name: str) -> Job:
        run, model, _ = self.parts(name)
        trainable, weights = trainable_parameters(run, model), self._weights(run, model)
        artifact = METHODS[run.method].artifact
        kept = 0.0
        if artifact == "model":
            kept = model.shapes.base_parameters * (2.0 if run.precision == "bf16-pure" else 4.0)
        elif artifact == "adapter":
            kept = 4.0 * trainable
        if run.dataset is None:
            return Job("finetune", name, name, rests_on=("zero-shot: nothing trains",))
        size = train_size(run.dataset, self.plan.catalog.dataset(run.dataset), self.known)
        mean = min(self.known.tokens_of(run.suite).train, run.max_length)
        parameters, full = matrix_parameters(model), run.method == "full"
        rate, start = self.rates.frozen(model, run.precision), self._start(weights)
        basis = self.rates.basis(model)
        notes: tuple[str, ...] = (
            basis,
            size.source,
            f"{mean} tokens an example of {run.suite} (assumed)",
        )
        if run.method == "retained":
            tried = len(run.gammas or []) + 2 * (run.refine or 0)
            flops = float(tried * run.held_out * mean * 2 * parameters)
            notes += ("retained update: forward passes of the search of γ",)
            return Job("finetune", name, name, flops, start + flops / rate, kept, rests_on=notes)
        tokens = trained_examples(run, size.examples) * mean
        step = training_flops(parameters, trainable, full, run.gradient_checkpointing)
        plain = training_flops(parameters, trainable, full, False)
        form = form_of(run.method)
        notes += (f"{run.method}: {TIMED_AS[form]}",)
        each = 4 * parameters / rate * self.rates.multiple(form, model)
        cards, together = self.cards(name), self.known.together
        if cards.count > 1:
            split = cards.shard(run, model)
            reached = together.sharded if split else together.whole
            each /= cards.count * reached
            how = "sharded weights" if split else "whole weights"
            notes += (
                f"{cards.count} GPUs a run, {how}: {reached:.0%} of their speed (assumptions.yaml)",
            )
        seconds, flops = tokens * each * step / plain, tokens * step
        if run.gradient_examples:
            # Before training and at each epoch's end, every full gradient; by the first process alone.
            monitored = run.gradient_examples * mean * (1 + run.epochs) * 6 * parameters
            flops, seconds = flops + monitored, seconds + monitored / rate
        checkpoint = 12.0 * trainable
        seconds += start
        return Job(
            "finetune", name, name, flops, seconds, kept, 0.0, checkpoint, notes, cards.count
        )

    def _weights(self, run: RunSpec, model: Model) -> float:
        """Bytes of a run's model as it is read and served."""
        return float(FROZEN[run.precision] * model.shapes.base_parameters)

    def _generate(self, name: str) -> Job:
        run, model, suite = self.parts(name)
        sizes, tokens = self._tests(suite), self.known.tokens_of(suite.suite)
        weights, decoding = self._weights(run, model), Decoding(**suite.decoding)
        engine = Decoder(self.rates, self.known, model, weights, run.precision)
        turns, gpus = 2 if suite.second_turn else 1, self.gpus("generate", name)
        flops, seconds, kept = 0.0, self._start(weights, 3), 0
        for task in protocol_of(suite).asked(suite.tasks):
            of = decoding.of(task)
            new = of.max_new_tokens if run.method == "zero-shot" else tokens.new
            new = min(new, of.max_new_tokens)
            done = engine.complete(sizes[task].examples * turns, tokens.prompt * turns, new, of)
            flops, seconds = flops + done.flops, seconds + done.seconds / gpus
            kept += done.completions
        disk = kept * self.known.jobs.completion_kb * 1e3
        notes = (
            engine.basis,
            f"{tokens.new} new tokens a completion of {suite.suite} (assumed; zero-shot: the cap)",
            *dict.fromkeys(size.source for size in sizes.values()),
        )
        if gpus > 1:
            notes += (f"vLLM on {gpus} GPUs: {gpus} times as fast (assumed)",)
        return Job("generate", name, name, flops, seconds, disk, 0.0, weights, notes, gpus)

    def _measure(self, name: str) -> Job:
        run, model, suite = self.parts(name)
        examples = sum(size.examples for size in self._tests(suite).values())
        return self._forward("measure", name, run, model, examples)

    def _held_out(self, name: str) -> Job:
        trial = name.removesuffix(" held out")
        run, model, _ = self.parts(trial)
        return self._forward("measure", name, run, model, run.held_out)

    def _forward(self, rule: str, name: str, run: RunSpec, model: Model, examples: int) -> Job:
        tokens = self.known.tokens_of(run.suite)
        flops = float(2 * matrix_parameters(model) * examples * tokens.train)
        seconds = self._start(self._weights(run, model), 2)
        seconds += flops / self.rates.frozen(model, run.precision)
        notes = (f"one forward pass at the rate of {self.rates.basis(model)}",)
        return Job(rule, name, run.run, flops, seconds, 1e5, rests_on=notes)

    def _score(self, name: str) -> Job:
        return Job("score", name, name, disk=1e6, rests_on=("no GPU; a megabyte a run (assumed)",))

    def _tests(self, suite: SuiteSpec) -> dict[str, Count]:
        return test_sizes(suite, self.plan.catalog.dataset(suite.dataset), self.known)


def waits_for(run: RunSpec) -> list[str]:
    """Names of the runs that must be there before `run`: its trials, mask and full update."""
    adapters = [path for path in (run.mask_adapter, run.full_adapter) if path]
    return [*run.trials, *(Path(path).parent.name for path in adapters)]
