"""The model in a few lines."""

from __future__ import annotations

from typing import ClassVar

from scvi.model.base import BaseModelClass

from sccountsdiff.conditioning import condition_encoders


class SummaryMixin(BaseModelClass):
    """A representation that tells what the model is and what to do next."""

    #: Arguments of the constructor that say how the model is trained.
    _named_choices: ClassVar[tuple[str, ...]] = ("pattern", "weighting")

    def __repr__(self) -> str:
        """Data, network, conditions and state of training."""
        parameters = sum(p.numel() for p in self.module.parameters())
        settings = self.init_params_["non_kwargs"]
        lines = [
            f"{type(self).__name__}: {self.summary_stats.n_cells:,} cells x {self._features()}",
            f"  denoiser    {settings['denoiser']}, head {settings['head']}, {parameters:,} parameters "
            f"on {self.module.device}",
            f"  training    {', '.join(f'{name} {settings[name]}' for name in self._named_choices)}",
            f"  conditions  {self._conditions() or 'none'}",
            f"  state       {self._state()}",
        ]
        return "\n".join(lines)

    def _conditions(self) -> str:
        """Each key with its number of categories, and how far it is trusted if not all the way."""
        encoders = condition_encoders(self.module.denoiser)
        trust = {key.name: float(t) for e in encoders for key, t in zip(e.keys, e.trust, strict=True)}
        described = []
        for source in self._sources:
            more = [str(len(source.categories))] if len(source.categories) else []
            if trust.get(source.name, 1.0) < 1:
                more.append(f"trust {trust[source.name]:.1f}")
            described.append(f"{source.name} ({', '.join(more)})" if more else source.name)
        return ", ".join(described)

    def _features(self) -> str:
        modalities = self._modalities
        if modalities is None:
            return f"{self.summary_stats.n_vars:,} genes"
        each = ", ".join(f"{n:,} {name}" for name, n in zip(modalities.names, modalities.n_features, strict=True))
        return f"{self.summary_stats.n_vars:,} features ({each})"

    def _state(self) -> str:
        if not self.is_trained_:
            return "not trained; next: model.train()"
        history = self.history_ or {}
        if "elbo_validation" not in history:
            return "trained"
        bounds = history["elbo_validation"]["elbo_validation"].astype(float)
        return f"trained for {int(bounds.index[-1]) + 1} epochs, held-out bound {bounds.min():.1f} nats per cell"
