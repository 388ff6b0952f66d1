"""TRL's DPO trainer on answers that are tokenized as the engines do, and the alarm on the chosen log-probability.

Read against TRL 1.16. `DPOTrainer` always tokenizes with the chat template; what an engine sees may differ, so
`_prepare_dataset` is left out. Its loss `sft` is the negative log-likelihood per token of the chosen answers
(`rpo_alpha` of older releases is gone). ORPO has moved to `trl.experimental`, builds the logits of the whole
vocabulary at every position, and learns the prompt as well; here its loss is taken of the log-probabilities that
`DPOTrainer` computes anyway (the tests compare it with TRL's).
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from datasets import Dataset
from torch.nn.functional import logsigmoid
from transformers import TrainerControl, TrainerState, TrainingArguments
from trl import DPOConfig, DPOTrainer

from curator.training.checkpoints import Checkpoints
from curator.training.preference_settings import DPOSettings
from curator.training.settings import TrainingProgress
from curator.training.trainer import CHOSEN, Sealed, Watch

log = logging.getLogger(__name__)

REFERENCE = "reference.json"
ALARMED = 1e6
"""Added to the score of a state that the alarm was raised at: it is the best only if all are."""
Batch = Mapping[str, torch.Tensor]


class Scored(Protocol):
    """What a model with TRL's fused head returns: `log_probs` (sequences, tokens - 1), zero outside the answers."""

    log_probs: torch.Tensor


class PreferenceTrainer(Sealed, DPOTrainer):  # type: ignore[misc]
    """Trains on columns `prompt_ids`, `chosen_ids`, `rejected_ids` by DPO or ORPO."""

    settings: DPOSettings
    train_dataset: Dataset
    eval_dataset: Dataset

    def measure(self, checkpoints: Checkpoints, stop: threading.Event) -> None:
        """Compute the reference's log-probabilities once, unless the checkpoints' folder has them already, and forget
        the reference. Raises: KeyboardInterrupt if `stop` is set meanwhile."""
        if self.settings.method == "dpo":
            path = checkpoints.folder / REFERENCE
            if not path.is_file():
                parts = {"train": self.train_dataset, "validation": self.eval_dataset}
                found = {name: self._reference(part, stop) for name, part in parts.items()}
                part = path.with_suffix(".part")
                part.write_text(json.dumps(found))
                part.replace(path)
            known = json.loads(path.read_text())
            self.train_dataset = _beside(self.train_dataset, known["train"])
            self.eval_dataset = _beside(self.eval_dataset, known["validation"])
            self.precompute_ref_logps = True
        if "ref" in self.model.peft_config:  # TRL's copy of the adapter to go on with
            self.model.delete_adapter("ref")

    def _reference(self, pairs: Dataset, stop: threading.Event) -> list[list[float]]:
        """[chosen, rejected] per pair: the summed log-probabilities of both answers before any training."""
        found: list[list[float]] = []
        size = self.settings.forward
        self.model.eval()
        for start in range(0, len(pairs), size):
            if stop.is_set():
                raise KeyboardInterrupt
            batch = self.data_collator([pairs[i] for i in range(start, min(start + size, len(pairs)))])
            batch = self._prepare_inputs(batch)
            both = self.compute_ref_log_probs(self.model, batch)
            found += torch.stack(both, dim=1).float().tolist()
            log.info("reference: %d of %d pairs", len(found), len(pairs))
        return found

    def _prepare_dataset(self, dataset: Dataset, *_: object) -> Dataset:
        """They are tokens already."""
        return dataset

    def _compute_loss(self, model: torch.nn.Module, inputs: Batch, return_outputs: bool) -> torch.Tensor:
        lengths = inputs["completion_mask"].sum(dim=1)

        def watched(**given: object) -> Scored:
            outputs: Scored = model(**given)
            self._note(outputs.log_probs.sum(dim=1).detach() / lengths)
            return outputs

        if self.settings.method == "orpo":
            return self._orpo(watched, inputs, lengths)
        loss: torch.Tensor = super()._compute_loss(watched, inputs, return_outputs)
        return loss

    def _orpo(self, model: Callable[..., Scored], inputs: Batch, lengths: torch.Tensor) -> torch.Tensor:
        """Equations 6 and 7 of arXiv 2403.07691, over the tokens of the answers."""
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        read = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            labels=labels,
            use_cache=False,
            fused_lm_head=True,
        )
        chosen, rejected = (read.log_probs.float().sum(dim=1) / lengths).chunk(2)
        return odds_ratio_loss(chosen, rejected, self.beta).mean()

    def _note(self, means: torch.Tensor) -> None:
        """Keep log-probabilities per token, of the chosen answers first, for the next line of the log."""
        chosen, rejected = means.chunk(2)
        noted = self._metrics["train" if self.model.training else "eval"]
        noted["logps_per_token/chosen"] += chosen.tolist()
        noted["logps_per_token/rejected"] += rejected.tolist()
        noted["pairs_in_order"] += (chosen > rejected).float().tolist()

    def evaluate(self, *args: object, **given: object) -> dict[str, float]:
        """With `eval_score`, by which the best state is chosen: the loss, and more where the alarm is raised."""
        found: dict[str, float] = super().evaluate(*args, **given)
        spoilt = self.settings.on_fall == "stop" and fall(self.state) > self.settings.most_fall
        return {**found, "eval_score": found["eval_loss"] + (ALARMED if spoilt else 0.0)}


def odds_ratio_loss(chosen: torch.Tensor, rejected: torch.Tensor, beta: float) -> torch.Tensor:
    """ORPO's loss per pair, of mean log-probabilities per token (below 0), shape (pairs,)."""
    # A model that is sure of every token has a log-probability of 0, and no odds.
    sides = [mean.clamp(max=-1e-6) for mean in (chosen, rejected)]
    odds = torch.sub(*(mean - torch.log(-torch.expm1(mean)) for mean in sides))
    return -chosen - beta * logsigmoid(odds)


def fall(state: TrainerState) -> float:
    """How far the held-out chosen answers' log-probability per token lies below its start, in nats."""
    seen = [entry[CHOSEN] for entry in state.log_history if CHOSEN in entry]
    return float(seen[0] - seen[-1]) if seen else 0.0


class Guard(Watch):
    """Raises the alarm, and ends the training if the settings say so."""

    def __init__(
        self, settings: DPOSettings, stop: threading.Event, report: Callable[[TrainingProgress], None] | None
    ) -> None:
        super().__init__(settings, stop, report)
        self._limits = settings
        self.stopped_by_alarm = False

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        super().on_evaluate(args, state, control)
        fallen, most = fall(state), self._limits.most_fall
        if fallen <= most:
            return
        stops = self._limits.on_fall == "stop"
        log.warning(
            "step %d: the log-probability of the chosen answers has fallen by %.3f nats per token (the limit is %g)%s:"
            " lower the learning rate, or raise nll_weight",
            *(state.global_step, fallen, most, "; stopping" if stops else ""),
        )
        if stops:
            control.should_training_stop = self.stopped_by_alarm = True


def configure_preferences(given: Mapping[str, object], settings: DPOSettings) -> DPOConfig:
    """TRL's settings: those that all trainings share, and the losses."""
    losses = {"sigmoid": 1.0} | ({"sft": settings.nll_weight} if settings.nll_weight else {})
    return DPOConfig(
        **{**given, "metric_for_best_model": "eval_score"},
        max_length=None,
        beta=settings.beta,
        loss_type=list(losses),
        loss_weights=list(losses.values()),
    )


def _beside(pairs: Dataset, known: list[list[float]]) -> Dataset:
    """The pairs with the reference's log-probabilities."""
    chosen, rejected = zip(*known, strict=True)
    return pairs.add_column("ref_chosen_logps", list(chosen)).add_column("ref_rejected_logps", list(rejected))
