"""A tensor's suffix is a promise about its shape."""

from __future__ import annotations

import pytest
import torch
from torch import zeros

from accord.axes import check_axes


def test_agreeing_shapes_pass():
    check_axes(score_B=zeros(2), mask_BT=zeros(2, 3, dtype=torch.bool), value_BT=zeros(2, 3), none_T=None)


def test_a_column_against_a_row_is_refused():
    # (3, 1) − (3,) would broadcast to (3, 3)
    with pytest.raises(ValueError, match=r"chosen_N needs 1 axes \(N\), got shape \(3, 1\)"):
        check_axes(chosen_N=zeros(3, 1), rejected_N=zeros(3))


def test_one_letter_has_one_size():
    with pytest.raises(ValueError, match=r"mask_BT has B = 1 \(shape \(1, 3\)\), but score_B has B = 2"):
        check_axes(score_B=zeros(2), mask_BT=zeros(1, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(dtype):
    with pytest.raises(ValueError, match=r"convert with \.float\(\)"):
        check_axes(logp_BT=zeros(1, 1, dtype=dtype))
