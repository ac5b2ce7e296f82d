"""One thread for tiny models: their matrices are smaller than what a second thread costs."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
