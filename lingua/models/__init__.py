"""Language models behind the engine's `Scorer`: the only place that knows torch and transformers.

Its threads wait for each other asleep unless the environment says otherwise: by default OpenMP spins, which on a
machine with more running threads than cores (several workers, another job) makes every layer many times slower.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch is first imported
