from __future__ import annotations

import numpy as np
import torch

from lingua.models.packed import upload


def test_arrays_arrive_in_their_shapes_as_views_of_one_buffer() -> None:
    arrays = [np.arange(3), np.zeros(0, np.int64), np.arange(6).reshape(2, 3)]
    found = upload(torch.device("cpu"), arrays)
    assert [one.tolist() for one in found] == [one.tolist() for one in arrays]
    assert len({one.untyped_storage().data_ptr() for one in found}) == 1
    assert all(one.dtype == torch.int64 for one in found)
