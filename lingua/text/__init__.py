"""Text ⇄ tokens ⇄ words, sentences and units, in every script."""
