"""Language models behind the engine's `Scorer`: the only place that knows torch and transformers."""
