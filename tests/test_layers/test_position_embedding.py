"""Position embeddings fit any grid, and checkpoints of another one."""

import pytest
import torch
import torch.nn.functional as F

from mmvitlin.layers.position_embedding import PositionEmbedding


def test_the_learned_grid_gets_the_learned_vectors():
    positions = PositionEmbedding(4, (2, 3), num_prefix_tokens=1)
    assert positions((2, 3)) is positions.weight
    assert positions.weight.shape == (1, 7, 4)
    assert 0 < positions.weight.std() < 0.03


@pytest.mark.parametrize('prefix', [0, 1, 2])
def test_another_grid_gets_them_resized_and_the_prefix_as_it_is(prefix):
    positions = PositionEmbedding(4, (2, 3), prefix).double()
    resized = positions((5, 4))
    assert resized.shape == (1, prefix + 20, 4)
    assert torch.equal(resized[:, :prefix], positions.weight[:, :prefix])
    maps = positions.weight[0, prefix:].T.view(1, 4, 2, 3)
    expected = F.interpolate(maps, size=(5, 4), mode='bicubic', align_corners=False)
    torch.testing.assert_close(resized[0, prefix:].T.view(1, 4, 5, 4), expected)


def test_rows_and_columns_are_not_exchanged():
    positions = PositionEmbedding(1, (3, 2), num_prefix_tokens=0)
    with torch.no_grad():
        positions.weight.copy_(torch.tensor([0.0, 0, 1, 1, 2, 2]).view(1, 6, 1))
    resized = positions((6, 2)).view(6, 2)
    assert torch.equal(resized[:, 0], resized[:, 1])
    assert resized[:, 0].diff().min() > 0


def test_half_precision_is_resized_in_float32():
    positions = PositionEmbedding(4, (2, 3)).half()
    assert positions((5, 4)).dtype == torch.float16


def test_a_checkpoint_of_another_square_is_resized_while_it_is_loaded():
    small, large = PositionEmbedding(4, (2, 2)), PositionEmbedding(4, (3, 5))
    weights = small.state_dict()
    kept = weights['weight'].clone()
    large.load_state_dict(weights, strict=True)
    torch.testing.assert_close(large.weight, small((3, 5)))
    assert torch.equal(weights['weight'], kept), "the caller's weights were changed"


def test_a_checkpoint_of_no_square_is_refused_with_what_to_do():
    other = PositionEmbedding(4, (2, 3)).state_dict()
    with pytest.raises(ValueError, match=r'7 positions, 6 of them of patches.*img_size'):
        PositionEmbedding(4, (3, 3)).load_state_dict(other)
    without_class_token = PositionEmbedding(4, (2, 2), num_prefix_tokens=0).state_dict()
    with pytest.raises(ValueError, match=r'4 positions, 3 of them of patches.*class token'):
        PositionEmbedding(4, (3, 3)).load_state_dict(without_class_token)
